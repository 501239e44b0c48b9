"""Parquet and Arrow files whose rows are images, or name them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexing.items import Item, described
from simat.containers import table
from simat.errors import BuildError, ImageError, StorageError
from simat.tables import image_column, is_bytes, is_image_struct, is_text

if TYPE_CHECKING:
    import pyarrow as pa

ELSEWHERE = Path("/")


class Rows:
    """The rows of a Parquet or Arrow file, one image each.

    A column of bytes gives images inside the file, ``b.parquet/17``; so does one of ``struct<bytes, path>``. A column
    of paths, relative to the file's folder, gives these.

    Args:
        path: of the file.
        image: name of the column of images; found by type and name where it is empty.
        caption: name of the column of captions; ``caption`` or ``text`` where it is empty.

    Attributes:
        root: what the paths are relative to: the folder of the file, or ``/`` where its paths lead out of it.

    Raises:
        BuildError: the file cannot be read, or has no such column.
    """

    bad_sidecars = 0

    def __init__(self, path: Path, image: str = "", caption: str = "") -> None:
        self._path, self._caption = path.absolute(), caption
        try:
            self._table = table(path)
        except (ImageError, StorageError) as error:
            raise BuildError(error.what, got=error.got) from error
        schema = self._table.schema
        self._column = _checked(schema, image or image_column(schema), path)
        if caption and caption not in schema.names:
            raise BuildError(f"no column {caption!r} in {path.name}", got=_listed(schema))
        self._suffix = "" if self._column == image_column(schema) else f"/{self._column}"
        self._paths = is_text(schema.field(self._column).type)
        self.root = self._path.parent if not self._paths or self._stay_inside() else ELSEWHERE

    def items(self) -> Iterator[Item]:
        """Every row, with the words and facts of its other columns.

        Raises:
            BuildError: the file is damaged.
        """
        facts = _fact_columns(self._table.schema, self._column, self._caption)
        prefix = os.fspath(self._path.relative_to(self.root))
        number = 0
        try:
            for count, rows in self._batches([*facts, *([self._column] if self._paths else [])]):
                for row in rows or ({} for _ in range(count)):
                    named = row.pop(self._column, None) if self._paths else None
                    inner = f"{prefix}/{number}{self._suffix}"
                    yield Item(self._named(named) or inner, *described(_labelled(row, facts), None, self._caption))
                    number += 1
        except StorageError as error:
            raise BuildError(error.what, got=error.got) from error

    def _batches(self, columns: list[str]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Rows by the thousand; nothing is read where no column is wanted."""
        if not columns:
            yield self._table.rows, []
            return
        for batch in self._table.batches(columns):
            yield batch.num_rows, batch.to_pylist()

    def _stay_inside(self) -> bool:
        first = next((row[self._column] for _, rows in self._batches([self._column]) for row in rows), None)
        return self._inside(first or "", self._path.parent) is not None

    def _named(self, path: str | None) -> str | None:
        return self._inside(path, self.root) if path else None

    def _inside(self, path: str, root: Path) -> str | None:
        """A path of the file as one relative to ``root``; None where it leads out of that."""
        whole = os.path.normpath(self._path.parent / path)
        relative = os.path.relpath(whole, root)
        return None if relative.startswith("..") or "\0" in relative else relative


def _checked(schema: pa.Schema, column: str | None, path: Path) -> str:
    if column is None or column not in schema.names:
        what = f"no column {column!r} in {path.name}" if column else f"no column of images in {path.name}"
        raise BuildError(what, got=_listed(schema), remedy="name one with --image-column")
    kind = schema.field(column).type
    if not (is_image_struct(kind) or is_bytes(kind) or is_text(kind)):
        raise BuildError(f"the column {column!r} holds neither images nor paths", got=str(kind))
    return column


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)[:500]


def _fact_columns(schema: pa.Schema, image: str, caption: str) -> dict[str, Sequence[str]]:
    """The columns worth keeping, with the names of their classes where they have some."""
    chosen = [f.name for f in schema if f.name != image and (_simple(f.type) or f.name == caption)]
    return {name: _classes(schema).get(name, ()) for name in chosen}


def _simple(kind: pa.DataType) -> bool:
    """Whether a column has values that a filter could use; images, bytes and vectors are not."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return not is_image_struct(kind) and all(_simple(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return is_text(kind.value_type)
    return not (pa.types.is_nested(kind) or is_bytes(kind) or pa.types.is_fixed_size_binary(kind))


def _classes(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Names of classes by column, as ``datasets`` notes them in the metadata of a schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: list(kind["names"]) for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _labelled(row: Mapping[str, Any], columns: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A row with the names of classes instead of their numbers."""
    told = dict(row)
    for name, classes in columns.items():
        value = told.get(name)
        if classes and isinstance(value, int) and 0 <= value < len(classes):
            told[name] = classes[value]
    return told
