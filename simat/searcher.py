"""Exact and approximate search over FAISS shards, side by side on all cores, among all rows or the selected ones."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64

from simat.blocks import DEPTH, Block, cut, products, search_parameters, share_scans
from simat.cells import Cells, shared_quantizers
from simat.errors import QueryError, StorageError
from simat.gpu import MAX_K, GpuShard
from simat.recent import Recent
from simat.selection import Selection
from simat.shardfiles import open_shards, require_faiss
from simat.types import Hits
from simat.vectors import merge_hits
from simat.vectorstore import VectorStore

__all__ = ["RERANK", "Searcher", "open_shards", "require_faiss", "search_parameters"]

RERANK = "rerank"  # among the search parameters: k times as many candidates are scored exactly
FEW = 10_000  # selected rows: scoring so many takes less time than searching an index for them
FEW_SHARE = 1 / 32  # of an exact index: rows that are gathered sooner than all are scanned
MANY = 16 * FEW  # beyond them, an index that looks everywhere is quicker
FARTHEST = {"nprobe": 2**31 - 1, "efSearch": 2**31 - 1, DEPTH: 2**31 - 1}  # everywhere
GATHERED = 4096  # rows that a thread scores at a time
REMEMBERED = 8  # selections that are cut into those of the shards


class Searcher:
    """Searches the shards of an index; safe to share between threads, and deterministic.

    Args:
        shards: FAISS indexes, or all of them :class:`simat.gpu.GpuShard`, whose ids run on from one to the next.
        search: parameters such as ``nprobe``, passed with every search: nothing is set on the shared index.
            ``rerank`` r scores the r·k rows that the shards find with their stored vectors, and keeps the k best.
        threads: CPU threads; None for every core this process may use.
        removed: rows that are never found.
        vectors: the stored vectors, for exact scores.

    Raises:
        StorageError: re-ranking is asked for without ``vectors``, or these are of another index.
    """

    def __init__(
        self,
        shards: Sequence[Any],
        search: Mapping[str, int] | None = None,
        threads: int | None = None,
        removed: Selection | None = None,
        vectors: VectorStore | None = None,
    ) -> None:
        faiss = require_faiss()
        share_scans()
        self._threads = threads or len(os.sched_getaffinity(0))
        self._search = dict(search or {})
        self._rerank = self._search.pop(RERANK, 0)
        self._shards = list(shards)  # keeps alive the memory that the blocks view
        firsts = np.cumsum([0, *(shard.ntotal for shard in shards)])
        self.rows, self.dim = int(firsts[-1]), shards[0].d
        pieces = max(1, self._threads // len(shards))
        self._on_gpus = isinstance(shards[0], GpuShard)
        cuts = [cut(shard, int(first), pieces) for first, shard in zip(firsts, shards, strict=False)]
        self._blocks = [block for blocks in cuts for block in blocks]
        shared = shared_quantizers(shards)
        self._quantizers = [quantizer for blocks, quantizer in zip(cuts, shared, strict=True) for _ in blocks]
        # Where there are fewer blocks than cores, the queries are cut as well; on GPUs, for the copies of a shard.
        self._groups = shards[0].copies if self._on_gpus else max(1, self._threads // len(self._blocks))
        self._pool = ThreadPoolExecutor(
            self._threads, "simat-search", initializer=faiss.omp_set_num_threads, initargs=(1,)
        )
        self._together, self._parts = Recent(REMEMBERED), Recent(REMEMBERED)
        self._store = self._checked(vectors)
        self._alive = None if removed is None or not removed.count else ~self._fitting(removed)

    @property
    def exact(self) -> bool:
        """Whether every shard is searched exhaustively, so that the answers are the nearest vectors for certain."""
        return all(block.vectors is not None or len(block) == 0 for block in self._blocks)

    def hold(self) -> None:
        """Open the stored vectors: whatever becomes of the folder, searches go on as they are."""
        if self._store is not None:
            self._store.hold()

    def blocks(self) -> Iterator[Float32[np.ndarray, "n d"]]:
        """The vectors of an exact index in the order of their ids, as views; those of removed rows too."""
        return (block.vectors for block in self._blocks if block.vectors is not None)

    def vectors(self, ids: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        """Vectors of an exact index by id; ids in ascending order."""
        firsts = [block.first for block in self._blocks]
        cuts = np.searchsorted(ids, firsts[1:])
        parts = zip(self._blocks, np.split(ids, cuts), strict=True)
        rows = [block.vectors[part - block.first] for block, part in parts if block.vectors is not None]
        return np.concatenate([np.empty((0, self.dim), np.float32), *rows])

    def allowed(self, among: Selection | None = None) -> Selection | None:
        """The rows that may be found: those of ``among`` that are not removed; None for all there are.

        Raises:
            QueryError: ``among`` is of an index with another number of rows.
        """
        if among is None:
            return self._alive
        among = self._fitting(among)
        alive = self._alive
        return among if alive is None else self._together.of(among, lambda: among & alive)

    def search(self, queries: Float32[np.ndarray, "q d"], k: int, among: Selection | None = None) -> Hits:
        """The k largest inner products per query, best first, ties by smaller id.

        Among few selected rows the answers are exact, whatever the index; and where it finds fewer than k although
        more are selected, all of these are looked at.

        Args:
            queries: unit rows.
            k: how many are wanted; the hits are padded where fewer can be found.
            among: the rows that may be found; None for all.

        Raises:
            QueryError: k < 1, or more than GPUs find; queries of another dimension, or a selection among another
                number of rows.
        """
        if k < 1:
            raise QueryError("k must be at least 1", got=k)
        if queries.shape[1] != self.dim:
            raise QueryError(f"the index holds {self.dim}-d vectors", got=f"a {queries.shape[1]}-d query")
        queries, allowed = np.ascontiguousarray(queries), self.allowed(among)
        passing = self.rows if allowed is None else allowed.count
        if allowed is not None and self._few(passing):
            return self._exactly(queries, k, allowed)
        if self._on_gpus and k > MAX_K:
            raise QueryError(f"GPUs find at most {MAX_K:,} images", got=k, remedy="ask for fewer, or leave out --gpus")
        hits = self._ranked(queries, k, allowed, self._search)
        return hits if allowed is None else self._completed(queries, hits, allowed)

    def _ranked(self, queries: np.ndarray, k: int, allowed: Selection | None, search: Mapping[str, int]) -> Hits:
        passing = self.rows if allowed is None else allowed.count
        if not self._rerank or self.exact:
            hits = self._approximately(queries, min(k, passing) or 1, allowed, search)
        else:
            candidates = self._approximately(queries, min(k * self._rerank, passing) or 1, allowed, search)
            hits = self._rescored(queries, candidates)
        return merge_hits(hits.ids, hits.scores, k)

    def _approximately(self, queries: np.ndarray, k: int, allowed: Selection | None, search: Mapping[str, int]) -> Hits:
        """What the shards find; at least k columns where there are as many rows."""
        groups = np.array_split(queries, self._groups)
        chosen = self._parts.of(allowed, lambda: [self._part(allowed, block) for block in self._blocks])
        tasks = [
            (block, group, part, cells)
            for group in groups
            for block, part, cells in zip(self._blocks, chosen, self._cells(group), strict=True)
        ]
        found = list(self._pool.map(lambda task: task[0].best(task[1], k, search, *task[2:]), tasks))
        size = len(self._blocks)
        merged = [_merged(found[i : i + size], k) for i in range(0, len(found), size)]
        return Hits(np.concatenate([h.ids for h in merged]), np.concatenate([h.scores for h in merged]))

    def _cells(self, queries: np.ndarray) -> list[Cells | None]:
        """By block, the lists nearest to the queries, where other shards look into the same."""
        shared = {id(quantizer): Cells(quantizer, queries) for quantizer in self._quantizers if quantizer is not None}
        return [shared.get(id(quantizer)) for quantizer in self._quantizers]

    def _part(self, allowed: Selection | None, block: Block) -> Selection | None:
        part = None if allowed is None else allowed.slice(block.first, block.first + len(block))
        return None if part is None or part.count == part.rows else part

    def _few(self, passing: int) -> bool:
        """Whether the selected rows are scored one by one."""
        if self.exact:
            return passing <= self.rows * FEW_SHARE
        return self._store is not None and passing <= FEW

    def _exactly(self, queries: np.ndarray, k: int, allowed: Selection) -> Hits:
        """The k best of the selected rows from their own vectors."""
        ids = allowed.ids()
        cuts = np.split(ids, range(GATHERED, len(ids), GATHERED))
        found = [*self._pool.map(lambda some: self._best_of(queries, k, some), cuts)]
        return _merged(found, k)

    def _best_of(self, queries: np.ndarray, k: int, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = Block(0, vectors=self._stored(ids)).best(queries, k, {})
        return scores, ids[rows] if len(ids) else rows

    def _stored(self, ids: np.ndarray) -> Float32[np.ndarray, "n d"]:
        if self.exact:
            return self.vectors(ids)
        assert self._store is not None
        return self._store.take(ids).astype(np.float32)

    def _rescored(self, queries: np.ndarray, hits: Hits) -> Hits:
        """The same candidates under the inner products with their stored vectors, gathered for a few queries each."""
        step = max(1, GATHERED // hits.ids.shape[1])
        parts = [slice(first, first + step) for first in range(0, max(1, len(queries)), step)]
        scored = self._pool.map(lambda part: self._products(queries[part], hits.ids[part]), parts)
        return Hits(hits.ids, np.concatenate([*scored]))

    def _products(self, queries: np.ndarray, ids: np.ndarray) -> Float32[np.ndarray, "q m"]:
        unique, places = np.unique(ids, return_inverse=True)
        missing = int(len(unique) > 0 and unique[0] < 0)
        places = places.reshape(ids.shape) - missing  # −1 where there is no candidate
        return products(queries, self._stored(unique[missing:]), places)

    def _completed(self, queries: np.ndarray, hits: Hits, allowed: Selection) -> Hits:
        """An approximate index may find fewer than k of the selected rows: then all of them are looked at."""
        k = hits.ids.shape[1]
        short = _short(hits, allowed)
        if not short.any():
            return hits
        if self.exact or (self._store is not None and allowed.count <= MANY):
            whole = self._exactly(queries[short], k, allowed)
        else:
            whole = self._ranked(queries[short], k, allowed, FARTHEST)
            if self._store is not None and _short(whole, allowed).any():  # a graph in pieces, or a GPU
                whole = self._exactly(queries[short], k, allowed)
        ids, scores = hits.ids.copy(), hits.scores.copy()
        ids[short], scores[short] = whole.ids, whole.scores
        return Hits(ids, scores)

    def _fitting(self, selection: Selection) -> Selection:
        if selection.rows != self.rows:
            raise QueryError(f"the index has {self.rows} rows", got=f"a selection among {selection.rows}")
        return selection

    def _checked(self, store: VectorStore | None) -> VectorStore | None:
        if self._rerank and store is None:
            raise StorageError("re-ranking needs the stored vectors", got="an index without its embedding set")
        if store is not None and (store.rows, store.dim) != (self.rows, self.dim):
            raise StorageError(
                f"the shards hold {self.rows} × {self.dim} vectors",
                got=f"an embedding set of {store.rows} × {store.dim}",
                remedy="build the index again",
            )
        return store


def _short(hits: Hits, allowed: Selection) -> Bool[np.ndarray, " q"]:
    """Which queries have fewer hits than there are rows for them."""
    return np.asarray((hits.ids >= 0).sum(1) < min(hits.ids.shape[1], allowed.count))


def _merged(found: Sequence[tuple[np.ndarray, np.ndarray]], k: int) -> Hits:
    return merge_hits(np.concatenate([ids for _, ids in found], 1), np.concatenate([s for s, _ in found], 1), k)
