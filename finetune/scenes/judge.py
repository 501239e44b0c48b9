"""Training of the judge: a segmenter and a classifier of scenes that only evaluation asks.

Its worlds are its own, its architectures are others, and nothing that makes or finds pictures reads it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float, Int64

from data.scenes.world import THINGS
from finetune.scenes.autoencoder import quick, to_pixels
from finetune.scenes.bank import FACTS, Bank, BankOptions, fact_names, open_bank
from finetune.scenes.trainer import Plan, Trained, Trainer
from simat.files import atomic
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    from torch import Tensor

Part = Literal["segmenter", "classifier"]
SEGMENTER: Part = "segmenter"
CLASSIFIER: Part = "classifier"
CLASSIFIER_PLAN = Plan(steps=2000, batch=64, rate=2e-3, average=0.995)
SEGMENTER_PLAN = Plan(steps=8000, batch=128, rate=1e-3, warm_up=500, average=0.998)
MEAN, DEVIATION = 0.5, 0.5
SOFTEST, NOISIEST = 0.5, 0.12  # of the pictures that it learns from: made ones are softer and noisier than drawn ones


@dataclass(frozen=True)
class JudgeOptions:
    """How one half of the judge is trained.

    Attributes:
        widths: channels per resolution.
        bank: its own scenes.
    """

    part: Part = SEGMENTER
    plan: Plan = field(default_factory=lambda: SEGMENTER_PLAN)
    widths: tuple[int, int, int, int] = (16, 32, 64, 96)
    layers: tuple[int, int, int, int] = (1, 1, 2, 1)
    bank: BankOptions = field(default_factory=lambda: BankOptions(images=40_000, judge=True))

    @classmethod
    def of(cls, part: Part, seed: int) -> JudgeOptions:
        """As the shipped one was trained."""
        plan = SEGMENTER_PLAN if part == SEGMENTER else CLASSIFIER_PLAN
        return cls(part, replace(plan, seed=seed), bank=BankOptions(seed, 40_000, judge=True))

    @classmethod
    def smoke(cls, part: Part, seed: int = 0) -> JudgeOptions:
        """Seconds of training that end in a folder of the right layout and no more."""
        plan = Plan(steps=4, batch=4, rate=1e-3, seed=seed, save_every=2)
        return cls(part, plan, (8, 16, 16, 16), (1, 1, 1, 1), BankOptions(seed, images=16, size=64, judge=True))

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same for a training to go on, beside the plan."""
        return {"part": self.part, "widths": list(self.widths), "layers": list(self.layers)}


def labels() -> dict[int, str]:
    """What the segmenter tells apart: the background, then the things of the world."""
    return dict(enumerate(("background", *THINGS)))


def facts() -> dict[int, str]:
    """What the classifier says: ``subject dog``, ``relation riding``, ``object bicycle``, ``place beach``, …"""
    names = zip(FACTS, fact_names(), strict=True)
    return dict(enumerate(f"{fact} {name}" for fact, values in names for name in values))


def build_judge(options: JudgeOptions) -> Any:
    """A ``transformers`` model with fresh weights: a Segformer or a residual network."""
    import torch
    from transformers import (
        ResNetConfig,
        ResNetForImageClassification,
        SegformerConfig,
        SegformerForSemanticSegmentation,
    )

    names = labels() if options.part == SEGMENTER else facts()
    known = {"id2label": names, "label2id": {name: number for number, name in names.items()}}
    with torch.random.fork_rng():
        torch.manual_seed(options.plan.seed + 1)
        if options.part == SEGMENTER:
            return SegformerForSemanticSegmentation(SegformerConfig(
                hidden_sizes=list(options.widths), depths=list(options.layers), decoder_hidden_size=options.widths[2],
                **known,
            ))  # fmt: skip
        return ResNetForImageClassification(ResNetConfig(
            embedding_size=2 * options.widths[0], hidden_sizes=[2 * width for width in options.widths],
            depths=[1] * len(options.layers), layer_type="basic", **known,
        ))  # fmt: skip


