"""Means and medians over pictures, with bootstrap intervals: pictures are drawn again with replacement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float, Int64

from eval.intervals import DRAWS, LEVEL, Estimate
from eval.metrics.segmentation import mean_iou

Values = Float[np.ndarray, " n"]


def mean_of(values: Values, seed: int = 0, draws: int = DRAWS) -> Estimate | None:
    """The mean with its percentile interval (Efron and Tibshirani 1993, chapter 13); NaN values count nowhere.

    Returns:
        None where no value counts.
    """
    return _estimate(values, lambda drawn: drawn.mean(-1), seed, draws)


def median_of(values: Values, seed: int = 0, draws: int = DRAWS) -> Estimate | None:
    """The median with its percentile interval; as :func:`mean_of`."""
    return _estimate(values, lambda drawn: np.median(drawn, -1), seed, draws)


def mean_iou_of(matrices: Sequence[Int64[np.ndarray, "c guesses"]], seed: int = 0, draws: int = 200) -> Estimate | None:
    """mIoU with its interval: the pictures are drawn again, with all of their pixels."""
    if not matrices or all(not matrix.sum() for matrix in matrices):
        return None
    rng = np.random.default_rng(seed)
    stacked = np.stack(matrices)
    rows = rng.multinomial(len(stacked), np.full(len(stacked), 1 / len(stacked)), size=draws)
    sums = np.tensordot(rows, stacked, 1)
    low, high = _ends(np.array([mean_iou([one]) for one in sums]))
    return Estimate(mean_iou(matrices), low, high)


def _estimate(values: Values, of: Callable[[np.ndarray], np.ndarray], seed: int, draws: int) -> Estimate | None:
    known = values[~np.isnan(values)]
    if not len(known):
        return None
    rng = np.random.default_rng(seed)
    drawn = known[rng.integers(len(known), size=(draws, len(known)))]
    low, high = _ends(of(drawn))
    return Estimate(float(of(known)), low, high)


def _ends(drawn: Values) -> tuple[float, float]:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
