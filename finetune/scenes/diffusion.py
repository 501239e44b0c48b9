"""Training of the text-conditional latent diffusion model, written as a Stable-Diffusion-layout pipeline."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float16, Int64

from finetune.scenes.autoencoder import KL, LATENTS, to_pixels
from finetune.scenes.bank import CELL, CONTEXT, Bank, BankOptions, open_bank
from finetune.scenes.stream import TrainingError
from finetune.scenes.trainer import Plan, Trained, Trainer, device
from finetune.scenes.vocabulary import END, PAD, START, build_tokenizer, save_tokenizer, vocabulary
from simat.files import atomic, write_text
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor

NAME = "diffusion"
TIMES = 1000
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": TIMES, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
    "timestep_spacing": "leading",
}  # fmt: skip
PLAN = Plan(steps=10_500, batch=512, rate=1e-3, average=0.9995, warm_up=500)
BLOCK = 256  # pictures that are encoded together


@dataclass(frozen=True)
class DiffusionOptions:
    """How the diffusion model is trained.

    Attributes:
        widths: channels per resolution, from that of the latents on; each attends to the text.
        states: channels of a token.
        dropout: share of prompts replaced by the empty one.
        things: how much more a latent counts where a thing is visible.
        compiled: compile the network; pays for itself in minutes on a GPU.
        start: a pipeline folder whose weights, words and autoencoder the training begins with; None for fresh weights.
        bank: the scenes.
    """

    plan: Plan = PLAN
    widths: tuple[int, ...] = (64, 128, 192)
    layers: int = 1
    states: int = 160
    dropout: float = 0.1
    things: float = 2.0
    compiled: bool = False
    start: Path | None = None
    bank: BankOptions = field(default_factory=BankOptions)

    @classmethod
    def of(cls, seed: int) -> DiffusionOptions:
        """As long as the shipped one was trained, in one go; that one took two: 4,000 steps, and 6,500 more."""
        return cls(replace(PLAN, seed=seed), bank=BankOptions(seed))

    @classmethod
    def smoke(cls, seed: int = 0) -> DiffusionOptions:
        """Seconds of training that end in a folder of the right layout and no more."""
        plan = Plan(steps=4, batch=4, rate=1e-3, seed=seed, save_every=2)
        return cls(plan, (16, 32), states=32, bank=BankOptions(seed, images=16, size=64))

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a training to go on, beside the plan."""
        return {"widths": list(self.widths), "layers": self.layers, "states": self.states, "dropout": self.dropout,
                "things": self.things, "fresh": self.start is None}  # fmt: skip


@dataclass(frozen=True)
class LatentBatch:
    """One step's data.

    Attributes:
        latents: scaled to unit deviation.
        weights: of each latent in the loss; mean 1.
        tokens: of the prompts.
    """

    latents: Float[Tensor, "n c h w"]
    weights: Float[Tensor, "n 1 h w"]
    tokens: Int64[Tensor, "n context"]
    noise: Float[Tensor, "n c h w"]
    times: Int64[Tensor, " n"]


def build_denoiser(options: DiffusionOptions) -> Any:
    """``unet`` and ``text_encoder`` with fresh weights, in one module.

    The text encoder has no layers: a token's state is its embedding and its position, so that the attention to a word
    is attention to that word alone. At the finest resolution blocks attend to the text only: there the pictures'
    attention to themselves would cost more than everything else.
    """
    import torch
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    words, depth = vocabulary(), len(options.widths)
    with torch.random.fork_rng():
        torch.manual_seed(options.plan.seed)
        unet = UNet2DConditionModel(
            sample_size=options.bank.size // CELL, in_channels=LATENTS, out_channels=LATENTS,
            block_out_channels=options.widths, layers_per_block=options.layers, norm_num_groups=16,
            down_block_types=("CrossAttnDownBlock2D",) * depth, up_block_types=("CrossAttnUpBlock2D",) * depth,
            only_cross_attention=(True, *(False,) * (depth - 1)), cross_attention_dim=options.states,
            attention_head_dim=tuple(max(1, width // 32) for width in options.widths),
        )  # fmt: skip
        text_encoder = CLIPTextModel(CLIPTextConfig(
            vocab_size=len(words), hidden_size=options.states, intermediate_size=2 * options.states,
            num_hidden_layers=0, num_attention_heads=4, max_position_embeddings=CONTEXT, projection_dim=options.states,
            bos_token_id=words.index(START), eos_token_id=words.index(END), pad_token_id=words.index(PAD),
        ))  # fmt: skip
    return torch.nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})


def train_diffusion(out: Path, options: DiffusionOptions, progress: Progress | None = None) -> Trained:
    """Train, from the last checkpoint where there is one, and write the averaged model as a pipeline folder.

    Args:
        out: holds the autoencoder, unless the options name a start; gets ``diffusion``, and ``training`` (bank, latents
            and checkpoint).

    Raises:
        TrainingError: no autoencoder there, a start of another shape, or a checkpoint or a bank of other options.
    """
    bars, work = progress or Silent(), out / "training"
    bank = open_bank(work / "bank", options.bank, progress=bars)
    autoencoder = load_autoencoder(out / KL if options.start is None else options.start / "vae")
    latents = encode_bank(bank, autoencoder, work / "latents.npy", bars)
    model = build_denoiser(options)
    if options.start is not None:
        load_weights(model, options.start)
    trainer = Trainer(model, options.plan, options.identity)
    trainer.resume(work / f"{NAME}.pt")
    if options.compiled:
        model["unet"].compile()
    trainer.run(latent_batches(bank, latents, options, trainer), Objective(trainer), work / f"{NAME}.pt", bars)
    model.load_state_dict(trainer.averaged())
    write_pipeline(out / NAME, model, autoencoder)
    return trainer.trained(out / NAME)


