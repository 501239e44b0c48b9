"""Metadata in one type where it comes in several, without loss: of many parts, and of images that come later."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from indexing.scan import read_columns, read_items
from simat.embeddings import FIXED, PartReader
from simat.errors import BuildError
from simat.where.columns import widest

if TYPE_CHECKING:
    import pyarrow as pa

LOOKED_AT = 2**16  # images of a scan at a time


class KnownColumns:
    """The further columns of an index; those of images that are added take on their types.

    Args:
        embeddings: of the index.
    """

    def __init__(self, embeddings: PartReader) -> None:
        self._embeddings = embeddings

    def check(self, scan: Path, files: int) -> None:
        """Look at all values that a scan lists, before anything is done with them.

        Args:
            scan: list written by :func:`indexing.scan.write_items`.
            files: its length.

        Raises:
            BuildError: as :meth:`fitted` does.
        """
        columns = read_columns(scan)
        if all(self._types.get(field.name, field.type) == field.type for field in columns.table([]).schema):
            return
        for start in range(0, files, LOOKED_AT):
            items = read_items(scan, start, start + LOOKED_AT)
            self.fitted(columns.table([item.facts for item in items]))

    def fitted(self, table: pa.Table) -> pa.Table:
        """The same rows with the columns that the index has in its types; those that it has not, as they are.

        Raises:
            BuildError: a value would not be the same any more.
        """
        import pyarrow as pa

        for place, name in enumerate(table.column_names):
            values, kind = table[name], self._types.get(name)
            if kind is None or kind == values.type:
                continue
            if not (pa.types.is_string(kind) or is_lossless(values, kind)):
                raise _unfit(name, values, kind)
            table = table.set_column(place, name, with_type(values, kind))
        return table

    @cached_property
    def _types(self) -> dict[str, pa.DataType]:
        import pyarrow as pa

        fields = common_schema([self._embeddings])
        return {field.name: field.type for field in fields if not (field.name in FIXED or pa.types.is_null(field.type))}


def common_schema(sets: Sequence[PartReader]) -> pa.Schema:
    """The columns of all parts of some embedding sets, ``embedding`` last.

    Where types differ, it is the narrowest that holds the values of all; text, where there is none.
    """
    import pyarrow as pa

    parts = [(one, part, one.part_schema(part)) for one in sets for part in range(len(one.counts))]
    fields: dict[str, pa.Field] = {}
    for _, _, schema in parts:
        for field in schema:
            known = fields.setdefault(field.name, field)
            if known.type != field.type and field.name not in FIXED:
                fields[field.name] = known.with_type(widest(known.type, field.type))
    for one, part, schema in parts:
        for field in schema:
            kind = fields[field.name].type
            differs = kind != field.type and field.name not in FIXED
            if differs and not is_lossless(one.part_columns(part, [field.name])[field.name], kind):
                fields[field.name] = fields[field.name].with_type(pa.string())
    missing = {name for name in fields if not all(name in schema.names for _, _, schema in parts)}
    fields = {name: field.with_nullable(field.nullable or name in missing) for name, field in fields.items()}
    last = fields.pop("embedding")
    return pa.schema([*fields.values(), last])


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The same rows under another schema: columns that are missing are null."""
    import pyarrow as pa

    columns = [
        with_type(table[field.name], field.type)
        if field.name in table.column_names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def is_lossless(values: pa.ChunkedArray, kind: pa.DataType) -> bool:
    """Whether values that become of another type, and then of their own again, are the same as before."""
    import pyarrow as pa

    if values.null_count == len(values):
        return True
    try:
        back = values.cast(kind).cast(values.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return False
    return bool(_without_nan(back).equals(_without_nan(values)))


def with_type(values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """The same values in a type that holds them; everything can become text."""
    import pyarrow as pa

    try:
        return values.cast(kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        if not pa.types.is_string(kind):
            raise
        texts = [None if value is None else str(value) for value in values.to_pylist()]
        return pa.chunked_array([pa.array(texts, kind)])


def _without_nan(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Null in the place of what is not equal to itself."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pa.types.is_floating(values.type):
        return values
    return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)


def _unfit(name: str, values: pa.ChunkedArray, kind: pa.DataType) -> BuildError:
    wrong = next(i for i in range(len(values)) if not is_lossless(values.slice(i, 1), kind))
    return BuildError(
        f"the column {name!r} of this index holds values of type {kind}",
        got=repr(values[wrong].as_py()),
        remedy="make the new images an index of their own, and one of both with 'simat index merge'",
    )
