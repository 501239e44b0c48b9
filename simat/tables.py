"""Pictures in the rows of Parquet and Arrow files, read one row at a time with little memory.

Hugging Face's ``datasets`` and most collections on hubs keep an image as ``struct<bytes: binary, path: string>``;
others have a column of bytes, or of paths.
"""

from __future__ import annotations

import resource
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simat.errors import ImageError, StorageError

if TYPE_CHECKING:
    import pyarrow as pa

    Numbered = tuple[int, pa.RecordBatch]  # the number of the first row, and rows

ROWS = 16  # read at a time: pictures are large
BYTES_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "picture", "photo")
PATH_NAMES = ("image", "image_path", "img_path", "file_name", "filename", "filepath", "file", "path")


class Table:
    """A Parquet or Arrow file, opened for reading.

    Attributes:
        path: of the file.
        schema: its columns.

    Raises:
        StorageError: the file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._cursors: dict[str, _Cursor] = {}
        with _readable(path):
            self._file: _Parquet | _Arrow = _Parquet(path) if path.suffix.lower() == ".parquet" else _Arrow(path)
        self.schema: pa.Schema = self._file.schema

    @cached_property
    def rows(self) -> int:
        """Number of rows.

        Raises:
            StorageError: the file is damaged.
        """
        with _readable(self.path):
            return self._file.count()

    def batches(self, columns: Sequence[str], size: int = 1024) -> Iterator[pa.RecordBatch]:
        """All rows of some columns, in order.

        Raises:
            StorageError: the file is damaged.
        """
        with _readable(self.path):
            for _, batch in self._file.batches(0, columns, size):
                yield batch

    def value(self, row: int, column: str) -> Any:
        """One value as a Python object; safe to call from several threads, quickest for one row after another.

        Raises:
            ImageError: no such row or column.
            StorageError: the file is damaged.
        """
        if self.schema.names.count(column) != 1:
            several = column in self.schema.names
            raise ImageError(f"{'several columns' if several else 'no column'} {column!r}", got=self.path.name)
        with self._lock, _readable(self.path):
            cursor = self._cursors.setdefault(column, _Cursor(self._file, column))
            return cursor.value(row)


class _Cursor:
    """Reads a column forwards; goes back, or over what need not be read, by a new start."""

    def __init__(self, file: _Parquet | _Arrow, column: str) -> None:
        self._file, self._column = file, column
        self._rest: Iterator[Numbered] = iter(())
        self._now: Numbered | None = None

    def value(self, row: int) -> Any:
        """The value of a row."""
        if self._now is None or row < self._now[0] or row >= self._file.better_start(self._now[0]):
            self._now, self._rest = None, self._file.batches(row, [self._column], ROWS)
        while self._now is None or row >= self._now[0] + self._now[1].num_rows:
            self._now = None  # and so it stays where reading fails: the next call starts anew
            self._now = next(self._rest, None)
            if self._now is None:
                raise ImageError("no such row", got=row)
        first, batch = self._now
        return batch.column(0)[row - first].as_py()


class _Parquet:
    """Read through a buffer and not mapped: the address space of a decoder is bounded."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path, memory_map=False, pre_buffer=False, buffer_size=2**20)
        self._starts = [0]
        for group in range(self._file.metadata.num_row_groups):
            self._starts.append(self._starts[-1] + self._file.metadata.row_group(group).num_rows)
        self.schema: pa.Schema = self._file.schema_arrow

    def count(self) -> int:
        """Number of rows."""
        return self._starts[-1]

    def batches(self, row: int, columns: Sequence[str], size: int) -> Iterator[Numbered]:
        """Rows, from the row group of ``row`` on."""
        for group, (start, end) in enumerate(pairwise(self._starts)):
            if end > row:
                yield from self._group(group, start, columns, size)

    def _group(self, group: int, place: int, columns: Sequence[str], size: int) -> Iterator[Numbered]:
        for batch in self._file.iter_batches(size, row_groups=[group], columns=columns, use_threads=False):
            yield place, batch
            place += batch.num_rows

    def better_start(self, row: int) -> int:
        """The first row that is reached sooner by a new start than by reading on from ``row``."""
        return self._starts[min(bisect_right(self._starts, row), len(self._starts) - 1)]


class _Arrow:
    """A stream or a file of record batches, mapped where the address space is not bounded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._reader() as reader:
            self.schema: pa.Schema = reader.schema

    def count(self) -> int:
        """Number of rows: a stream tells it at its end only."""
        return sum(batch.num_rows for batch in self._every())

    def batches(self, row: int, columns: Sequence[str], size: int) -> Iterator[Numbered]:
        """Rows, from the batch of ``row`` on; a batch is at most as large as the file has it."""
        first = 0
        for batch in self._every():
            if first + batch.num_rows > row:
                chosen = batch.select(columns)
                chosen.validate(full=True)
                yield first, chosen
            first += batch.num_rows

    def better_start(self, row: int) -> float:
        """Reading on is never the longer way."""
        return float("inf")

    def _every(self) -> Iterator[pa.RecordBatch]:
        with self._reader() as reader:
            if hasattr(reader, "get_batch"):
                yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
            else:
                yield from reader

    @contextmanager
    def _reader(self) -> Iterator[Any]:
        import pyarrow as pa

        bounded = resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
        path = str(self._path)
        with pa.OSFile(path) if bounded else pa.memory_map(path) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            with pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source) as reader:
                yield reader


def image_column(schema: pa.Schema) -> str | None:
    """The column that holds the pictures, by its type and then by its name; None where there is none, or a choice."""
    for fits, names in ((is_image_struct, BYTES_NAMES), (is_bytes, BYTES_NAMES), (is_text, PATH_NAMES)):
        columns: list[str] = [field.name for field in schema if fits(field.type)]
        if len(columns) == 1 and fits is not is_text:  # words need not be paths
            return columns[0]
        for name in names:
            if name in columns:
                return name
    return None


def is_image_struct(kind: pa.DataType) -> bool:
    """Whether a column is of the type that ``datasets`` keeps images in."""
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    fields = {field.name: field.type for field in kind}
    return "bytes" in fields and is_bytes(fields["bytes"]) and ("path" not in fields or is_text(fields["path"]))


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a column holds bytes."""
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds words."""
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, EOFError, ValueError, OverflowError) as error:  # text that is not UTF-8
        reason = str(error).partition("\n")[0][:200] or type(error).__name__
        raise StorageError("cannot read the table", got=f"{path.name}: {reason}") from error
