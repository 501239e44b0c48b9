"""Training of the autoencoders: a continuous (KL) and a quantised (VQ) latent space of the scene world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float

from finetune.scenes.bank import Bank, BankOptions, open_bank
from finetune.scenes.trainer import Plan, Trained, Trainer, device
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

Kind = Literal["autoencoder", "vq"]
KL: Kind = "autoencoder"
VQ: Kind = "vq"
LATENTS = 4  # channels
KL_PLAN = Plan(steps=1300, batch=128, rate=2e-3, warm_up=100)
VQ_PLAN = replace(KL_PLAN, steps=2500)
REVIVE_EVERY = 50  # steps between two searches for codes that nobody uses
EDGES = 0.5  # weight of the differences between neighbours


@dataclass(frozen=True)
class AutoencoderOptions:
    """How an autoencoder is trained.

    Attributes:
        widths: channels per resolution; every one but the first halves the edge.
        codes: of the quantised space.
        kl: weight of the divergence from a normal distribution, per number of a latent.
        bank: the scenes.
    """

    kind: Kind = KL
    plan: Plan = KL_PLAN
    widths: tuple[int, ...] = (32, 64, 96)
    layers: int = 1
    codes: int = 4096
    kl: float = 3e-4
    bank: BankOptions = field(default_factory=BankOptions)

    @classmethod
    def of(cls, kind: Kind, seed: int) -> AutoencoderOptions:
        """As the shipped one was trained."""
        plan = KL_PLAN if kind == KL else VQ_PLAN
        return cls(kind, replace(plan, seed=seed), bank=BankOptions(seed))

    @classmethod
    def smoke(cls, kind: Kind, seed: int = 0) -> AutoencoderOptions:
        """Seconds of training that end in a folder of the right layout and no more."""
        plan = Plan(steps=4, batch=4, rate=1e-3, seed=seed, save_every=2)
        return cls(kind, plan, (16, 16, 16), codes=32, bank=BankOptions(seed, images=16, size=64))

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a training to go on, beside the plan."""
        return {"kind": self.kind, "widths": list(self.widths), "layers": self.layers, "codes": self.codes,
                "kl": self.kl}  # fmt: skip


def build_autoencoder(options: AutoencoderOptions) -> Any:
    """A ``diffusers`` model with fresh weights: ``AutoencoderKL`` or ``VQModel``."""
    import torch
    from diffusers import AutoencoderKL, VQModel

    depth = len(options.widths)
    shape: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * depth, "up_block_types": ("UpDecoderBlock2D",) * depth,
        "block_out_channels": options.widths, "layers_per_block": options.layers, "latent_channels": LATENTS,
        "norm_num_groups": 16, "sample_size": options.bank.size,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(options.plan.seed)
        if options.kind == VQ:
            return VQModel(**shape, num_vq_embeddings=options.codes, vq_embed_dim=LATENTS)
        return AutoencoderKL(**shape)


def train_autoencoder(out: Path, options: AutoencoderOptions, progress: Progress | None = None) -> Trained:
    """Train, from the last checkpoint where there is one, and write the folder of the averaged autoencoder.

    Args:
        out: gets a folder named after the kind, and ``training`` (bank and checkpoint).

    Raises:
        TrainingError: a checkpoint or a bank of other options lies there.
    """
    bars, checkpoint = progress or Silent(), out / "training" / f"{options.kind}.pt"
    bank = open_bank(out / "training" / "bank", options.bank, progress=bars)
    model = quick(build_autoencoder(options))
    trainer = Trainer(model, options.plan, options.identity)
    trainer.resume(checkpoint)
    objective = Vq(trainer) if options.kind == VQ else Kl(trainer, options.kl)
    trainer.run(pixel_batches(bank, trainer), objective, checkpoint, bars)
    model.load_state_dict(trainer.averaged())
    if options.kind == KL:
        model.register_to_config(scaling_factor=1 / _deviation(model.eval(), bank, trainer.device))
    model.half().save_pretrained(out / options.kind)
    return trainer.trained(out / options.kind)


