"""Vectors and their metadata in files, one after the other, whatever the files are."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from simat.errors import StorageError

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK = 8192  # rows read at once
FLOATS = ("float16", "float32", "float64")

Blocks = Iterator[tuple[Float[np.ndarray, "n d"], "pa.Table"]]


@runtime_checkable
class Segment(Protocol):
    """One file of vectors and what is known of each.

    Attributes:
        name: for messages.
        rows: how many.
        dim: length of a vector.
        schema: columns of the metadata.
        state: what changes with the files.
    """

    name: str
    rows: int
    dim: int
    schema: pa.Schema
    state: str

    def read(self, start: int, stop: int) -> Blocks:
        """Rows [start, stop) in order, in blocks of some thousands: vectors, and a table of as many rows."""
        ...


class Vectors:
    """The rows of all segments, numbered from 0.

    Args:
        segments: in order; empty ones are left out.
        where: the folder, for messages.

    Raises:
        StorageError: no vectors, vectors without numbers, segments of different dimensions, or columns whose types have
            nothing in common.
    """

    def __init__(self, segments: Sequence[Segment], where: str) -> None:
        self.segments = [segment for segment in segments if segment.rows]
        if not self.segments:
            raise StorageError("no vectors here", got=where)
        self.where, self.dim = where, self.segments[0].dim
        if not self.dim:
            raise StorageError("the vectors have no numbers", got=self.segments[0].name)
        for segment in self.segments:
            if segment.dim != self.dim:
                raise StorageError(
                    f"{segment.name} holds vectors of another dimension than {self.segments[0].name}",
                    got=f"{segment.dim} instead of {self.dim}",
                    remedy="import the vectors of one encoder only",
                )
        self._firsts = [0, *accumulate(segment.rows for segment in self.segments)]
        self.schema = _unified(self.segments)

    def __len__(self) -> int:
        return self._firsts[-1]

    def read(self, start: int, stop: int) -> Blocks:
        """Rows [start, stop) in order; every table has all columns of :attr:`schema`, with nulls where it had none."""
        for first, segment in zip(self._firsts, self.segments, strict=False):
            low, high = max(start - first, 0), min(stop - first, segment.rows)
            if low < high:
                for vectors, table in segment.read(low, high):
                    yield vectors, _widened(table, self.schema, segment.name)

    def place(self, row: int) -> str:
        """Where a row is, for people."""
        number = bisect_right(self._firsts, row) - 1
        return f"row {row - self._firsts[number]} of {self.segments[number].name}"

    def state(self) -> list[str]:
        """What changes when a file does."""
        return [segment.state for segment in self.segments]


def aligned(blocks: Blocks, size: int) -> Blocks:
    """The same rows in blocks none of which holds rows of two parts.

    Args:
        blocks: from the first row of a part on.
        size: rows of a part.
    """
    left = size
    for vectors, table in blocks:
        place = 0
        while place < len(vectors):
            count = min(left, len(vectors) - place)
            yield vectors[place : place + count], table.slice(place, count)
            place, left = place + count, left - count or size


def state_of(*paths: Path) -> str:
    """What changes when one of the files is written again, be it with as many bytes."""
    found = ((path.name, path.stat()) for path in paths)
    return " ".join(f"{name} {status.st_size} {status.st_mtime_ns}" for name, status in found)


def _unified(segments: Sequence[Segment]) -> pa.Schema:
    import pyarrow as pa

    try:
        known = pa.unify_schemas([segment.schema for segment in segments], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        reason = str(error).splitlines()[0]
        raise StorageError("the files have columns of the same name and different types", got=reason) from error
    return pa.schema([_plain(field) for field in known])


def _plain(field: pa.Field) -> pa.Field:
    """A column as it is stored: without dictionaries, and of text where no row has a value."""
    import pyarrow as pa

    kind = field.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind) or pa.types.is_large_string(kind):
        kind = pa.string()
    return pa.field(field.name, kind)


def _widened(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    import pyarrow as pa

    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(len(table), field.type))
            continue
        try:
            columns.append(table[field.name].cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise StorageError(f"the column {field.name!r} of {name} cannot be read", got=reason) from error
    return pa.table(columns, schema=schema)