def train_judge(out: Path, options: JudgeOptions, progress: Progress | None = None) -> Trained:
    """Train one half, from the last checkpoint where there is one, and write its averaged folder.

    Args:
        out: gets ``judge/segmenter`` or ``judge/classifier``, and ``training`` (bank and checkpoint).

    Raises:
        TrainingError: a checkpoint or a bank of other options lies there.
    """
    bars, work, folder = progress or Silent(), out / "training", out / "judge" / options.part
    bank = open_bank(work / "judge", options.bank, progress=bars)
    model = quick(build_judge(options))
    trainer = Trainer(model, options.plan, options.identity)
    trainer.resume(work / f"{options.part}.pt")
    objective = _segmented if options.part == SEGMENTER else _classified
    trainer.run(batches(bank, trainer), lambda batch: objective(trainer, batch), work / f"{options.part}.pt", bars)
    model.load_state_dict(trainer.averaged())
    model.half().save_pretrained(folder)
    _write_processor(folder, options.bank.size)
    return trainer.trained(folder)


@dataclass(frozen=True)
class JudgeBatch:
    """Spoiled pictures and the truth about them."""

    pixels: Float[Tensor, "n 3 size size"]
    labels: Int64[Tensor, "n size size"]
    facts: Int64[Tensor, "n 4"]


def batches(bank: Bank, trainer: Trainer) -> Iterator[JudgeBatch]:
    """The batches of every step that is left; all chance comes from the seed and the step."""
    import torch

    plan, where = trainer.plan, trainer.device
    for step in range(trainer.step, plan.steps):
        picked = bank.order(plan.seed, step, plan.batch)
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + step)
        pixels = spoil(to_pixels(bank.pictures[picked], where), generator)
        truth = torch.from_numpy(bank.labels[picked]).to(where).long()
        yield JudgeBatch(pixels, truth, torch.from_numpy(bank.facts[picked]).to(where))


def spoil(pixels: Float[Tensor, "n 3 h w"], generator: Any) -> Float[Tensor, "n 3 h w"]:
    """Softer, noisier, lighter or darker pictures, each batch by its own measure."""
    import torch
    from torch.nn.functional import interpolate

    soft, noise, light, contrast = torch.rand(4, generator=generator).tolist()
    size = pixels.shape[-1]
    small = interpolate(pixels, size=round(size * (1 - (1 - SOFTEST) * soft)), mode="bilinear", antialias=True)
    shown = interpolate(small, size=size, mode="bilinear")
    grain = torch.randn((1, *pixels.shape[1:]), generator=generator).to(pixels.device)
    spoiled: Tensor = shown * (0.8 + 0.4 * contrast) + 0.2 * (light - 0.5) + NOISIEST * noise * grain
    return spoiled.clamp(-1, 1)


def _segmented(trainer: Trainer, batch: JudgeBatch) -> Tensor:
    import torch
    from torch.nn.functional import cross_entropy, interpolate

    model: Any = trainer.model
    with torch.autocast(trainer.device, torch.bfloat16):
        logits = model(batch.pixels).logits
    truth = batch.labels[:, ::2, ::2]  # a quarter of the pixels tell as much, in a quarter of the time
    loss: Tensor = cross_entropy(interpolate(logits.float(), size=truth.shape[-2:], mode="bilinear"), truth)
    return loss


def _classified(trainer: Trainer, batch: JudgeBatch) -> Tensor:
    import torch
    from torch.nn.functional import cross_entropy

    model: Any = trainer.model
    with torch.autocast(trainer.device, torch.bfloat16):
        logits = model(batch.pixels).logits
    groups = logits.float().split([len(values) for values in fact_names()], dim=1)
    losses = [cross_entropy(group, batch.facts[:, n], label_smoothing=0.05) for n, group in enumerate(groups)]
    loss: Tensor = torch.stack(losses).mean()
    return loss


def _write_processor(folder: Path, size: int) -> None:
    import json

    document = {
        "image_processor_type": "SegformerImageProcessor" if folder.name == SEGMENTER else "ViTImageProcessor",
        "do_resize": True, "size": {"height": size, "width": size},
        "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [MEAN] * 3, "image_std": [DEVIATION] * 3, "resample": 2,
    }  # fmt: skip
    with atomic(folder / "preprocessor_config.json") as temporary:
        temporary.write_text(json.dumps(document, indent=1) + "\n")