def pixel_batches(bank: Bank, trainer: Trainer) -> Iterator[Float[Tensor, "n 3 size size"]]:
    """The pictures of every step that is left, in [−1, 1]."""
    for step in range(trainer.step, trainer.plan.steps):
        yield to_pixels(bank.pictures[bank.order(trainer.plan.seed, step, trainer.plan.batch)], trainer.device)


def to_pixels(pictures: Any, where: str) -> Float[Tensor, "n 3 size size"]:
    """Bytes to [−1, 1], channels first."""
    import torch

    pixels = torch.from_numpy(pictures).to(where).permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels if where == "cpu" else pixels.contiguous()  # the bytes' own order is the quick one on CPUs


def quick(model: Any) -> Any:
    """The model with its weights in the order that convolutions on a CPU like; half the time there, not on GPUs."""
    import torch

    return model.to(memory_format=torch.channels_last) if device() == "cpu" else model


def reconstruction(made: Float[Tensor, "n 3 h w"], pixels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, ""]:
    """Squared and absolute error of pixels, and absolute error of the differences between neighbours (crisp lines)."""
    error = made.float() - pixels
    edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.square().mean() + 0.5 * error.abs().mean() + EDGES * edges


class Kl:
    """The loss of a continuous space."""

    def __init__(self, trainer: Trainer, weight: float) -> None:
        self._trainer, self._weight = trainer, weight

    def __call__(self, pixels: Float[Tensor, "n 3 h w"]) -> Tensor:
        """The loss of a batch; the network computes in bfloat16."""
        import torch

        model: Any = self._trainer.model
        with torch.autocast(self._trainer.device, torch.bfloat16):
            posterior = model.encode(pixels).latent_dist
            made = model.decode(posterior.sample(self._generator())).sample
        divergence: Tensor = posterior.kl().mean() / posterior.mean[0].numel()
        return reconstruction(made, pixels) + self._weight * divergence

    def _generator(self) -> Any:
        import torch

        trainer = self._trainer
        return torch.Generator(trainer.device).manual_seed(trainer.plan.seed * 1_000_003 + trainer.step)


class Vq:
    """The loss of a quantised space; codes that nobody uses are moved on the way."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._used: Any = None

    def __call__(self, pixels: Float[Tensor, "n 3 h w"]) -> Tensor:
        """The loss of a batch; the network computes in bfloat16."""
        import torch

        model: Any = self._trainer.model
        with torch.autocast(self._trainer.device, torch.bfloat16):
            latents = model.encode(pixels).latents
        quantised, commitment, (_, _, indices) = model.quantize(latents.float())
        self._revive(latents.detach(), indices)
        with torch.autocast(self._trainer.device, torch.bfloat16):
            made = model.decode(quantised, force_not_quantize=True).sample
        loss: Tensor = reconstruction(made, pixels) + commitment
        return loss

    def _revive(self, latents: Tensor, indices: Tensor) -> None:
        """Move codes that nobody has used for a while to latents of this batch (Dhariwal et al. 2020, Jukebox)."""
        import torch

        codes: Any = self._trainer.model.quantize.embedding.weight  # type: ignore[union-attr]
        counts = torch.bincount(indices.flatten(), minlength=len(codes))
        self._used = counts if self._used is None else self._used + counts
        if self._trainer.step % REVIVE_EVERY or self._trainer.step > 0.6 * self._trainer.plan.steps:
            return
        rows = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1]).float()
        generator = torch.Generator().manual_seed(self._trainer.step)
        picked = torch.randint(len(rows), (len(codes),), generator=generator).to(rows.device)
        with torch.no_grad():
            codes.copy_(torch.where((self._used == 0)[:, None], rows[picked], codes))
        self._used = None


def _deviation(model: Module, bank: Bank, where: str) -> float:
    """Standard deviation of the latents, over some scenes."""
    import torch

    encoder: Any = model
    with torch.no_grad():
        pixels = to_pixels(bank.pictures[: min(len(bank), 256)], where)
        return float(encoder.encode(pixels).latent_dist.mode().std())
