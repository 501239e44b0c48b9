"""Near duplicates among the answers of one query."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from simat.vectors import unit_rows

BLOCK = 256  # rows compared at once: bounds the memory, whatever the number of answers


def firsts(vectors: Float32[np.ndarray, "n d"], threshold: float) -> Int64[np.ndarray, " m"]:
    """The first of every group of near duplicates.

    Two rows are near duplicates if their cosine is above the threshold; a group is what such pairs connect, through
    however many rows between them.

    Args:
        vectors: best first.
        threshold: a cosine.

    Returns:
        Places in ``vectors``, ascending.
    """
    group = np.arange(len(vectors))
    if not len(vectors):
        return group
    unit = unit_rows(vectors, "stored vector")
    for start in range(0, len(unit), BLOCK):
        near = unit[start : start + BLOCK] @ unit[start:].T > threshold
        one, other = (places + start for places in np.nonzero(near))
        group = _joined(group, one, other)
    return np.flatnonzero(group == np.arange(len(group)))


def _joined(
    group: Int64[np.ndarray, " n"], one: Int64[np.ndarray, " m"], other: Int64[np.ndarray, " m"]
) -> Int64[np.ndarray, " n"]:
    """Groups, each named by its smallest member, after the pairs (one, other) are joined."""
    while (apart := group[one] != group[other]).any():
        one, other = one[apart], other[apart]
        a, b = group[one], group[other]
        np.minimum.at(group, np.maximum(a, b), np.minimum(a, b))
        while (further := group[group]).tolist() != group.tolist():
            group = further
    return group
