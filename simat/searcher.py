"""Exact and approximate search over FAISS shards, side by side on all cores.

FAISS files are untrusted native input: a shard is read only if its SHA-256 is the manifest's, and with FAISS's
own deserialization limits set.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from simat.errors import QueryError, StorageError
from simat.files import cache_folder, write_text
from simat.manifest import FileEntry, IndexManifest
from simat.types import Hits
from simat.vectors import merge_hits

MIN_BLOCK = 8192  # rows: below this, handing a block to another thread costs more than scanning it
_LIMIT = threading.Lock()
VERIFIED = "verified.json"  # in the cache folder: which shards have been hashed, in which state
MAX_TIED = 4096  # equal scores followed to their end; more are blank pages by the thousand


@dataclass(frozen=True)
class Block:
    """A slice of work: a shard, or a range of rows of a flat one.

    Attributes:
        first: id of its first vector.
        index: searched with FAISS's own ``search``, None where ``vectors`` are given.
        vectors: a view of a flat shard's rows, searched exhaustively.
    """

    first: int
    index: Any | None = None
    vectors: Float32[np.ndarray, "n d"] | None = None

    def __len__(self) -> int:
        return int(self.index.ntotal) if self.index is not None else 0 if self.vectors is None else len(self.vectors)


class Searcher:
    """Searches the shards of an index; safe to share between threads, and deterministic.

    Args:
        shards: FAISS indexes whose ids run on from one to the next.
        search: parameters such as ``nprobe``, passed with every search: nothing is set on the shared index.
        threads: CPU threads; None for every core this process may use.
    """

    def __init__(
        self, shards: Sequence[Any], search: Mapping[str, int] | None = None, threads: int | None = None
    ) -> None:
        import faiss

        self._threads = threads or len(os.sched_getaffinity(0))
        self._search = dict(search or {})
        self._shards = list(shards)  # keeps alive the memory that the blocks view
        firsts = np.cumsum([0, *(shard.ntotal for shard in shards)])
        self.rows, self.dim = int(firsts[-1]), shards[0].d
        pieces = max(1, self._threads // len(shards))
        self._blocks = [b for f, s in zip(firsts, shards, strict=False) for b in _blocks(s, int(f), pieces)]
        self._pool = ThreadPoolExecutor(
            self._threads, "simat-search", initializer=faiss.omp_set_num_threads, initargs=(1,)
        )

    @property
    def exact(self) -> bool:
        """Whether every shard is searched exhaustively, so that the answers are the nearest vectors for certain."""
        return all(block.vectors is not None or len(block) == 0 for block in self._blocks)

    def blocks(self) -> Iterator[Float32[np.ndarray, "n d"]]:
        """The vectors of an exact index in the order of their ids, as views."""
        return (block.vectors for block in self._blocks if block.vectors is not None)

    def vectors(self, ids: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        """Vectors of an exact index by id; ids in ascending order."""
        firsts = [block.first for block in self._blocks]
        cuts = np.searchsorted(ids, firsts[1:])
        parts = zip(self._blocks, np.split(ids, cuts), strict=True)
        rows = [block.vectors[part - block.first] for block, part in parts if block.vectors is not None]
        return np.concatenate([np.empty((0, self.dim), np.float32), *rows])

    def search(self, queries: Float32[np.ndarray, "q d"], k: int) -> Hits:
        """The k largest inner products per query, best first, ties by smaller id.

        Raises:
            QueryError: k < 1, or queries of another dimension.
        """
        if k < 1:
            raise QueryError("k must be at least 1", got=k)
        if queries.shape[1] != self.dim:
            raise QueryError(f"the index holds {self.dim}-d vectors", got=f"a {queries.shape[1]}-d query")
        # Where there are fewer blocks than cores, the queries are cut as well.
        groups = np.array_split(np.ascontiguousarray(queries), max(1, self._threads // len(self._blocks)))
        wanted = min(k, self.rows) or 1
        tasks = [(block, group, wanted) for group in groups for block in self._blocks]
        found = list(self._pool.map(lambda task: self._search_block(*task), tasks))
        size = len(self._blocks)
        merged = [_merged(found[i : i + size], k) for i in range(0, len(found), size)]
        return Hits(np.concatenate([h.ids for h in merged]), np.concatenate([h.scores for h in merged]))

    def _search_block(self, block: Block, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """At least the k best of a block: as many more as it takes to see the end of a tie for the last place.

        FAISS keeps any of the rows that tie; which ones, would depend on how the vectors were cut into shards. Among
        more than ``MAX_TIED`` equals, they are FAISS's choice.
        """
        if not len(queries):
            return np.empty((0, k), np.int64), np.empty((0, k), np.float32)
        last, asked = min(k, len(block)) - 1, min(k + 1, len(block))
        while True:
            scores, rows = self._faiss_search(block, queries, asked)
            found = rows >= 0
            tied = found[:, -1] & (scores[:, last] == scores[:, -1])
            if asked == len(block) or asked - k > MAX_TIED or not tied.any():
                return np.where(found, rows + block.first, -1), np.where(found, scores, -np.inf).astype(np.float32)
            asked = min(2 * asked, len(block))

    def _faiss_search(self, block: Block, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        if block.vectors is not None:
            scores, rows = faiss.knn(queries, block.vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
        else:
            assert block.index is not None
            scores, rows = block.index.search(queries, k, params=search_parameters(block.index, self._search))
        return scores, rows


def _merged(found: Sequence[tuple[np.ndarray, np.ndarray]], k: int) -> Hits:
    return merge_hits(np.concatenate([ids for ids, _ in found], 1), np.concatenate([s for _, s in found], 1), k)


def _blocks(shard: Any, first: int, pieces: int) -> list[Block]:
    import faiss

    if not isinstance(shard, faiss.IndexFlatIP) or shard.ntotal == 0:
        return [Block(first, index=shard)]
    # FAISS scans one query with one thread: cut flat shards so that every core scans for it.
    vectors = faiss.rev_swig_ptr(shard.get_xb(), shard.ntotal * shard.d).reshape(shard.ntotal, shard.d)
    pieces = max(1, min(pieces, shard.ntotal // MIN_BLOCK))
    bounds = np.linspace(0, shard.ntotal, pieces + 1).astype(int)
    return [Block(first + int(a), vectors=vectors[a:b]) for a, b in pairwise(bounds)]


def search_parameters(index: Any, values: Mapping[str, int]) -> Any:
    """FAISS ``SearchParameters`` of the class that ``index`` takes, None where there is nothing to set."""
    faiss = require_faiss()
    if not values:
        return None
    kind = faiss.SearchParametersHNSW if "efSearch" in values else faiss.SearchParametersIVF
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=kind(**values))
    if isinstance(index, faiss.IndexRefine):
        return faiss.IndexRefineSearchParameters(base_index_params=kind(**values), k_factor=4)
    return kind(**values)


def open_shards(folder: Path, manifest: IndexManifest) -> list[Any]:
    """Map the shards of an index into memory, after checking them against the manifest.

    Raises:
        StorageError: a shard is missing, truncated, altered, or not what the manifest says.
    """
    require_faiss()
    _check_once(folder, manifest.shards)
    with _believing_at_most(max((entry.bytes for entry in manifest.shards), default=1)):
        return [_read_shard(folder, entry, manifest.space.dim) for entry in manifest.shards]


@contextlib.contextmanager
def _believing_at_most(size: int) -> Iterator[None]:
    """FAISS's limit for one vector in a file; it is the whole process's, so it is put back."""
    import faiss

    with _LIMIT:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(max(size, 1))
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def require_faiss() -> Any:
    """The module ``faiss``, which comes with one of two exclusive extras.

    Raises:
        StorageError: it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise StorageError("faiss is not installed", remedy="pip install 'simat[cpu]' or 'simat[gpu]'") from error
    return faiss


