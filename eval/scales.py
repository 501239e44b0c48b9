"""The scaling factor λ: a curve of scores over it, and the choice that is made on dev (thesis, Figure 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from eval.simat_score import Judge, Score, Steps, Task, nearest_along, score
from simat.errors import QueryError

SCALES = (0.5, 1.0, 1.5, 2.0, 3.0)
NATURAL = 1.0
"""The λ that exact arithmetic of meanings would have."""


@dataclass(frozen=True)
class Curve:
    """Scores over λ.

    Attributes:
        scales: rising.
        scores: at each of them.
    """

    scales: tuple[float, ...]
    scores: tuple[Score, ...]

    @property
    def values(self) -> list[float]:
        """The totals."""
        return [score.total for score in self.scores]

    @property
    def best(self) -> float:
        """The λ of the highest score; of several the one nearest to 1."""
        top = max(self.values)
        return min((s for s, v in zip(self.scales, self.values, strict=True) if v == top), key=_far)

    def at(self, scale: float) -> Score:
        """The score at one of the scales."""
        return self.scores[self.scales.index(scale)]


def check_scales(scales: Sequence[float]) -> tuple[float, ...]:
    """The values of λ, rising, once each.

    Raises:
        QueryError: none, or one that is no finite number.
    """
    if not scales or not np.isfinite(scales).all():
        raise QueryError("the scales must be finite numbers", got=", ".join(map(str, scales)) or "none")
    return tuple(sorted({float(scale) for scale in scales}))


def scale_curve(
    images: Float32[np.ndarray, "r d"],
    steps: Steps,
    task: Task,
    judge: Judge,
    scales: Sequence[float] = SCALES,
    k: int = 1,
    rng: np.random.Generator | None = None,
) -> Curve:
    """The score of delta vectors at several λ; arguments as :func:`eval.simat_score.nearest_along`."""
    rising = check_scales(scales)
    found = nearest_along(images, steps, task.sources, rising, k, rng)
    return Curve(rising, tuple(score(one, task, judge) for one in found))


def _far(scale: float) -> float:
    return abs(scale - NATURAL)
