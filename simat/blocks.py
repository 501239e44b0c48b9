"""Slices of an index: how FAISS searches one, all of its rows or the selected ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from simat.cells import Cells
from simat.gpu import MAX_K, GpuShard
from simat.selection import Selection
from simat.shardfiles import require_faiss

MIN_BLOCK = 8192  # rows: below this, handing a block to another thread costs more than scanning it
MAX_TIED = 4096  # equal scores followed to their end; more are blank pages by the thousand
SHARED = {20: 3, 128_000: 1_280}  # FAISS's limits below which every query scans for itself, and ours for one thread
ROUNDING = 4e-6  # of a product of unit vectors, computed in whatever order
DEPTH = "depth"  # among the search parameters: so many rows are asked for, at least, where FAISS cannot select
REFINED = 4  # times k: rows that an index which refines its own answers looks at again
HEEDING = (1, 14, 3)  # before it, fast scans of RaBitQ silently find rows that are not selected, too
APART = 0.5  # so much more effort for few rows that lie apart from the others, than if they lay evenly among them
SLACK = 16  # rows asked for beyond what a selection should need, where FAISS cannot select

Found = tuple[Float32[np.ndarray, "q m"], Int64[np.ndarray, "q m"]]


@dataclass(frozen=True, eq=False)
class Block:
    """A slice of work: a shard, or a range of rows of a flat one.

    Attributes:
        first: id of its first vector.
        index: searched with FAISS's own ``search``, on a CPU or on GPUs; None where ``vectors`` are given.
        vectors: a view of a flat shard's rows, searched exhaustively.
    """

    first: int
    index: Any | None = None
    vectors: Float32[np.ndarray, "n d"] | None = None

    def __len__(self) -> int:
        return int(self.index.ntotal) if self.index is not None else 0 if self.vectors is None else len(self.vectors)

    def best(
        self,
        queries: Float32[np.ndarray, "q d"],
        k: int,
        search: Mapping[str, int],
        chosen: Selection | None = None,
        cells: Cells | None = None,
    ) -> Found:
        """At least the k best: as many more as it takes to see the end of a tie for the last place.

        FAISS keeps any of the rows that tie; which ones, would depend on how the vectors were cut into shards. Among
        more than ``MAX_TIED`` equals, they are FAISS's choice.

        Args:
            queries: unit rows.
            k: how many are wanted.
            search: parameters such as ``nprobe``.
            chosen: the rows of this block that may be found; None for all.
            cells: of these queries, where this block's inverted lists are those of others.

        Returns:
            Scores (−inf where nothing was found) and ids of the index (−1), best first.
        """
        rows = len(self) if chosen is None else chosen.count
        rows = min(rows, MAX_K) if self._on_gpu else rows
        if not len(queries) or not rows:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        last, asked = min(k, rows) - 1, min(k + 1, rows)
        together = self.vectors is not None and chosen is None and len(queries) > 1
        margin = ROUNDING * np.linalg.norm(queries, axis=1) if together else np.zeros(len(queries))
        while True:
            scores, found = self._search(queries, asked, search, chosen, cells)
            there = found >= 0
            tied = there[:, -1] & (scores[:, last] <= scores[:, -1] + margin)
            if asked == rows or asked - k > MAX_TIED or not tied.any():
                break
            asked = min(2 * asked, rows)
        if together:
            assert self.vectors is not None
            scores, found = _rescored(queries, self.vectors, found)
        return np.where(there, scores, -np.inf).astype(np.float32), np.where(there, found + self.first, -1)

    def _search(
        self, queries: np.ndarray, k: int, search: Mapping[str, int], chosen: Selection | None, cells: Cells | None
    ) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        selector = None if chosen is None else _selector(chosen)
        if self.vectors is not None:
            if selector is None:
                found = faiss.knn(queries, self.vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
                return found[0], found[1]
            return _scan(queries, self.vectors, k, selector)
        if chosen is None:
            return self._found(queries, k, search, 1.0, cells)
        if not self._selects:
            return self._sifted(queries, k, search, chosen, cells)
        return self._found(queries, k, search, chosen.count / len(self), cells, selector)

    def _found(
        self,
        queries: np.ndarray,
        k: int,
        search: Mapping[str, int],
        share: float,
        cells: Cells | None,
        selector: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the index finds with the effort for a share of the rows; GPUs have their parameters already."""
        if isinstance(self.index, GpuShard):
            return self.index.search(queries, k)
        assert self.index is not None
        parameters = search_parameters(self.index, widened(search, share, self._knobs), selector)
        if cells is not None:
            return cells.search(self.index, k, parameters)
        scores, rows = self.index.search(queries, k, params=parameters)
        return scores, rows

    def _sifted(
        self, queries: np.ndarray, k: int, search: Mapping[str, int], chosen: Selection, cells: Cells | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search all rows for so many that k of those chosen should be among them, where FAISS cannot select."""
        share = chosen.count / len(self)
        asked = max(math.ceil(k / share) + SLACK, search.get(DEPTH, 0))
        asked = min(asked, len(self), MAX_K) if self._on_gpu else min(asked, len(self))
        scores, rows = self._found(queries, asked, search, share, cells)
        inside = (rows >= 0) & chosen.mask()[np.maximum(rows, 0)]
        order = np.argsort(~inside, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(inside, order, 1)
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
        return np.where(kept, scores, -np.inf), np.where(kept, rows, -1)

    @cached_property
    def _selects(self) -> bool:
        """Whether this kind of index can leave rows out while it searches."""
        faiss = require_faiss()
        unable = [faiss.IndexFastScan, faiss.IndexPQ, faiss.IndexLSH]
        if tuple(int(number) for number in faiss.__version__.split(".")[:3]) < HEEDING:
            unable.append(faiss.IndexIVFRaBitQFastScan)
        return not self._on_gpu and not isinstance(unwrapped(self.index), tuple(unable))

    @cached_property
    def _on_gpu(self) -> bool:
        """Whether a GPU searches: with parameters set beforehand, for so many rows at most, and among all."""
        return isinstance(self.index, GpuShard)

    @cached_property
    def _knobs(self) -> dict[str, tuple[int, int]]:
        """What makes this index look farther: by name, its own value and the largest."""
        faiss = require_faiss()
        ivf = faiss.try_extract_index_ivf(self.index)
        if ivf is not None:
            return {"nprobe": (int(ivf.nprobe), int(ivf.nlist))}
        inner = unwrapped(self.index)
        return {"efSearch": (int(inner.hnsw.efSearch), len(self))} if isinstance(inner, faiss.IndexHNSW) else {}


def share_scans() -> None:
    """Let FAISS scan once for a few queries, by a matrix product, where by default each scans for itself.

    Its default suits as many threads as there are queries; a block is searched by one. A scan is bound by memory: on
    100,000 × 512 vectors, eight queries take as long as two. The limit is the process's; one set by others is kept.
    """
    faiss = require_faiss()
    limit = faiss.cvar.distance_compute_blas_threshold  # of queries; from FAISS 1.15 on, of queries × dimensions
    faiss.cvar.distance_compute_blas_threshold = SHARED.get(limit, limit)


def products(
    queries: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"], places: Int64[np.ndarray, "q m"]
) -> Float32[np.ndarray, "q m"]:
    """Inner products of every query with its own rows of ``vectors``, −inf where a place is −1.

    FAISS computes one at a time, so that equal vectors have equal products wherever they stand.
    """
    faiss = require_faiss()
    scores, places = np.full(places.shape, -np.inf, np.float32), np.ascontiguousarray(places)
    pointers = [faiss.swig_ptr(array) for array in (scores, queries, vectors, places)]
    faiss.fvec_inner_products_by_idx(*pointers, vectors.shape[1], len(queries), places.shape[1])
    return scores


def _rescored(
    queries: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"], found: Int64[np.ndarray, "q m"]
) -> tuple[np.ndarray, np.ndarray]:
    """The same rows, best first, with the products that a query alone would have: a matrix product rounds otherwise."""
    scores = products(queries, vectors, found)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, 1), np.take_along_axis(found, order, 1)


def cut(shard: Any, first: int, pieces: int) -> list[Block]:
    """The blocks of a shard whose rows begin at id ``first``: ``pieces`` of a flat one, so that every core scans."""
    faiss = require_faiss()
    if not isinstance(shard, faiss.IndexFlatIP) or shard.ntotal == 0:
        return [Block(first, index=shard)]
    vectors = faiss.rev_swig_ptr(shard.get_xb(), shard.ntotal * shard.d).reshape(shard.ntotal, shard.d)
    pieces = max(1, min(pieces, shard.ntotal // MIN_BLOCK))
    bounds = np.linspace(0, shard.ntotal, pieces + 1).astype(int)
    return [Block(first + int(a), vectors=vectors[a:b]) for a, b in pairwise(bounds)]


def search_parameters(index: Any, values: Mapping[str, int], selector: Any = None) -> Any:
    """FAISS ``SearchParameters`` of the class that ``index`` takes, None where there is nothing to set.

    Args:
        index: any FAISS index.
        values: parameters by name, such as ``nprobe``.
        selector: a FAISS ``IDSelector`` of the rows that may be found.
    """
    faiss = require_faiss()
    if not values and selector is None:
        return None
    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=search_parameters(index.index, values, selector))
    if isinstance(index, faiss.IndexRefine):
        base = search_parameters(index.base_index, values, selector)
        return faiss.IndexRefineSearchParameters(base_index_params=base, k_factor=REFINED)
    chosen = {} if selector is None else {"sel": selector}
    for kind, parameters, name in (
        (faiss.IndexIVF, faiss.SearchParametersIVF, "nprobe"),
        (faiss.IndexHNSW, faiss.SearchParametersHNSW, "efSearch"),
    ):
        if isinstance(index, kind):
            return parameters(**chosen, **{name: values[name] for name in [name] if name in values})
    return faiss.SearchParameters(**chosen) if chosen else None


def widened(search: Mapping[str, int], share: float, knobs: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """The parameters of a search for the best among a share of the rows: its effort grows as the share shrinks.

    The k best of a tenth of the rows lie as far out as the 10·k best of all, and as many of the rows that are looked
    at must be chosen ones; farther still where those lie together on one side (``benchmarks/filters.py``).

    Args:
        search: parameters of a search of all rows.
        share: of the rows that are chosen, in (0, 1].
        knobs: by name, the value where ``search`` has none, and the largest.
    """
    more = (1 + APART * (1 - share)) / share
    wider = {name: min(math.ceil(search.get(name, own) * more), most) for name, (own, most) in knobs.items()}
    return {**search, **wider}


def unwrapped(index: Any) -> Any:
    """What an index with transformations or refinement searches with."""
    faiss = require_faiss()
    while True:
        index = faiss.downcast_index(index)
        if isinstance(index, faiss.IndexPreTransform):
            index = index.index
        elif isinstance(index, faiss.IndexRefine):
            index = index.base_index
        else:
            return index


def _selector(chosen: Selection) -> Any:
    faiss = require_faiss()
    selector = faiss.IDSelectorBitmap(len(chosen.bits), faiss.swig_ptr(chosen.bits))
    selector.selection = chosen  # FAISS keeps a bare pointer to its bits
    return selector


def _scan(
    queries: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"], k: int, selector: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of the selected rows, with the products that a scan of all rows computes."""
    faiss = require_faiss()
    scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    pointers = [faiss.swig_ptr(array) for array in (queries, vectors, scores, rows)]
    faiss.knn_inner_product(*pointers[:2], vectors.shape[1], len(queries), len(vectors), k, *pointers[2:], selector)
    return scores, rows
