"""How well one set of vectors finds another: recall over pairs, the measure of text -> image retrieval."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from simat.errors import QueryError

TIE = 1e-6  # scores this close cannot be told apart in float32
BLOCK = 512  # queries scored at once


def recall_at_k(queries: Float32[np.ndarray, "n d"], images: Float32[np.ndarray, "m d"], k: int) -> float:
    """The share of queries whose own image is among the k nearest (R@k of Hodosh et al. 2013).

    Args:
        queries: unit rows; row i asks for row i of ``images``.
        images: unit rows, as many as queries.
        k: how many answers are looked at.

    Returns:
        R@k in [0, 1]; vectors that say nothing get 0, not chance, see :func:`pair_ranks`.

    Raises:
        QueryError: k < 1, no queries, or not one image per query.
    """
    if k < 1:
        raise QueryError("k must be at least 1", got=k)
    return float(np.mean(pair_ranks(queries, images) < k))


def pair_ranks(queries: Float32[np.ndarray, "n d"], images: Float32[np.ndarray, "m d"]) -> Int64[np.ndarray, " n"]:
    """How many images stand before the paired one, per query; 0 is a hit at the first place.

    An image whose inner product equals that of the paired one stands before it, and so does one whose product is
    not a number: a tie never counts as found.

    Args:
        queries: unit rows; row i asks for row i of ``images``.
        images: unit rows, as many as queries.

    Raises:
        QueryError: no queries, or not one image per query.
    """
    if not len(queries) or len(queries) != len(images):
        raise QueryError("retrieval needs one image per query", got=f"{len(queries)} queries, {len(images)} images")
    # float64: identical images get identical scores wherever they stand in the matrix.
    wide, ranks = images.astype(np.float64), np.empty(len(queries), np.int64)
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK].astype(np.float64) @ wide.T
        own = scores[np.arange(len(scores)), start + np.arange(len(scores))]
        behind = scores < own[:, None] - TIE
        ranks[start : start + BLOCK] = len(images) - 1 - behind.sum(axis=1)
    return ranks
