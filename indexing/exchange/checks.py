"""Hard looks at vectors that others made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float16, Float32, Float64

from simat.vectors import to_half, unit_rows

UNIT = 5e-3  # how far the length of a unit row may be from 1: half precision is that far off after its own division


@dataclass(frozen=True)
class Checked:
    """Rows of a source, looked at.

    Attributes:
        vectors: the good ones as they are stored; a row that is a unit row already keeps its very numbers.
        good: which they are.
        reasons: why the others are not, by row.
        other_length: the first row whose length is not 1, where they are not to be normalised.
        length: of that row.
    """

    vectors: Float16[np.ndarray, "good d"]
    good: Bool[np.ndarray, " n"]
    reasons: dict[int, str]
    other_length: int | None = None
    length: float = 1.0


def checked(rows: Float[np.ndarray, "n d"], normalise: bool) -> Checked:
    """Look at every number: finite, not all zero, of length 1.

    Args:
        rows: of a source, of any precision.
        normalise: divide rows of another length by it.
    """
    with np.errstate(over="ignore"):  # what overflows is found by its length
        single = rows.astype(np.float32)
    lengths = _lengths(rows, single)
    good = np.isfinite(lengths) & (lengths > 0)
    reasons = {
        int(row): "the vector is zero" if lengths[row] == 0 else "the vector is not finite"
        for row in np.flatnonzero(~good)
    }
    other = good & ~(np.abs(lengths - 1) <= UNIT)
    first = int(np.flatnonzero(other)[0]) if other.any() else None
    if first is not None and not normalise:
        return Checked(np.empty((0, rows.shape[1]), np.float16), good & False, reasons, first, float(lengths[first]))
    with np.errstate(over="ignore"):
        kept = rows if rows.dtype == np.float16 else to_half(single)  # halves keep their very numbers
    if other.any():
        kept = kept.copy()
        kept[other] = to_half(unit_rows(rows[other]))
    return Checked(kept if good.all() else kept[good], good, reasons)


def _lengths(rows: Float[np.ndarray, "n d"], single: Float32[np.ndarray, "n d"]) -> Float64[np.ndarray, " n"]:
    """Lengths of rows; those that single precision cannot tell are told by double."""
    with np.errstate(over="ignore", invalid="ignore"):
        lengths: Float64[np.ndarray, " n"] = np.sqrt(np.einsum("nd,nd->n", single, single)).astype(np.float64)
        unsure = ~np.isfinite(lengths) | (lengths == 0)
        lengths[unsure] = np.linalg.norm(rows[unsure].astype(np.float64), axis=1)
    return lengths
