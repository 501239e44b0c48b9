"""From a checked filter to an expression of Milvus that lets the same rows pass.

Milvus has no three-valued logic to rely on, so nothing is left to it: negations are moved down to the comparisons
(De Morgan), where every comparison is written so that it is false for a null, negated or not. What SQL calls unknown
is then false at every leaf, and of leaves joined by ``and`` and ``or`` those are true that SQL finds true.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

import numpy as np

from simat.errors import QueryError
from simat.milvus.fields import DOUBLE, ID, INTEGER, OTHER, SINGLE, TEXT, TRUTH
from simat.where import Call, Column, Literal, Node

ALL, NONE = f"{ID} >= 0", f"{ID} < 0"
NEGATED = {"=": "!=", "!=": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
TURNED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
LARGEST = 2**63 - 1
AFFIXES = {"starts_with": "{}%", "prefix": "{}%", "ends_with": "%{}", "suffix": "%{}", "contains": "%{}%"}
REMEDY = "compare columns with values, with =, <, in, between, like, is null, and, or, not"
Columns = Mapping[str, tuple[str, str]]
Value = bool | int | Decimal | str


@dataclass(frozen=True)
class _Field:
    """A column in Milvus: its name there, and what it holds."""

    name: str
    kind: str


def expression(node: Node, columns: Columns) -> str:
    """What Milvus is asked for the rows for which the condition is true.

    Args:
        node: a checked filter's condition.
        columns: the field and the kind of every column, by its name.

    Raises:
        QueryError: a column that is not there, or what cannot be said to Milvus.
    """
    return _Writer(columns).said(node, True)


class _Writer:
    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def said(self, node: Node, wanted: bool) -> str:
        """An expression that is true where the node is known to be ``wanted``."""
        if isinstance(node, Column):
            field = self._field(node)
            self._require(field, TRUTH)
            return f"{field.name} == {'true' if wanted else 'false'}"
        if isinstance(node, Literal) and (node.value is None or isinstance(node.value, bool)):
            return ALL if node.value is wanted else NONE
        if not isinstance(node, Call):
            raise _refused("a value as a condition" if isinstance(node, Literal) else "a cast")
        return self._call(node, wanted)

    def _call(self, node: Call, wanted: bool) -> str:
        writers = {
            "not": self._not,
            **dict.fromkeys(("and", "or"), self._joined),
            **dict.fromkeys(NEGATED, self._comparison),
            "between": self._between,
            **dict.fromkeys(("is null", "is not null"), self._nullness),
            **dict.fromkeys(("is distinct from", "is not distinct from"), self._distinct),
            "in": self._listed,
            **dict.fromkeys(("like", *AFFIXES), self._like),
        }
        if node.name not in writers:
            raise _refused(node.name)
        return writers[node.name](node, wanted)

    def _not(self, node: Call, wanted: bool) -> str:
        return self.said(node.arguments[0], not wanted)

    def _joined(self, node: Call, wanted: bool) -> str:
        word = node.name if wanted else {"and": "or", "or": "and"}[node.name]
        return "(" + f" {word} ".join(self.said(operand, wanted) for operand in node.arguments) + ")"

    def _comparison(self, node: Call, wanted: bool) -> str:
        return self._compared(node.name if wanted else NEGATED[node.name], *node.arguments)

    def _between(self, node: Call, wanted: bool) -> str:
        operand, least, most = node.arguments
        return self.said(Call("and", (Call(">=", (operand, least)), Call("<=", (operand, most)))), wanted)

    def _nullness(self, node: Call, wanted: bool) -> str:
        return self._known(node.arguments[0], (node.name == "is not null") is wanted)

    def _compared(self, sign: str, left: Node, right: Node) -> str:
        if _value(left) is not _NO_VALUE:
            left, right, sign = right, left, TURNED[sign]
        field, value = self._field(left), _value(right)
        if value is None:
            return NONE
        if value is _NO_VALUE:
            return self._fields_compared(sign, field, self._field(right))
        assert isinstance(value, bool | int | Decimal | str)
        self._require(field, *_kinds(value))
        if isinstance(value, bool) and sign not in {"=", "!="}:
            raise _refused(f"{sign} of truth values")
        if field.kind == INTEGER and not isinstance(value, bool | str):
            return _integers(field.name, sign, Decimal(value))
        return _leaf(field.name, sign, _written(value, field.kind))

    def _fields_compared(self, sign: str, left: _Field, right: _Field) -> str:
        numbers = {INTEGER, SINGLE, DOUBLE}
        if left.kind != right.kind or left.kind not in {*numbers, TEXT}:
            raise _refused(f"{left.name} {sign} {right.name}")
        known = f"{_known(left.name)} and {_known(right.name)}"
        return f"({left.name} {'==' if sign == '=' else sign} {right.name} and {known})"

    def _known(self, node: Node, known: bool) -> str:
        name = self._field(node).name
        return _known(name) if known else NONE if name == ID else f"{name} is null"

    def _distinct(self, node: Call, wanted: bool) -> str:
        left, right = node.arguments
        if _value(left) is not _NO_VALUE:
            left, right = right, left
        distinct = (node.name == "is distinct from") is wanted
        if _value(right) is None:
            return self._known(left, distinct)
        if _value(right) is _NO_VALUE:
            raise _refused("is distinct from between columns")
        if not distinct:
            return self._compared("=", left, right)
        return f"({self._compared('!=', left, right)} or {self._known(left, False)})"

    def _listed(self, node: Call, wanted: bool) -> str:
        field, found = self._field(node.arguments[0]), [_value(value) for value in node.arguments[1:]]
        if _NO_VALUE in found:
            raise _refused("columns in the list of in")
        if None in found and not wanted:  # whether it is none of them, nobody knows
            return NONE
        values = [value for value in found if not isinstance(value, _NoValue) and value is not None]
        for value in values:
            self._require(field, *_kinds(value))
        members = [text for value in values if (text := _member(value, field.kind)) is not None]
        if not members:
            return NONE if wanted else _known(field.name)
        if wanted:
            return f"{field.name} in [{', '.join(members)}]"
        return f"({field.name} not in [{', '.join(members)}] and {_known(field.name)})"

    def _like(self, node: Call, wanted: bool) -> str:
        name, field = node.name, self._field(node.arguments[0])
        texts = [_value(operand) for operand in node.arguments[1:]]
        self._require(field, TEXT)
        if None in texts:
            return NONE
        given = [text for text in texts if isinstance(text, str)]
        if len(given) < len(texts):
            raise _refused(f"{name} with a column for its pattern")
        pattern = _pattern(*given) if name == "like" else AFFIXES[name].format(_bare(given[0]))
        like = f"{field.name} like {_quoted(pattern)}"
        return like if wanted else f"(not ({like}) and {_known(field.name)})"

    def _field(self, node: Node) -> _Field:
        if not isinstance(node, Column):
            raise _refused(node.name if isinstance(node, Call) else "values compared with values or casts")
        name = node.name
        alike = [name] if name in self._columns else [c for c in self._columns if c.lower() == name.lower()]
        if len(alike) != 1:
            what = "several columns have this name" if alike else "no such column"
            there = alike or [column for column, (_, kind) in self._columns.items() if kind != OTHER]
            raise QueryError(what, got=name, remedy=f"there are: {', '.join(there)}")
        field = _Field(*self._columns[alike[0]])
        if field.kind == OTHER:
            raise QueryError("Milvus holds this column as text that cannot be compared", got=alike[0])
        return field

    def _require(self, field: _Field, *kinds: str) -> None:
        if field.kind not in kinds:
            raise QueryError(
                f"the column {field.name} holds values of kind {field.kind}", got=f"a condition on {' or '.join(kinds)}"
            )


class _NoValue:
    """Stands for a node that is no value."""


_NO_VALUE = _NoValue()


def _value(node: Node) -> Value | _NoValue | None:
    """The value that a node is, with its sign; numbers are written without one."""
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Call) and node.name in {"+", "-"} and len(node.arguments) == 1:
        inner = _value(node.arguments[0])
        if isinstance(inner, int | Decimal) and not isinstance(inner, bool):
            return -inner if node.name == "-" else inner
    return _NO_VALUE


def _kinds(value: Value) -> tuple[str, ...]:
    if isinstance(value, bool):
        return (TRUTH,)
    return (TEXT,) if isinstance(value, str) else (INTEGER, SINGLE, DOUBLE)


def _known(name: str) -> str:
    return ALL if name == ID else f"{name} is not null"


def _leaf(name: str, sign: str, value: str) -> str:
    """A comparison that is false for a null; Milvus may take null for another value than any."""
    if sign == "!=":
        return f"({name} != {value} and {_known(name)})"
    return f"{name} {'==' if sign == '=' else sign} {value}"


def _integers(name: str, sign: str, value: Decimal) -> str:
    """A column of whole numbers compared with any number."""
    floor = math.floor(value)
    whole = value == floor
    if sign in {"=", "!="}:
        if whole and abs(floor) <= LARGEST:
            return _leaf(name, sign, str(floor))
        return NONE if sign == "=" else _known(name)
    if sign in {"<", "<="}:
        most = floor - 1 if whole and sign == "<" else floor
        return NONE if most < -LARGEST else _known(name) if most >= LARGEST else f"{name} <= {most}"
    least = floor if whole and sign == ">=" else floor + 1
    return NONE if least > LARGEST else _known(name) if least <= -LARGEST else f"{name} >= {least}"


def _written(value: Value, kind: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    number = float(np.float32(float(value))) if kind == SINGLE else float(value)  # as SQL casts it to the column's type
    if not math.isfinite(number):
        raise _refused(f"the number {value}")
    return repr(number)


def _member(value: Value, kind: str) -> str | None:
    """A value of a list; None where no row can have it."""
    if kind == INTEGER and isinstance(value, int | Decimal) and not isinstance(value, bool):
        whole = math.floor(value)
        return str(whole) if whole == value and abs(whole) <= LARGEST else None
    return _written(value, kind)


def _pattern(pattern: str, escape: str | None = None) -> str:
    """A pattern of SQL as one of Milvus, whose escape character is the backslash."""
    parts, literal = [], False
    for character in pattern:
        if character == escape and not literal:
            literal = True
            continue
        parts.append(character if character in "%_" and not literal else _bare(character))
        literal = False
    return "".join(parts)


def _bare(text: str) -> str:
    """A text that a pattern means word for word."""
    if "\\" in text:  # the escape character itself: the engines of Milvus do not agree on it
        raise _refused("a backslash in a pattern")
    return "".join(f"\\{character}" if character in "%_" else character for character in text)


def _quoted(text: str) -> str:
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if any(not character.isprintable() and character not in escapes and ord(character) < 128 for character in text):
        raise _refused("control characters")
    return '"' + "".join(escapes.get(character, character) for character in text) + '"'


def _refused(what: str) -> QueryError:
    return QueryError("this cannot be said to Milvus", got=what, remedy=REMEDY)
