"""Parquet files, read in blocks: metadata beside arrays, or vectors in a column of lists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from indexing.exchange.segments import BLOCK, FLOATS, Blocks, state_of
from simat.errors import StorageError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BUFFER = 2**20  # bytes of a column read at once: not the whole column of a row group, which may be any size


class ParquetSegment:
    """A file with a column of vectors.

    Args:
        path: of the file.
        column: lists of floats, all of one length.

    Raises:
        StorageError: no Parquet, or no such column in it.
    """

    def __init__(self, path: Path, column: str) -> None:
        file = footer(path)
        self.name, self._path, self._column = path.name, path, column
        self.rows = int(file.metadata.num_rows)
        schema = file.schema_arrow.remove_metadata()
        first = (batch.column(0) for batch in file.iter_batches(64, columns=[column]))
        self.dim = column_dim(schema, column, path.name, first) if self.rows else 0
        self.schema: pa.Schema = schema.remove(schema.get_field_index(column)) if self.rows else schema
        self.state = state_of(path)

    def read(self, start: int, stop: int) -> Blocks:
        """See :meth:`indexing.exchange.segments.Segment.read`."""
        for table in batches(self._path, start, stop):
            vectors = list_vectors(table[self._column], self.dim, self.name, start)
            yield vectors, table.drop_columns([self._column])
            start += len(table)


def parquet_segments(path: Path, column: str, names: Sequence[str] | None = None) -> list[ParquetSegment]:
    """The segments of a file, or of a folder's files in the order of their names.

    Args:
        path: a Parquet file, or a folder of them.
        column: holds the vectors.
        names: of the files in the folder, where their order is known.
    """
    if path.is_file():
        return [ParquetSegment(path, column)]
    files = [path / name for name in names] if names is not None else sorted(path.glob("*.parquet"))
    return [ParquetSegment(file, column) for file in files]


def footer(path: Path) -> pq.ParquetFile:
    """A Parquet file whose end has been read, and nothing else.

    Raises:
        StorageError: it is no Parquet file, or not a whole one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
    except (OSError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise StorageError(f"{path.name} is no whole Parquet file", got=reason) from error


def batches(path: Path, start: int, stop: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Rows [start, stop) of a file, in tables of at most ``BLOCK`` rows; memory does not grow with the row groups.

    Raises:
        StorageError: the file is damaged.
    """
    import pyarrow as pa

    with footer(path) as file:
        groups, first = _groups(file, start, stop)
        chosen = None if columns is None else [*columns]
        try:
            for batch in file.iter_batches(BLOCK, groups, columns=chosen):
                low, high = max(start - first, 0), min(stop - first, len(batch))
                if low < high:
                    yield pa.Table.from_batches([batch.slice(low, high - low)]).replace_schema_metadata(None)
                first += len(batch)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"{path.name} is damaged", got=str(error).splitlines()[0]) from error


def _groups(file: pq.ParquetFile, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that rows [start, stop) lie in, and the first row of the first of them."""
    groups: list[int] = []
    begin, first = 0, start
    for number in range(file.metadata.num_row_groups):
        end = begin + file.metadata.row_group(number).num_rows
        if begin < stop and end > start:
            first = first if groups else begin
            groups.append(number)
        begin = end
    return groups, first


def list_vectors(column: pa.ChunkedArray, dim: int, name: str, first: int) -> Float[np.ndarray, "n d"]:
    """A column of lists as an array; rows without a vector are NaN.

    Args:
        column: lists of floats.
        dim: their length.
        name: of the file, for messages.
        first: number of the first row, for messages.

    Raises:
        StorageError: a list of another length.
    """
    import pyarrow.compute as pc

    column = column.combine_chunks()
    lengths = pc.list_value_length(column).fill_null(dim).to_numpy(zero_copy_only=False)
    other = np.flatnonzero(lengths != dim)
    if len(other):
        raise StorageError(
            f"row {first + other[0]} of {name} holds a vector of another dimension",
            got=f"{lengths[other[0]]} instead of {dim}",
        )
    given: Float[np.ndarray, "m d"] = column.drop_null().flatten().to_numpy(zero_copy_only=False).reshape(-1, dim)
    if not column.null_count:
        return given
    vectors = np.full((len(column), dim), np.nan, given.dtype)
    vectors[column.is_valid().to_numpy(zero_copy_only=False)] = given
    return vectors


def column_dim(schema: pa.Schema, column: str, name: str, pieces: Iterable[pa.Array]) -> int:
    """The dimension of the vectors in a column of lists.

    Args:
        schema: of the file.
        column: holds the vectors.
        name: of the file, for messages.
        pieces: of the column; read up to the first vector that is not empty, where the schema does not tell its length.

    Raises:
        StorageError: no such column, one of something else, one without any vector, or a damaged file.
    """
    import pyarrow as pa

    if schema.names.count(column) != 1:
        raise StorageError(
            f"{name} has no column of vectors {column!r}",
            got=f"the columns {', '.join(schema.names)}",
            remedy="name the column of vectors with --column",
        )
    kind = schema.field(column).type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or _float_name(kind.value_type) not in FLOATS:
        raise StorageError(f"the column {column!r} of {name} must hold lists of floats", got=str(kind))
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    try:
        lengths = (length for piece in pieces for length in piece.value_lengths().to_pylist() if length)
        dim: int = next(lengths, 0)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StorageError(f"{name} is damaged", got=str(error).partition("\n")[0]) from error
    if not dim:
        raise StorageError(f"no row of {name} has a vector")
    return dim


def _float_name(kind: pa.DataType) -> str:
    return {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(kind), str(kind))
