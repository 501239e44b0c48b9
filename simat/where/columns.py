"""The metadata of an embedding set by columns, for filters."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from simat.embeddings import PartReader, schema
from simat.errors import QueryError

if TYPE_CHECKING:
    import pyarrow as pa

HIDDEN = frozenset({"embedding", "path_bytes"})
MOST_TOLD = 60  # characters of a name that is not there
BLOCK = 2**20  # rows looked at together, at least: whole parts
REMEMBERED = 512 * 2**20  # bytes of columns that are kept


class Columns:
    """The columns of an embedding set; those that were read last stay in memory. Safe to share between threads.

    Args:
        parts: an open embedding set.
    """

    def __init__(self, parts: PartReader) -> None:
        self._parts = parts
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, str], pa.ChunkedArray] = OrderedDict()
        self._bytes = 0

    @cached_property
    def types(self) -> dict[str, pa.DataType]:
        """Every column that a filter may name, with its type: the widest, where the parts do not agree."""
        import pyarrow as pa

        found = dict(self._always)
        for part in range(len(self._parts.counts)):
            for field in self._parts.part_schema(part):
                if field.name not in HIDDEN:
                    found[field.name] = widest(found.get(field.name, field.type), field.type)
        shown = {pa.null(): pa.string(), pa.float16(): pa.float32()}  # DuckDB knows no half precision
        return {name: shown.get(kind, kind) for name, kind in found.items()}

    @cached_property
    def _always(self) -> dict[str, pa.DataType]:
        """The columns of every part: for these alone, thousands of files need not be opened beforehand."""
        return {field.name: field.type for field in schema(1) if field.name not in HIDDEN}

    def named(self, name: str) -> str:
        """The column that a filter names, in whatever case.

        Raises:
            QueryError: none, or several; lists what there is.
        """
        if name in self._always or name in self.types:
            return name
        alike = [known for known in self.types if known.lower() == name.lower()]
        if len(alike) != 1:
            what = "several columns have this name" if alike else "no such column"
            raise QueryError(what, got=name[:MOST_TOLD], remedy=f"there are: {', '.join(alike or self.types)}")
        return alike[0]

    def blocks(self, names: Sequence[str]) -> Iterator[tuple[int, list[pa.ChunkedArray]]]:
        """The number of rows and the named columns of one block after another, in the order of the ids."""
        counts = self._parts.counts
        for number, (first, last) in enumerate(pairwise(self._bounds)):
            yield sum(counts[first:last]), self._columns(number, range(first, last), names)

    @cached_property
    def _bounds(self) -> list[int]:
        bounds, rows = [0], 0
        for part, count in enumerate(self._parts.counts, 1):
            rows += count
            if rows >= BLOCK or part == len(self._parts.counts):
                bounds.append(part)
                rows = 0
        return bounds

    def _columns(self, block: int, parts: range, names: Sequence[str]) -> list[pa.ChunkedArray]:
        with self._lock:
            known = {name: self._known[block, name] for name in names if (block, name) in self._known}
        missing = [name for name in names if name not in known]
        known.update(self._read(parts, missing) if missing else {})
        with self._lock:
            for name in names:
                if (block, name) not in self._known:
                    self._known[block, name] = known[name]
                    self._bytes += known[name].nbytes
                self._known.move_to_end((block, name))
            while self._bytes > REMEMBERED:
                self._bytes -= self._known.popitem(last=False)[1].nbytes
        return [known[name] for name in names]

    def _read(self, parts: range, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
        import pyarrow as pa

        chunks: dict[str, list[pa.Array]] = {name: [] for name in names}
        kinds = {name: self._always.get(name) or self.types[name] for name in names}
        for part in parts:
            table = self._parts.part_columns(part, names)
            for name, kind in kinds.items():
                if name in table.column_names:
                    column = table[name]
                    chunks[name] += _as(column, kind, name).chunks
                else:
                    chunks[name].append(pa.nulls(table.num_rows, kind))
        columns = [pa.chunked_array(chunks[name], kind) for name, kind in kinds.items()]
        # In one piece: thousands of row groups make thousands of pieces, and each costs DuckDB a call.
        whole = pa.table(columns, names=[*names]).combine_chunks()
        return {name: whole[name] for name in names}


def _as(column: pa.ChunkedArray, kind: pa.DataType, name: str) -> pa.ChunkedArray:
    import pyarrow as pa

    try:
        return column if column.type == kind else column.cast(kind)
    except pa.ArrowException as error:
        types = f"{column.type} and {kind}"
        raise QueryError("a column whose values differ in type from part to part", got=f"{name}: {types}") from error


def widest(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type that holds values of both; text where there is no other."""
    import pyarrow as pa

    if one == other:
        return one
    fields = [pa.schema([("column", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(fields, promote_options="permissive").field("column").type
    except pa.ArrowTypeError:
        return pa.string()
