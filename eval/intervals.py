"""Bootstrap intervals of a weighted accuracy: images are drawn again, with all the queries that start from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from eval.simat_score import Task

DRAWS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A score in [0, 1] and the ends of its interval."""

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """As tables show it: ``48.2 [46.9, 49.4]``."""
        return f"{100 * self.value:.1f} [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def estimate(success: Bool[np.ndarray, " q"], task: Task, rng: np.random.Generator, draws: int = DRAWS) -> Estimate:
    """S of eq. 3.1 with its percentile interval (Efron and Tibshirani 1993, chapter 13).

    Queries of one image are not independent: images are drawn with replacement, and the weights of what is drawn are
    normalised anew.

    Args:
        success: which queries succeeded, in the order of the task.
        task: its weights and images.
        rng: of the draws.
        draws: how many.
    """
    return estimates([success], task, rng, draws)[0]


def estimates(
    successes: Sequence[Bool[np.ndarray, " q"]], task: Task, rng: np.random.Generator, draws: int = DRAWS
) -> list[Estimate]:
    """:func:`estimate` of several outcomes of one task, such as a curve over λ, all from the same draw of images."""
    hits = np.stack([_per_image(success, task)[0] for success in successes], axis=1)
    weights = _per_image(successes[0], task)[1]
    low, high = np.quantile(_redrawn(hits, weights, rng, draws), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    values = hits.sum(0) / weights.sum()
    return [Estimate(*map(float, one)) for one in zip(values, low, high, strict=True)]


def difference(
    first: Bool[np.ndarray, " q"],
    second: Bool[np.ndarray, " q"],
    task: Task,
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> Estimate:
    """How much better ``first`` scores than ``second`` on the same queries, with the interval of the paired draw."""
    hits, weights = _per_image(first, task)
    others, _ = _per_image(second, task)
    scores = _redrawn((hits - others)[:, None], weights, rng, draws)
    low, high = np.quantile(scores, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float((hits - others).sum() / weights.sum()), float(low), float(high))


def _per_image(
    success: Bool[np.ndarray, " q"], task: Task
) -> tuple[Float[np.ndarray, " images"], Float[np.ndarray, " images"]]:
    """Weight of the successes and of all queries, per image."""
    images = task.sources if task.images is None else task.images
    _, of = np.unique(images, return_inverse=True)
    return np.bincount(of, task.weights * success), np.bincount(of, task.weights)


def _redrawn(
    hits: Float[np.ndarray, "images s"], weights: Float[np.ndarray, " images"], rng: np.random.Generator, draws: int
) -> Float[np.ndarray, "draws s"]:
    count = len(hits)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=draws).astype(np.float64)
    total: Float[np.ndarray, "draws s"] = drawn @ hits / np.maximum(drawn @ weights, np.finfo(np.float64).tiny)[:, None]
    return total
