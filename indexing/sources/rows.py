"""Parquet and Arrow files whose rows are images, or name them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    of paths, relative to the file's folder, gives these. The file is open only while its rows are listed: there may
    be thousands of such sources.

    Args:
        path: of the file.
        image: name of the column of images; found by type and name where it is empty.
        caption: name of the column of captions; ``caption`` or ``text`` where it is empty.

    Attributes:
        root: what the paths are relative to: the folder of the file, or ``/`` where its paths lead out of it.
        unread: values that could not be understood, such as text that is not UTF-8, in the rows listed so far.

    Raises:
        BuildError: the file cannot be read, or has no such column.
    """

    def __init__(self, path: Path, image: str = "", caption: str = "") -> None:
        self._path, self._caption, self.unread = path.absolute(), caption, 0
        with _told():
            schema = table(self._path).schema
        self._column = _image_column(schema, image, path)
        if caption and not _is_words(_field(schema, caption, path).type):
            raise BuildError(f"the column {caption!r} holds no words", got=str(schema.field(caption).type))
        self._facts = _fact_columns(schema, self._column, caption)
        self._suffix = "" if self._column == image_column(schema) else f"/{self._column}"
        self._paths = is_text(schema.field(self._column).type)
        self.root = self._path.parent if not self._paths or self._stay_inside() else ELSEWHERE

    def items(self) -> Iterator[Item]:
        """Every row, with the words and facts of its other columns.

        Raises:
            BuildError: the file is damaged.
        """
        prefix = os.fspath(self._path.relative_to(self.root))
        number = self.unread = 0
        for count, rows in self._batches([*self._facts, *([self._column] if self._paths else [])]):
            for row in rows or ({} for _ in range(count)):
                named = row.pop(self._column, None) if self._paths else None
                inner = f"{prefix}/{number}{self._suffix}"
                yield Item(self._named(named) or inner, *described(_labelled(row, self._facts), None, self._caption))
                number += 1

    def _batches(self, columns: list[str]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """Rows by the thousand; nothing is read where no column is wanted."""
        with _told():
            opened = table(self._path)
            if not columns:
                yield opened.rows, []
                return
            for batch in opened.batches(columns):
                yield batch.num_rows, self._values(batch)

    def _values(self, batch: pa.RecordBatch) -> list[dict[str, Any]]:
        try:
            return list(batch.to_pylist())
        except (ValueError, OverflowError):  # one value spoils no other
            columns = [[self._value(value) for value in batch.column(name)] for name in batch.schema.names]
            return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]

    def _value(self, value: pa.Scalar) -> Any:
        try:
            return value.as_py()
        except (ValueError, OverflowError):
            self.unread += 1
            return None

    def _stay_inside(self) -> bool:
        first = next((row[self._column] for _, rows in self._batches([self._column]) for row in rows), None)
        return self._inside(first or "", self._path.parent) is not None

    def _named(self, path: str | None) -> str | None:
        return self._inside(path, self.root) if path else None

    def _inside(self, path: str, root: Path) -> str | None:
        """A path of the file as one relative to ``root``; None where it leads out of that."""
        whole = os.path.normpath(self._path.parent / path)
        relative = os.path.relpath(whole, root)
        return None if relative.partition("/")[0] == ".." or "\0" in relative else relative


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with a table, as an error of the build."""
    try:
        yield
    except (ImageError, StorageError) as error:
        raise BuildError(error.what, got=error.got, remedy="fetch it again, or leave it out") from error


def _image_column(schema: pa.Schema, name: str, path: Path) -> str:
    column = name or image_column(schema)
    if column is None:
        what = f"no column of images in {path.name}"
        raise BuildError(what, got=_listed(schema), remedy="name one with --image-column")
    kind = _field(schema, column, path).type
    if not (is_image_struct(kind) or is_bytes(kind) or is_text(kind)):
        raise BuildError(f"the column {column!r} holds neither images nor paths", got=str(kind))
    return column


def _field(schema: pa.Schema, name: str, path: Path) -> pa.Field:
    """The one column of a name."""
    count = schema.names.count(name)
    if count != 1:
        what = f"{'several columns' if count else 'no column'} {name!r} in {path.name}"
        raise BuildError(what, got=_listed(schema), remedy="name one that there is")
    return schema.field(name)


def _listed(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)[:500]


def _fact_columns(schema: pa.Schema, image: str, caption: str) -> dict[str, Sequence[str]]:
    """The columns worth keeping, with the names of their classes where they have some."""
    chosen = [f.name for f in schema if f.name != image and (_simple(f.type) or f.name == caption)]
    classes = _classes(schema)
    return {name: classes.get(name, ()) for name in chosen if schema.names.count(name) == 1}


def _simple(kind: pa.DataType) -> bool:
    """Whether a column has values that a filter could use; images, bytes and vectors are not."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return not is_image_struct(kind) and all(_simple(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return is_text(kind.value_type)
    return not (pa.types.is_nested(kind) or is_bytes(kind) or pa.types.is_fixed_size_binary(kind))


def _is_words(kind: pa.DataType) -> bool:
    """Whether a column has captions: text, or several for an image."""
    import pyarrow as pa

    while pa.types.is_dictionary(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    return is_text(kind) or pa.types.is_null(kind)


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
