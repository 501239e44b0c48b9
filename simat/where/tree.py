"""What a filter says, as a tree of four kinds of nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Column:
    """A column of the metadata, as the filter writes it."""

    name: str


@dataclass(frozen=True)
class Literal:
    """A value; numbers with a point or an exponent are decimals."""

    value: bool | int | Decimal | str | None


@dataclass(frozen=True)
class Call:
    """An operator or a function of its operands, in SQL's three-valued logic.

    Attributes:
        name: lower case: ``and``, ``or`` (two operands or more), ``not``; ``=``, ``!=``, ``<``, ``<=``, ``>``, ``>=``,
            ``is distinct from``, ``is not distinct from``; ``in`` (the operand, then the values), ``between``,
            ``is null``, ``is not null``; ``like`` and ``ilike`` (the operand, the pattern, the escape character where
            there is one); ``case`` (condition, value, …, else); ``+``, ``-`` (one operand or two), ``*``, ``/``,
            ``//``, ``%``, ``||``; or a function of :data:`simat.where.allowed.FUNCTIONS`.
        arguments: the operands.
    """

    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Cast:
    """A value as another type.

    Attributes:
        kind: one of :data:`simat.where.allowed.TYPES`, upper case.
        argument: the value.
        lenient: what cannot be cast is null, not an error.
    """

    kind: str
    argument: Node
    lenient: bool = False


Node = Column | Literal | Call | Cast


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it, from left to right."""
    yield node
    if isinstance(node, Cast):
        yield from walk(node.argument)
    elif isinstance(node, Call):
        for argument in node.arguments:
            yield from walk(argument)


def names(node: Node) -> tuple[str, ...]:
    """The columns that a tree names, each once, in the order in which they come."""
    return tuple(dict.fromkeys(part.name for part in walk(node) if isinstance(part, Column)))
