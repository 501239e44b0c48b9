"""Recall against exact search, on queries that the index was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Float16, Float32, Int64

from simat.searcher import Searcher
from simat.types import Hits
from simat.vectors import merge_hits

VectorsOf = Callable[[Int64[np.ndarray, " n"]], Float32[np.ndarray, "n d"]]

K = 10
QUERIES = 256
TIE = 1e-6  # two neighbours this close may change places


def exact_neighbours(
    queries: Float32[np.ndarray, "q d"],
    ids: Int64[np.ndarray, " q"],
    blocks: Iterable[Float16[np.ndarray, "n d"]],
    k: int = K,
) -> Hits:
    """The k nearest rows of all blocks by brute force, each query's own row left out.

    Args:
        queries: unit rows.
        ids: the row that each query is; the blocks' rows are numbered from 0.
        blocks: all vectors, in order.
        k: neighbours wanted.
    """
    count = len(queries)
    best = Hits(np.full((count, k), -1, np.int64), np.full((count, k), -np.inf, np.float32))
    first = 0
    for block in blocks:
        scores = queries @ block.astype(np.float32).T
        inside = (ids >= first) & (ids < first + len(block))
        scores[inside, ids[inside] - first] = -np.inf
        rows = np.broadcast_to(np.arange(first, first + len(block)), scores.shape)
        if len(block) > k:
            keep = np.argpartition(-scores, k - 1, axis=1)[:, :k]
            rows, scores = np.take_along_axis(rows, keep, 1), np.take_along_axis(scores, keep, 1)
        best = merge_hits(np.concatenate([best.ids, rows], 1), np.concatenate([best.scores, scores], 1), k)
        first += len(block)
    return best


def recall_at_k(
    searcher: Searcher,
    queries: Float32[np.ndarray, "q d"],
    ids: Int64[np.ndarray, " q"],
    exact: Hits,
    vectors: VectorsOf,
) -> float:
    """The share of the exact neighbours that a search finds, its own row left out, ties counted as found.

    Args:
        searcher: what is measured.
        queries: unit rows.
        ids: the row that each query is.
        exact: its neighbours, from :func:`exact_neighbours`.
        vectors: stored vectors by id, to tell a tie: over compressed codes, a search only guesses its scores.
    """
    k = exact.ids.shape[1]
    found = searcher.search(queries, k + 1)
    hits = total = 0
    for row, id in enumerate(ids):
        wanted = exact.ids[row][np.isfinite(exact.scores[row])]
        got = found.ids[row][found.ids[row] != id][:k]
        others = got[(got >= 0) & ~np.isin(got, wanted)]
        scores = vectors(others) @ queries[row] if len(others) else np.empty(0, np.float32)
        tied = np.sum(scores >= exact.scores[row][len(wanted) - 1] - TIE)
        hits += min(len(wanted), int(np.isin(wanted, got).sum() + tied))
        total += len(wanted)
    return hits / total if total else 1.0
