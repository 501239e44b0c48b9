"""Linear probes: does one direction, learned here, hold there?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

RIDGE = 1e-2  # of the mean eigenvalue


@dataclass(frozen=True)
class Shared:
    """How much of the delta vectors of one relation is a single direction.

    Attributes:
        cosine: mean cosine of each with the mean of the others.
        explained: share of their squared length that the mean of the others accounts for; below 0 where it misleads.
    """

    cosine: float
    explained: float


def shared_direction(deltas: Float[np.ndarray, "n d"]) -> Shared:
    """Predict every delta vector of a relation from the others: their mean, leaving it out.

    Args:
        deltas: at least two.
    """
    wide = deltas.astype(np.float64)
    others = (wide.sum(0) - wide) / (len(wide) - 1)
    lengths = np.linalg.norm(wide, axis=1) * np.linalg.norm(others, axis=1)
    cosines = np.einsum("nd,nd->n", wide, others) / np.where(lengths > 0, lengths, 1)
    left = ((wide - others) ** 2).sum()
    return Shared(float(cosines.mean()), float(1 - left / max((wide**2).sum(), np.finfo(np.float64).tiny)))


def direction(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"]
) -> tuple[Float[np.ndarray, " d"], float]:
    """The ridge-regularised Fisher discriminant from ``first`` to ``second``: a direction, and the threshold on it."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    within = np.concatenate([a - a.mean(0), b - b.mean(0)])
    scatter = within.T @ within
    ridge = RIDGE * np.trace(scatter) / len(scatter) + np.finfo(np.float64).eps
    axis = np.linalg.solve(scatter + ridge * np.eye(len(scatter)), b.mean(0) - a.mean(0))
    return axis, float(axis @ (a.mean(0) + b.mean(0)) / 2)


def transfer(
    axis: Float[np.ndarray, " d"],
    first: Float[np.ndarray, "n d"],
    second: Float[np.ndarray, "m d"],
    threshold: float | None = None,
) -> float:
    """Balanced accuracy of a direction at telling ``second`` from ``first``.

    Args:
        axis: the direction.
        first: rows that should lie below the threshold.
        second: rows that should lie above it.
        threshold: None puts it midway between their means: only the direction is asked, as from texts to images,
            which lie apart.
    """
    a, b = first.astype(np.float64) @ axis, second.astype(np.float64) @ axis
    edge = (a.mean() + b.mean()) / 2 if threshold is None else threshold
    return float(((a < edge).mean() + (b > edge).mean()) / 2)


def held_out(
    first: Float[np.ndarray, "n d"], second: Float[np.ndarray, "m d"], halves: Sequence[Bool[np.ndarray, " _"]]
) -> float:
    """Balanced accuracy on one half of a direction that was learned on the other, both ways.

    Args:
        first, second: rows of the two classes.
        halves: which rows of each class are in the first half; both halves of both must have some.
    """
    of_a, of_b = halves
    scores = []
    for one, two in ((of_a, of_b), (~of_a, ~of_b)):
        axis, threshold = direction(first[one], second[two])
        scores.append(transfer(axis, first[~one], second[~two], threshold))
    return float(np.mean(scores))
