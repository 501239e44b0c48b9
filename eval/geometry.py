"""Measures of an embedding space: how its vectors are spread, and whether the same edit is the same direction.

All are computed in float64 from rows of any finite length; "unit" rows are normalised here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from simat.errors import QueryError

Rows = Float[np.ndarray, "n d"]
BLOCK = 2048  # rows whose distances to all others are held at once
TRIMMED = 0.1  # share of the largest ratios that the fit of the dimension leaves out, as its authors do


def unit(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length 1 in float64.

    Raises:
        QueryError: a row without a direction.
    """
    wide = rows.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise QueryError("a vector has no direction", got=f"row {int(np.flatnonzero(~(norms[:, 0] > 0))[:1].sum())}")
    found: Float[np.ndarray, "n d"] = wide / norms
    return found


def anisotropy(rows: Float[np.ndarray, "n d"]) -> float:
    """The mean cosine over all pairs of different rows (Ethayarajh 2019): 0 for directions spread evenly.

    Raises:
        QueryError: fewer than two rows.
    """
    count = len(rows)
    if count < 2:
        raise QueryError("anisotropy needs two vectors", got=count)
    total = unit(rows).sum(0)
    return float((total @ total - count) / (count * (count - 1)))


def mean_length(rows: Float[np.ndarray, "n d"]) -> float:
    """The length of the mean of the unit rows: 1 where all point the same way."""
    return float(np.linalg.norm(unit(rows).mean(0)))


def modality_gap(images: Float[np.ndarray, "n d"], texts: Float[np.ndarray, "m d"]) -> float:
    """The distance between the means of the unit rows of both sides (Liang et al. 2022, arXiv 2203.02053)."""
    return float(np.linalg.norm(unit(images).mean(0) - unit(texts).mean(0)))


def mean_norm(deltas: Float[np.ndarray, "n d"], weights: Float[np.ndarray, " n"] | None = None) -> float:
    """The mean length of delta vectors, weighted where weights are given."""
    return float(np.average(np.linalg.norm(deltas.astype(np.float64), axis=1), weights=weights))


