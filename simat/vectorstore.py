"""Stored vectors by id, read where they lie in the Parquet parts: for exact scores of a few rows of many.

The parts of a set store their vectors plainly: the last n·d·2 bytes of the column chunk of a row group are its n
rows. Where that is so, and it is compared with what pyarrow reads when a part is first opened, a row is one copy out
of a mapped file; other parts are read through pyarrow.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, Int, Int64

from simat.embeddings import EmbeddingSet, embedding_column
from simat.errors import QueryError, StorageError
from simat.manifest import FileEntry
from simat.mapping import MappedFile

if TYPE_CHECKING:
    import pyarrow.parquet as pq

OPEN_PARTS = 16_384  # mapped at a time; Linux allows a process 65,530 maps
BLOCK = 16_384  # rows
FEW = 8  # rows of a part: to copy one takes a tenth of the time that NumPy takes to begin gathering many


@runtime_checkable
class _Part(Protocol):
    def copy(self, rows: Int64[np.ndarray, " n"], into: Float16[np.ndarray, "n d"]) -> None: ...

    def read(self, start: int, stop: int) -> Float16[np.ndarray, "n d"]: ...


class VectorStore:
    """Vectors of an embedding set by id. Safe to share between threads.

    Args:
        folder: where the parts are.
        entries: the parts in the order of their ids, which begin at 0.
        dim: length of a vector.
    """

    def __init__(self, folder: Path, entries: Sequence[FileEntry], dim: int) -> None:
        self._folder, self._entries, self.dim = folder, list(entries), dim
        self._ends = np.cumsum([entry.rows for entry in entries], dtype=np.int64)
        self._starts = self._ends - np.array([entry.rows for entry in entries], np.int64)
        self.rows = int(self._ends[-1]) if len(self._ends) else 0
        self._part = lru_cache(maxsize=OPEN_PARTS)(self._open)

    @classmethod
    def of(cls, embeddings: EmbeddingSet) -> VectorStore:
        """The vectors of an open embedding set."""
        return cls(embeddings.folder, embeddings.manifest.parts, embeddings.manifest.space.dim)

    def take(self, ids: Int[np.ndarray, " n"]) -> Float16[np.ndarray, "n d"]:
        """The vectors ``ids``, in that order.

        Raises:
            QueryError: there is no such id.
            StorageError: a part is gone, or another one.
        """
        wrong = ids[(ids < 0) | (ids >= self.rows)]
        if len(wrong):
            raise QueryError("no image with this id", got=int(wrong[0]), remedy=f"ids run from 0 to {self.rows - 1}")
        order = np.argsort(ids, kind="stable")
        ordered = ids[order].astype(np.int64, copy=False)
        parts = np.searchsorted(self._ends, ordered, side="right")
        rows = ordered - self._starts[parts]
        taken, found = np.empty((2, len(ids), self.dim), np.float16)
        firsts = np.flatnonzero(np.diff(parts, prepend=-1)).tolist()
        for first, end in pairwise([*firsts, len(ids)]):
            self._part(int(parts[first])).copy(rows[first:end], taken[first:end])
        found[order] = taken
        return found

    def blocks(self, start: int, stop: int, size: int = BLOCK) -> Iterator[Float16[np.ndarray, "n d"]]:
        """The vectors of ids [start, stop) in blocks of ``size`` rows, the last one shorter; none stays in memory."""
        for low in range(start, stop, size):
            high = min(low + size, stop)
            first, last = np.searchsorted(self._ends, [low, high - 1], side="right")
            pieces = []
            for part in range(int(first), int(last) + 1):
                base, end = int(self._starts[part]), int(self._ends[part])
                if base < end:  # a part of rejected rows alone is empty
                    pieces.append(self._part(part).read(max(low, base) - base, min(high, end) - base))
            yield pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def hold(self) -> None:
        """Open the first parts: whatever becomes of the folder, these go on being read as they are."""
        for number in range(min(len(self._entries), OPEN_PARTS)):
            self._part(number)

    def _open(self, number: int) -> _Part:
        import pyarrow as pa
        import pyarrow.parquet as pq

        entry = self._entries[number]
        path = self._folder / entry.name
        try:
            entry.check_size(self._folder)
            file = pq.ParquetFile(path, memory_map=True)
        except (OSError, pa.ArrowInvalid, StorageError) as error:
            raise StorageError(
                "the index has changed on disk", got=entry.name, remedy="open it again; a server: POST …/reload"
            ) from error
        if (layout := _layout(file, self.dim)) is not None and _agrees(file, mapped := _Mapped(path, layout, self.dim)):
            return mapped
        return _Decoded(file, self.dim)


@dataclass(frozen=True)
class _Layout:
    """Where the rows of a part are.

    Attributes:
        starts: the first row of every row group, and the number of rows.
        offsets: the byte at which the values of every row group begin.
    """

    starts: Int64[np.ndarray, " groups_and_end"]
    offsets: Int64[np.ndarray, " groups"]


def _layout(file: pq.ParquetFile, dim: int) -> _Layout | None:
    """None where the values are not plain, or not where they should be."""
    metadata, counts, offsets = file.metadata, [], []
    column = next((i for i in range(metadata.num_columns) if _is_embedding(metadata.schema.column(i).path)), None)
    if column is None:
        return None
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group)
        chunk, size = rows.column(column), rows.num_rows * dim * 2
        if chunk.compression != "UNCOMPRESSED" or chunk.has_dictionary_page:
            return None
        if chunk.num_values != rows.num_rows * dim or chunk.total_compressed_size < size:
            return None
        counts.append(rows.num_rows)
        offsets.append(chunk.data_page_offset + chunk.total_compressed_size - size)
    return _Layout(np.cumsum([0, *counts], dtype=np.int64), np.array(offsets, np.int64)) if counts else None


def _is_embedding(column: str) -> bool:
    return column.partition(".")[0] == "embedding"


def _agrees(file: pq.ParquetFile, mapped: _Mapped) -> bool:
    """Whether the first and the last row group are what pyarrow reads: another page or encoding would shift them."""
    starts = mapped.layout.starts.tolist()
    ends = sorted({0, len(starts) - 2})
    # At once and in this thread: the first queries of a large index spend most of their time here.
    wanted = embedding_column(file.read_row_groups(ends, ["embedding"], use_threads=False))
    got = (mapped.read(starts[group], starts[group + 1]) for group in ends)
    return wanted.dtype == np.float16 and wanted.tobytes() == b"".join(rows.tobytes() for rows in got)


class _Mapped:
    """A part whose values are read where they lie."""

    def __init__(self, path: Path, layout: _Layout, dim: int) -> None:
        self._file, self.layout, self._dim, self._width = MappedFile(path), layout, dim, 2 * dim
        self._starts, self._offsets = layout.starts.tolist(), layout.offsets.tolist()
        self._file.scatter()
        # One window of a row's size at every byte: NumPy copies rows out of it as plain bytes.
        windows = max(len(self._file.bytes) - self._width + 1, 0)
        self._windows = np.ndarray((windows,), f"V{self._width}", buffer=self._file.bytes.data, strides=(1,))

    def copy(self, rows: Int64[np.ndarray, " n"], into: Float16[np.ndarray, "n d"]) -> None:
        windows, found = self._windows, into.view(self._windows.dtype)[:, 0]
        if len(rows) > FEW:
            groups = np.searchsorted(self.layout.starts, rows, side="right") - 1
            found[:] = windows[self.layout.offsets[groups] + (rows - self.layout.starts[groups]) * self._width]
            return
        for i, row in enumerate(rows.tolist()):
            group = bisect_right(self._starts, row) - 1
            found[i] = windows[self._offsets[group] + (row - self._starts[group]) * self._width]

    def read(self, start: int, stop: int) -> Float16[np.ndarray, "n d"]:
        """A run of rows; what is read once does not stay in memory, as mapped pages do."""
        runs = self._runs(start, stop)
        if runs:
            self._file.expect(runs[0][0], runs[-1][1])
        found = np.empty((stop - start, self._dim), np.float16)
        filled, memory = 0, found.view(np.uint8).reshape(-1)
        for begin, end in runs:
            memory[filled : filled + end - begin] = self._file.bytes[begin:end]
            self._file.release(begin, end)
            filled += end - begin
        return found

    def _runs(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The bytes [begin, end) of rows [start, stop) in every row group that has some; of no rows there are none."""
        first, last = np.searchsorted(self.layout.starts, [start, stop - 1], side="right") - 1
        runs = []
        for group in range(int(first), int(last) + 1):
            base, offset = self._starts[group], self._offsets[group]
            low, high = max(start, base), min(stop, self._starts[group + 1])
            if low < high:
                runs.append((offset + (low - base) * self._width, offset + (high - base) * self._width))
        return runs


class _Decoded:
    """A part whose values pyarrow decodes."""

    def __init__(self, file: pq.ParquetFile, dim: int) -> None:
        self._file, self._dim, self._lock = file, dim, threading.Lock()
        counts = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        self._starts = np.cumsum([0, *counts], dtype=np.int64)

    def copy(self, rows: Int64[np.ndarray, " n"], into: Float16[np.ndarray, "n d"]) -> None:
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        for group in np.unique(groups):
            places = np.flatnonzero(groups == group)
            into[places] = self._group(int(group))[rows[places] - self._starts[group]]

    def read(self, start: int, stop: int) -> Float16[np.ndarray, "n d"]:
        first, last = np.searchsorted(self._starts, [start, stop - 1], side="right") - 1
        whole = np.concatenate([self._group(group) for group in range(int(first), int(last) + 1)])
        return whole[start - int(self._starts[first]) : stop - int(self._starts[first])]

    def _group(self, group: int) -> Float16[np.ndarray, "n d"]:
        with self._lock:
            values = embedding_column(self._file.read_row_group(group, ["embedding"]))
        return values.astype(np.float16, copy=False)
