"""What a source lists: a picture's path, its caption, and whatever else is known of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simat.embeddings import FIXED

if TYPE_CHECKING:
    import pyarrow as pa

SIDECARS = (".txt", ".json")
MOST_COLUMNS = 256
DEEPEST = 32  # documents inside one another
CAPTIONS = ("caption", "text")
BOOL, INT, FLOAT, TEXT = "bool", "int64", "double", "string"
Facts = Mapping[str, Any]
"""Columns of one picture: values of type bool, int, float or str."""


@dataclass(frozen=True)
class Item:
    """A picture that a source lists.

    Attributes:
        path: relative to the root of the source, perhaps inside a container (:mod:`simat.containers`).
        caption: what it shows, in words.
        facts: what else is known of it, by column.
    """

    path: str
    caption: str | None = None
    facts: Facts = field(default_factory=dict)


class Columns:
    """The columns that the facts of many pictures need, in the order in which they turn up, each of one type.

    Numbers widen from int64 to double; of everything else that differs, texts are made.

    Attributes:
        types: by name.
        too_many: whether there were more than ``MOST_COLUMNS``.
    """

    def __init__(self, types: Mapping[str, str] | None = None) -> None:
        self.types = dict(types or {})
        self.too_many = False

    def add(self, facts: Facts) -> None:
        """Take note of one picture's facts; after ``MOST_COLUMNS`` columns, new ones are left out."""
        for name, value in facts.items():
            kind, known = _kind(value), self.types.get(name)
            if known is None and len(self.types) < MOST_COLUMNS:
                self.types[name] = kind
            elif known is None:
                self.too_many = True
            elif known != kind:
                self.types[name] = FLOAT if {known, kind} == {INT, FLOAT} else TEXT

    def table(self, facts: Sequence[Facts]) -> pa.Table:
        """The facts of n pictures as n rows; null where one says nothing."""
        import pyarrow as pa

        columns = {
            name: pa.array([_as(kind, row.get(name)) for row in facts], getattr(pa, _ARROW[kind])())
            for name, kind in self.types.items()
        }
        return pa.table(columns)


_ARROW = {BOOL: "bool_", INT: "int64", FLOAT: "float64", TEXT: "string"}


def sidecars(path: str, there: Callable[[str], bool]) -> dict[str, str]:
    """The files beside a picture that may describe it, by suffix.

    Args:
        path: of the picture.
        there: whether there is a file of this path.
    """
    stem = path.rpartition(".")[0]
    return {suffix: stem + suffix for suffix in SIDECARS if there(stem + suffix)}


def described(
    values: Mapping[str, Any], caption: str | None = None, column: str | None = None
) -> tuple[str | None, Facts]:
    """The caption and the facts in a document or in the row of a table.

    Args:
        values: of any types.
        caption: one that is known already.
        column: which value the caption is, instead of the first of ``CAPTIONS`` that is there.
    """
    values = dict(values)
    for name in [column] if column else CAPTIONS:
        found = _words(values.get(name))
        if found is not None and caption in (None, found):
            caption = found
            del values[name]
    return caption, {_column(name): value for name, value in _flat("", values)}


def tidy(text: str) -> str | None:
    """A text without what Unicode cannot hold and without space around it; None where nothing is left."""
    return text.encode("utf-8", "replace").decode().strip("\ufeff\0 \t\r\n") or None


def to_json(facts: Facts) -> str | None:
    """Facts for a list on disk; None for none."""
    return json.dumps(dict(facts), ensure_ascii=False) if facts else None


def from_json(text: str | None) -> Facts:
    """The inverse of :func:`to_json`."""
    return dict(json.loads(text)) if text else {}


def _flat(prefix: str, values: Mapping[str, Any], depth: int = 1) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            if depth < DEEPEST:
                yield from _flat(f"{prefix}{name}_", value, depth + 1)
        elif (simple := _simple(value)) is not None:
            yield f"{prefix}{name}", simple


def _simple(value: Any) -> bool | int | float | str | None:
    """A value of one of four types; None for what no filter can use: nothing, bytes, vectors."""
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list | tuple):
        return json.dumps(value, ensure_ascii=False) if value and all(isinstance(v, str) for v in value) else None
    return None if value is None or isinstance(value, bytes) else str(value)


def _words(value: Any) -> str | None:
    if isinstance(value, list | tuple) and value:  # several captions: the first one
        value = value[0]
    return tidy(value) if isinstance(value, str) else None


def _column(name: str) -> str:
    name = name.encode("utf-8", "replace").decode() or "_"
    return f"source_{name}" if name.lower() in FIXED else name


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT if -(2**63) <= value < 2**63 else TEXT
    return FLOAT if isinstance(value, float) else TEXT


def _as(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == TEXT:
        return value if isinstance(value, str) else json.dumps(value)
    return float(value) if kind == FLOAT else value