def cosine(first: Float[np.ndarray, " d"], second: Float[np.ndarray, " d"]) -> float:
    """The cosine between two vectors; 0 where one has no direction."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length else 0.0


def parallelism(deltas: Float[np.ndarray, "n d"]) -> float:
    """The mean cosine between the delta vectors of one relation: 1 where the relation is one direction.

    Raises:
        QueryError: fewer than two.
    """
    return anisotropy(deltas)


def parallelogram_error(deltas: Float[np.ndarray, "n d"]) -> float:
    """How far two pairs of a relation are from a parallelogram: the mean of ‖Δ1 − Δ2‖ / (‖Δ1‖ + ‖Δ2‖).

    0 where a:b as c:d holds exactly; about 0.71 for unrelated directions of one length; 1 for opposite ones.

    Raises:
        QueryError: fewer than two.
    """
    wide = deltas.astype(np.float64)
    first, second = np.triu_indices(len(wide), 1)
    if not len(first):
        raise QueryError("a parallelogram needs two pairs", got=len(wide))
    norms = np.linalg.norm(wide, axis=1)
    sides = norms[first] + norms[second]
    gaps = np.linalg.norm(wide[first] - wide[second], axis=1)
    return float(np.mean(gaps / np.where(sides > 0, sides, 1)))


def analogies(words: Float[np.ndarray, "n d"], pairs: Sequence[tuple[int, int]], exclude: bool) -> tuple[int, int]:
    """How many analogies a:b as c:? are answered by d (Mikolov et al. 2013), over all ordered pairs of a relation.

    Args:
        words: their vectors; answers are nearest by cosine to e(c) + e(b) − e(a) of unit vectors.
        pairs: rows (source, target) of one relation.
        exclude: leave a, b and c out of the answers, as is usual; with them, what is measured is harder and honest.

    Returns:
        Right answers, and questions.
    """
    rows = unit(words)
    quads = [(a, b, c, d) for a, b in pairs for c, d in pairs if (a, b) != (c, d)]
    right = 0
    for a, b, c, d in quads:
        scores = rows @ (rows[c] + rows[b] - rows[a])
        if exclude:
            scores[[w for w in (a, b, c) if w != d]] = -np.inf
        right += int(scores.argmax()) == d
    return right, len(quads)


def nearest(words: Float[np.ndarray, "n d"], start: int, delta: Float[np.ndarray, " d"]) -> tuple[int, float]:
    """The word nearest to e(start) + Δ, nothing left out, with its cosine."""
    rows = unit(words)
    point = rows[start] + delta.astype(np.float64)
    scores = rows @ point / np.linalg.norm(point)
    best = int(scores.argmax())
    return best, float(scores[best])


def neighbour(words: Float[np.ndarray, "n d"], word: int) -> tuple[int, float]:
    """The other word nearest to a word, with its cosine."""
    rows = unit(words)
    scores = rows @ rows[word]
    scores[word] = -np.inf
    best = int(scores.argmax())
    return best, float(scores[best])


def participation_ratio(rows: Float[np.ndarray, "n d"]) -> float:
    """(Σλ)² / Σλ² of the covariance's eigenvalues: how many directions share the variance.

    Raises:
        QueryError: rows that are all the same.
    """
    centred = rows.astype(np.float64) - rows.astype(np.float64).mean(0)
    values = np.linalg.svd(centred, compute_uv=False) ** 2
    if not values.sum() > 0:
        raise QueryError("the vectors are all the same: they have no dimension")
    return float(values.sum() ** 2 / (values**2).sum())


def two_nn(rows: Float[np.ndarray, "n d"]) -> float:
    """The intrinsic dimension from the two nearest neighbours of each row (TwoNN, Facco et al. 2017).

    The ratios μ = r2 / r1 follow a Pareto law of exponent d: −log(1 − F(μ)) = d·log μ is fitted through the origin.
    Copies of a row count once.

    Raises:
        QueryError: fewer than ten different rows.
    """
    points = np.unique(unit(rows), axis=0)
    if len(points) < 10:
        raise QueryError("the intrinsic dimension needs ten different vectors", got=len(points))
    ratios = np.sort(np.concatenate([_ratios(points, start) for start in range(0, len(points), BLOCK)]))
    kept = int(len(ratios) * (1 - TRIMMED))
    x = np.log(ratios[:kept])
    y = -np.log1p(-np.arange(1, kept + 1) / len(ratios))
    return float(x @ y / (x @ x))


def plane(rows: Float[np.ndarray, "n d"], fitted: int | None = None) -> Float[np.ndarray, "n 2"]:
    """The unit rows on two principal axes, each turned so that its largest coordinate is positive.

    Args:
        rows: at least two different ones.
        fitted: the axes are those of the first so many rows; None for all.
    """
    units = unit(rows)
    mean = units[:fitted].mean(0)
    axes = np.linalg.svd(units[:fitted] - mean, full_matrices=False)[2][:2]
    points = (units - mean) @ axes.T
    signs = np.sign(points[np.abs(points).argmax(0), range(points.shape[1])])
    flat: Float[np.ndarray, "n 2"] = points * np.where(signs == 0, 1, signs)
    return flat


def distinct_pairs(count: int, most: int, rng: np.random.Generator) -> Int[np.ndarray, "m 2"]:
    """At most ``most`` pairs of different rows: all of them where they are few, else drawn."""
    if count * (count - 1) // 2 <= most:
        return np.stack(np.triu_indices(count, 1), axis=1)
    first = rng.integers(count, size=most)
    return np.stack([first, (first + rng.integers(1, count, size=most)) % count], axis=1)


def _ratios(points: Float[np.ndarray, "n d"], start: int) -> Float[np.ndarray, " b"]:
    block = points[start : start + BLOCK]
    squares = np.maximum(2 - 2 * block @ points.T, 0)
    squares[np.arange(len(block)), start + np.arange(len(block))] = np.inf
    near = np.sqrt(np.maximum(np.partition(squares, 1, axis=1)[:, :2], 1e-15))
    found: Float[np.ndarray, " b"] = np.maximum(near[:, 1] / near[:, 0], 1 + 1e-12)
    return found
