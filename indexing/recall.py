"""Recall against exact search, on queries that the index was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int64

from simat.searcher import Searcher
from simat.selection import Selection
from simat.types import Hits
from simat.vectors import merge_hits
from simat.vectorstore import VectorStore

VectorsOf = Callable[[Int64[np.ndarray, " n"]], Float32[np.ndarray, "n d"]]

K = 10
QUERIES = 256
TIE = 1e-6  # two neighbours this close may change places


def exact_neighbours(
    queries: Float32[np.ndarray, "q d"],
    ids: Int64[np.ndarray, " q"],
    blocks: Iterable[Float16[np.ndarray, "n d"]],
    k: int = K,
    rows: Selection | None = None,
) -> Hits:
    """The k nearest rows of all blocks by brute force, each query's own row left out.

    Args:
        queries: unit rows.
        ids: the row that each query is; the blocks' rows are numbered from 0.
        blocks: all vectors, in order.
        k: neighbours wanted.
        rows: the ones that may be neighbours; None for all.
    """
    import faiss

    best = Hits(np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32))
    first = 0
    for block in blocks:
        inside = np.arange(len(block)) if rows is None else rows.slice(first, first + len(block)).ids()
        kept = block[inside] if len(inside) < len(block) else block
        # One more than wanted: each query may find itself.
        if asked := min(k + 1, len(kept)):
            found = faiss.knn(queries, kept.astype(np.float32), asked, metric=faiss.METRIC_INNER_PRODUCT)
            scores, near = found[0], inside[found[1]] + first
            scores[near == ids[:, None]] = -np.inf
            near[near == ids[:, None]] = -1
            best = merge_hits(np.concatenate([best.ids, near], 1), np.concatenate([best.scores, scores], 1), k)
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


@dataclass(frozen=True)
class Measured:
    """Queries whose neighbours are known, asked of one index under one setting after another.

    Attributes:
        indexes: the shards.
        store: the stored vectors.
        threads: CPU threads of a search.
        queries: unit rows.
        ids: the row that each query is.
        exact: their neighbours.
        removed: rows that are never found.
    """

    indexes: Sequence[Any]
    store: VectorStore
    threads: int
    queries: Float32[np.ndarray, "q d"]
    ids: Int64[np.ndarray, " q"]
    exact: Hits
    removed: Selection | None = None

    def searcher(self, search: Mapping[str, int]) -> Searcher:
        """The index under one setting."""
        return Searcher(self.indexes, search, self.threads, self.removed, self.store)

    def recall(self, search: Mapping[str, int], part: slice) -> float:
        """recall@k of a part of the queries."""
        wanted = Hits(self.exact.ids[part], self.exact.scores[part])
        stored = lambda ids: self.store.take(ids).astype(np.float32)  # noqa: E731
        return recall_at_k(self.searcher(search), self.queries[part], self.ids[part], wanted, stored)
