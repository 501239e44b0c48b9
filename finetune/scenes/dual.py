"""Training of the dual encoder: pictures and prompts meet on one sphere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Float, Int64

from finetune.scenes.folder import Shape, write_folder
from finetune.scenes.stream import Batch, StreamOptions, TrainingError, stream
from finetune.scenes.trainer import Plan, Trained, Trainer
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor

NAME = "dual"


@dataclass(frozen=True)
class DualOptions:
    """How the encoder is trained.

    Attributes:
        batch: pictures per step.
        rate: the highest learning rate; it rises over ``warm_up`` steps and falls as a cosine to nothing.
        temperature: of the softmax; fixed, for good deltas at a scale of one (thesis, section 3.4).
        average: decay of the moving average of weights that is kept in the end.
        save_every: steps between checkpoints.
        threads: of the CPU, beside the process that draws; None for all.

    Raises:
        TrainingError: a number out of range.
    """

    seed: int = 0
    steps: int = 2400
    batch: int = 128
    rate: float = 2e-3
    warm_up: int = 60
    decay: float = 0.05
    temperature: float = 0.1
    average: float = 0.99
    save_every: int = 100
    threads: int | None = 1
    shape: Shape = field(default_factory=Shape)

    def __post_init__(self) -> None:
        if self.batch < 2:
            raise TrainingError("training takes a step and two pictures", got=f"{self.steps} × {self.batch}")
        _ = self.plan  # refuses its own

    @property
    def plan(self) -> Plan:
        """How the weights are moved."""
        return Plan(
            self.steps, self.batch, self.rate, self.seed, self.warm_up, self.decay, self.average, self.save_every
        )

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a training to go on, beside the plan."""
        return {"temperature": self.temperature, "shape": asdict(self.shape)}

    @classmethod
    def smoke(cls, seed: int = 0) -> DualOptions:
        """Seconds of training that end in a folder of the right layout and no more."""
        shape = Shape(dim=32, width=8, layers=(1, 1, 1, 1), text_width=32, text_layers=1)
        return cls(seed=seed, steps=6, batch=16, save_every=3, shape=shape)


def contrastive_loss(
    images: Float[Tensor, "n d"], texts: Float[Tensor, "n d"], true: Bool[Tensor, "n n"], temperature: float
) -> Float[Tensor, ""]:
    """InfoNCE in both directions (Radford et al. 2021), false negatives left out.

    −½·mean_i log softmax_j(⟨u_i, v_j⟩/τ)_i − ½·mean_j log softmax_i(⟨u_i, v_j⟩/τ)_j, where prompts that are true of a
    picture without being its own take no part in either softmax.

    Args:
        images, texts: unit rows.
        true: whether text j is true of image i.
    """
    import torch
    from torch.nn.functional import cross_entropy

    own = torch.eye(len(images), dtype=torch.bool, device=images.device)
    logits = (images @ texts.T / temperature).masked_fill(true & ~own, -math.inf)
    targets = torch.arange(len(images), device=images.device)
    return (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2


def encode_tokens(model: Any, tokens: Int64[Tensor, "n context"]) -> Float[Tensor, "n d"]:
    """``model.encode_text`` without the columns of padding alone; the tower is causal, so none is missed."""
    import torch

    length = int(tokens.argmax(1).max()) + 1
    embedded = model.token_embedding(tokens[:, :length]) + model.positional_embedding[:length]
    hidden = model.ln_final(model.transformer(embedded, attn_mask=model.attn_mask[:length, :length]))
    rows = torch.arange(len(tokens), device=tokens.device)
    projected: Tensor = hidden[rows, tokens.argmax(1)] @ model.text_projection
    return projected


def train_dual(out: Path, options: DualOptions, progress: Progress | None = None) -> Trained:
    """Train, from the last checkpoint where there is one, and write the folder of the averaged encoder.

    Args:
        out: gets ``dual`` (the encoder) and ``training`` (the checkpoint).

    Raises:
        TrainingError: a checkpoint of other options lies there.
    """
    checkpoint, shape = out / "training" / f"{NAME}.pt", options.shape
    with _threads(options.threads):
        trainer = Trainer(build_dual(options), options.plan, options.identity)
        trainer.resume(checkpoint)
        drawn = StreamOptions(options.seed, options.batch, shape.transform, shape.context)
        with stream(drawn, trainer.step, options.steps) as batches:
            trainer.run(batches, Objective(trainer, options), checkpoint, progress or Silent())
    write_folder(out / NAME, shape, trainer.averaged())
    return trainer.trained(out / NAME)


def build_dual(options: DualOptions) -> Any:
    """An open_clip model with fresh weights, whose temperature stays."""
    import torch
    from open_clip import CLIP

    with torch.random.fork_rng():
        torch.manual_seed(options.seed)
        model: Any = CLIP(**options.shape.model, init_logit_scale=math.log(1 / options.temperature))
    model.logit_scale.requires_grad_(False)
    model.visual.to(memory_format=torch.channels_last)  # twice as fast on CPUs
    return model


class Objective:
    """The loss of a batch of pictures and prompts."""

    def __init__(self, trainer: Trainer, options: DualOptions) -> None:
        self._trainer, self._options = trainer, options

    def __call__(self, batch: Batch) -> Tensor:
        """InfoNCE of the batch; its pictures and prompts are encoded in bfloat16."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel

        model: Any = self._trainer.model
        transform, device = self._options.shape.transform, self._trainer.device
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (transform.mean, transform.std))
        pixels = (torch.from_numpy(batch.pixels).permute(0, 3, 1, 2).float() / 255 - mean) / std
        pixels = pixels.contiguous(memory_format=torch.channels_last).to(device)
        # On CPUs, the plain attention goes back twice as fast as the fused one.
        with sdpa_kernel(SDPBackend.MATH), torch.autocast(device, torch.bfloat16):
            images = model.encode_image(pixels)
            texts = encode_tokens(model, torch.from_numpy(batch.tokens).to(device))
        unit = torch.nn.functional.normalize
        rows = (unit(images.float(), dim=-1), unit(texts.float(), dim=-1))
        return contrastive_loss(*rows, torch.from_numpy(batch.true).to(device), self._options.temperature)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
