"""The inverted lists nearest to queries, found once for all shards that were trained together."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from simat.mapping import expect, same_bytes
from simat.shardfiles import require_faiss

# Their search is to find the lists, and then to look into them; of others, FAISS may do more, or refuse parameters.
KINDS = {f"IndexIVF{codes}" for codes in ("Flat", "ScalarQuantizer", "PQ", "PQFastScan", "RaBitQ", "RaBitQFastScan")}


class Cells:
    """Nearest lists of some queries; safe to share between threads.

    Args:
        quantizer: of the lists.
        queries: unit rows, contiguous.
    """

    def __init__(self, quantizer: Any, queries: Float32[np.ndarray, "q d"]) -> None:
        self._quantizer, self._queries = quantizer, queries
        self._lock = threading.Lock()
        self._scores, self._lists = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)

    def search(self, index: Any, k: int, parameters: Any) -> tuple[np.ndarray, np.ndarray]:
        """What ``index.search`` finds, without looking for its lists again.

        Args:
            index: an ``IndexIVF`` over lists of this quantizer.
            k: how many are wanted.
            parameters: ``SearchParametersIVF``; ``nprobe`` becomes the number of lists where it is larger.
        """
        faiss = require_faiss()
        parameters.nprobe = min(parameters.nprobe, index.nlist)  # a fast scan looks at so many, if there are or not
        scores, lists = self._nearest(parameters.nprobe)
        found = np.empty((len(self._queries), k), np.float32), np.empty((len(self._queries), k), np.int64)
        pointers = [faiss.swig_ptr(array) for array in (lists, scores, *found)]
        queries = faiss.swig_ptr(self._queries)
        index.search_preassigned_c(len(self._queries), queries, k, *pointers, False, parameters)
        return found

    def _nearest(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores and numbers of ``count`` lists per query, best first: those of a search for so many.

        A larger search begins with a smaller one, but for lists that tie for the last place.
        """
        with self._lock:
            if self._lists.shape[1] < count:
                self._scores, self._lists = self._quantizer.search(self._queries, count)
            scores, lists = self._scores, self._lists
        if lists.shape[1] > count > 0 and (scores[:, count - 1] == scores[:, count]).any():
            scores, lists = self._quantizer.search(self._queries, count)
        return np.ascontiguousarray(scores[:, :count]), np.ascontiguousarray(lists[:, :count])


def shared_quantizers(shards: Sequence[Any]) -> list[Any | None]:
    """For every shard the quantizer of the first one that has the same; None where no other shard has it.

    Only of plain inverted lists whose quantizer compares with all centroids. All centroids of all shards are compared,
    which takes a pass over them.
    """
    known: list[tuple[Any, np.ndarray, list[int]]] = []
    for place, shard in enumerate(shards):
        if (quantizer := _flat_quantizer(shard)) is None:
            continue
        centroids = _centroids(quantizer)
        same = (places for _, others, places in known if same_bytes(others, centroids))
        if (places := next(same, None)) is None:
            known.append((quantizer, centroids, places := []))
        places.append(place)
    found: list[Any | None] = [None] * len(shards)
    for quantizer, _, places in known:
        for place in places if len(places) > 1 else ():
            found[place] = quantizer
    return found


def _flat_quantizer(shard: Any) -> Any | None:
    faiss = require_faiss()
    if not isinstance(shard, faiss.Index):  # on GPUs
        return None
    index = faiss.downcast_index(shard)
    if type(index).__name__ not in KINDS:
        return None
    quantizer = faiss.downcast_index(index.quantizer)
    quantizer.referenced_objects = [shard]  # who keeps it, keeps its memory, too
    plain = type(quantizer) in (faiss.IndexFlat, faiss.IndexFlatIP)
    return quantizer if plain and quantizer.metric_type == faiss.METRIC_INNER_PRODUCT else None


def _centroids(quantizer: Any) -> np.ndarray:
    """A view of them, row after row; from here on they are read from disk, where they are not in memory."""
    faiss = require_faiss()
    centroids = np.asarray(faiss.rev_swig_ptr(quantizer.get_xb(), quantizer.ntotal * quantizer.d))
    expect(centroids)
    return centroids