def _read_shard(folder: Path, entry: FileEntry, dim: int) -> Any:
    import faiss

    try:
        shard = faiss.read_index(str(folder / entry.name), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise StorageError(f"FAISS cannot read {entry.name}", got=reason, remedy="build the index again") from error
    if (shard.ntotal, shard.d) != (entry.rows, dim):
        raise StorageError(
            f"{entry.name} is not the shard of this index",
            got=f"{shard.ntotal} × {shard.d} vectors instead of {entry.rows} × {dim}",
            remedy="build the index again",
        )
    return shard


def _check_once(folder: Path, entries: Sequence[FileEntry]) -> None:
    """Hash a shard when it is first opened or has changed since; hashing 100 GB at every start would take minutes."""
    try:
        known: dict[str, Any] = dict(json.loads((cache_folder() / VERIFIED).read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    fresh = {path: state for path, state in known.items() if Path(path).exists()}
    for entry in entries:
        path = entry.check_size(folder)
        status = path.stat()
        state = [entry.sha256, status.st_size, status.st_mtime_ns, status.st_ino]
        if known.get(str(path.resolve())) != state:
            entry.check(folder)
            fresh[str(path.resolve())] = state
    if fresh != known:
        with contextlib.suppress(OSError):  # without a record, the next opening takes longer
            write_text(cache_folder() / VERIFIED, json.dumps(fresh))
