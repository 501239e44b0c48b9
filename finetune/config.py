"""What a training of heads is asked for."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from simat.errors import SimatError

CHOICES = {
    "head": ("linear", "mlp"),
    "optimizer": ("adamw", "adam"),
    "schedule": ("cosine", "constant"),
    "precision": ("f32", "bf16"),
}


class TrainError(SimatError):
    """A training that cannot start or go on."""


@dataclass(frozen=True)
class TrainConfig:
    """The settings that decide what heads come out; the defaults are those of the thesis where it names any (3.3.3).

    Attributes:
        tau: τ of eq. 3.3, fixed.
        epochs: passes over the training images.
        batch: pairs per step; every pair is told from all others of its batch.
        lr: the highest learning rate.
        head: ``linear``, or ``mlp``: four layers after the image encoder, one after the text encoder.
        dim: length of a vector after the heads.
        hidden: width of the layers of an ``mlp``.
        optimizer: ``adamw`` or ``adam``.
        weight_decay: of AdamW; Adam has none.
        schedule: of the learning rate after the warm-up: ``cosine`` to zero, or ``constant``.
        warmup: share of all steps in which the rate rises to ``lr``.
        clip: largest norm of the gradient; 0 for any.
        precision: ``f32``, or ``bf16`` for the products of matrices.
        validation: the split on which recall is measured after every epoch.
        patience: stop after so many epochs without a better recall, and keep the best; None trains to the end.
        seed: of the first weights, the order and the captions drawn.

    Raises:
        TrainError: a value that no training can have.
    """

    tau: float
    epochs: int = 30
    batch: int = 4096
    lr: float = 1e-3
    head: str = "linear"
    dim: int = 512
    hidden: int = 2048
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: float = 0.05
    clip: float = 1.0
    precision: str = "f32"
    validation: str = "val"
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tau) and self.tau > 0):
            raise TrainError("τ must be a positive number", got=self.tau)
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise TrainError("the learning rate must be a positive number", got=self.lr)
        for name, least in (("epochs", 1), ("batch", 2), ("dim", 1), ("hidden", 1), ("patience", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise TrainError(f"{name} must be at least {least}", got=value)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise TrainError(f"no such {name}", got=repr(getattr(self, name)), remedy=f"use {' or '.join(allowed)}")
        if not 0 <= self.warmup < 1:
            raise TrainError("warmup must lie in [0, 1)", got=self.warmup)
        if not (self.clip >= 0 and self.weight_decay >= 0):
            raise TrainError("clip and weight_decay must not be negative", got=(self.clip, self.weight_decay))

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0, of ``steps`` in all."""
        rising = round(self.warmup * steps)
        if step < rising:
            return self.lr * (step + 1) / rising
        if self.schedule == "constant":
            return self.lr
        return self.lr * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)
