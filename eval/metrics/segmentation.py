"""Mean intersection over union by a confusion matrix; unlabelled pixels count nowhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from data.coco_stuff import UNLABELLED
from simat.errors import ImageError

Labels = Int64[np.ndarray, "h w"]
Confusion = Int64[np.ndarray, "c guesses"]
"""True classes by predicted ones; the last column holds all predictions that are no class."""


def confusion(
    truth: Labels, predicted: Int64[np.ndarray, "rows columns"], classes: int, unlabelled: int = UNLABELLED
) -> Confusion:
    """How many pixels of true class i were predicted as class j.

    Args:
        truth: class of every pixel; ``unlabelled`` ones are left out.
        predicted: class of every pixel; one outside [0, ``classes``) is a miss of the true class and no other's.
        classes: how many there are.

    Raises:
        ImageError: two sizes, or a true class that there is not.
    """
    if truth.shape != predicted.shape:
        raise ImageError("two maps of different sizes", got=f"{truth.shape} and {predicted.shape}")
    kept = truth != unlabelled
    true, guess = truth[kept], predicted[kept]
    if true.size and not 0 <= true.min() <= true.max() < classes:
        raise ImageError(f"a true class that is not one of {classes}", got=sorted(set(true.tolist()))[:5])
    guess = np.where((guess >= 0) & (guess < classes), guess, classes)
    counts = np.bincount(true * (classes + 1) + guess, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1).astype(np.int64)


def class_ious(matrix: Confusion) -> dict[int, float]:
    """IoU of every class that a true pixel has, from a (summed) confusion matrix with one column for all else."""
    classes = len(matrix)
    hits = np.diagonal(matrix[:, :classes])
    true, guessed = matrix.sum(1), matrix[:, :classes].sum(0)
    return {int(c): float(hits[c] / (true[c] + guessed[c] - hits[c])) for c in np.flatnonzero(true)}


def mean_iou(matrices: Sequence[Confusion]) -> float:
    """The mean over the classes that occur, on the sum of the matrices of all pictures; NaN where none occurs."""
    if not matrices:
        return float("nan")
    ious = class_ious(np.sum(np.stack(matrices), 0))
    return float(np.mean([*ious.values()])) if ious else float("nan")
