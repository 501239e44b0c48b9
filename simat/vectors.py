"""Rows of unit vectors: normalising, halving, merging ranked lists."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float16, Float32, Int64

from simat.errors import QueryError
from simat.types import Hits


def unit_rows(rows: Float[np.ndarray, "n d"], what: str = "vector") -> Float32[np.ndarray, "n d"]:
    """Divide every row by its length.

    Args:
        rows: any finite, non-zero rows.
        what: how the error names a row.

    Raises:
        QueryError: a row has NaN or infinity, or length zero.
    """
    norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    bad = ~np.isfinite(norms[:, 0]) | (norms[:, 0] == 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise QueryError(f"{what} {row} has no direction", got=f"length {norms[row, 0]}")
    unit: Float32[np.ndarray, "n d"] = (rows / norms).astype(np.float32)
    return unit


def to_half(rows: Float32[np.ndarray, "n d"]) -> Float16[np.ndarray, "n d"]:
    """The float16 form in which unit rows are stored: no inner product moves by more than 1e-3."""
    return rows.astype(np.float16)


def merge_hits(ids: Int64[np.ndarray, "q m"], scores: Float32[np.ndarray, "q m"], k: int) -> Hits:
    """The k best of m candidates per query, ties by smaller id, so that shard order does not matter.

    Args:
        ids: candidates, −1 where a list was shorter.
        scores: their inner products, −inf where a list was shorter.
        k: how many to keep; padded when m < k.
    """
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    best = Hits(np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1))
    missing = k - order.shape[1]
    if missing <= 0:
        return best
    pad = ((0, 0), (0, missing))
    return Hits(
        np.pad(best.ids, pad, constant_values=-1),
        np.pad(best.scores, pad, constant_values=-np.inf),
    )