def write_pipeline(folder: Path, model: Any, autoencoder: Any) -> None:
    """Write everything as ``StableDiffusionPipeline.from_pretrained`` reads it, in half precision."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline
    from transformers import PreTrainedTokenizerFast

    save_tokenizer(folder / "tokenizer", CONTEXT)
    pipeline = StableDiffusionPipeline(
        vae=autoencoder.half().cpu(), unet=model["unet"].half().cpu(), text_encoder=model["text_encoder"].half().cpu(),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"), scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    _tidy(folder)


def _tidy(folder: Path) -> None:
    """Name the tokenizer as old and new transformers read it, and forget where the autoencoder lay."""
    for path in (folder / "model_index.json", folder / "vae" / "config.json"):
        document = json.loads(path.read_text())
        document.pop("_name_or_path", None)
        if "tokenizer" in document:
            document["tokenizer"] = ["transformers", "PreTrainedTokenizerFast"]
        write_text(path, json.dumps(document, indent=2) + "\n")


def load_autoencoder(folder: Path) -> Any:
    """The trained autoencoder, frozen.

    Raises:
        TrainingError: there is none.
    """
    from diffusers import AutoencoderKL

    if not (folder / "config.json").exists():
        raise TrainingError("no autoencoder lies there", got=str(folder), remedy="train it first, or train 'all'")
    return AutoencoderKL.from_pretrained(folder).eval().requires_grad_(False).to(device())


def load_weights(model: Any, folder: Path) -> None:
    """Take the weights of a written pipeline.

    Raises:
        TrainingError: it is of another shape.
    """
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel

    parts = {"unet": UNet2DConditionModel, "text_encoder": CLIPTextModel}
    for name, kind in parts.items():
        try:
            model[name].load_state_dict(kind.from_pretrained(folder / name).state_dict())
        except RuntimeError as error:
            raise TrainingError(
                "the training cannot begin there: other widths",
                got=f"{folder / name}",
                remedy="train from fresh weights",
            ) from error


def encode_bank(bank: Bank, autoencoder: Any, path: Path, bars: Progress) -> Float16[np.ndarray, "n c h w"]:
    """The latents of every scene, scaled to unit deviation; read where they were written before."""
    import torch

    if path.exists():
        written: np.ndarray = np.load(path, mmap_mode="r")
        return written
    edge = bank.pictures.shape[1] // CELL if len(bank) else 0
    latents = np.empty((len(bank), LATENTS, edge, edge), np.float16)
    bars.start("encode", len(bank), "scenes")
    for first in range(0, len(bank), BLOCK):
        pixels = to_pixels(bank.pictures[first : first + BLOCK], device())
        with torch.no_grad(), torch.autocast(device(), torch.bfloat16):
            block = autoencoder.encode(pixels).latent_dist.mode() * autoencoder.config.scaling_factor
        latents[first : first + BLOCK] = block.half().cpu().numpy()
        bars.advance(len(block))
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.save(file, latents)
    return latents


def latent_batches(
    bank: Bank, latents: Float16[np.ndarray, "n c h w"], options: DiffusionOptions, trainer: Trainer
) -> Iterator[LatentBatch]:
    """The batches of every step that is left; all chance comes from the seed and the step."""
    import torch

    plan, where = options.plan, trainer.device
    kept = torch.from_numpy(np.asarray(latents)).to(where)  # a GPU holds them all
    tokens = torch.from_numpy(np.asarray(bank.tokens).astype(np.int64))
    empty = torch.tensor(build_tokenizer(CONTEXT).encode("").ids)
    for step in range(trainer.step, plan.steps):
        picked = torch.from_numpy(bank.order(plan.seed, step, plan.batch))
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
        prompts = tokens[picked, torch.randint(tokens.shape[1], (plan.batch,), generator=generator)]
        prompts[torch.rand(plan.batch, generator=generator) < options.dropout] = empty
        x = kept[picked.to(where)].float()
        weights = 1 + options.things * torch.from_numpy(bank.shares[picked.numpy()]).to(where).float()[:, None]
        noise = torch.randn(x.shape, generator=generator).to(where)
        times = torch.randint(TIMES, (plan.batch,), generator=generator).to(where)
        yield LatentBatch(x, weights / weights.mean(), prompts.to(where), noise, times)


class Objective:
    """The squared error of v (Salimans and Ho 2022), weighted: v = √ᾱ·ε − √(1−ᾱ)·x."""

    def __init__(self, trainer: Trainer) -> None:
        from diffusers import DDIMScheduler

        self._trainer = trainer
        self._alphas = DDIMScheduler(**SCHEDULE).alphas_cumprod.to(trainer.device)

    def __call__(self, batch: LatentBatch) -> Tensor:
        """The loss of a batch; the networks compute in bfloat16."""
        import torch

        model: Any = self._trainer.model
        signal = self._alphas[batch.times].sqrt()[:, None, None, None]
        sigma = (1 - self._alphas[batch.times]).sqrt()[:, None, None, None]
        noised = signal * batch.latents + sigma * batch.noise
        target = signal * batch.noise - sigma * batch.latents
        with torch.autocast(self._trainer.device, torch.bfloat16):
            states = model["text_encoder"](batch.tokens).last_hidden_state
            made = model["unet"](noised, batch.times, states).sample
        loss: Tensor = ((made.float() - target).square() * batch.weights).mean()
        return loss
