"""From a tree back to SQL: the only SQL that is run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from simat.where.allowed import SYMBOLS
from simat.where.tree import Call, Cast, Column, Literal, Node

FORMS = {
    "not": "(not {})",
    "is null": "({} is null)",
    "is not null": "({} is not null)",
    "between": "({} between {} and {})",
}
BETWEEN_OPERANDS = {"and", "or", "=", "!=", "<", "<=", ">", ">=", "is distinct from", "is not distinct from", *SYMBOLS}


def condition_sql(node: Node, columns: Mapping[str, str]) -> str:
    """The tree as SQL, with every operand in brackets.

    Args:
        node: the tree.
        columns: by the name that the filter writes, what the column is called in the table: plain identifiers.
    """
    if isinstance(node, Column):
        return columns[node.name]
    if isinstance(node, Literal):
        return _literal(node.value)
    if isinstance(node, Cast):
        word = "TRY_CAST" if node.lenient else "CAST"
        return f"{word}({condition_sql(node.argument, columns)} AS {node.kind})"
    if node.name in {"like", "ilike"}:
        return _like(node, condition_sql(node.arguments[0], columns))
    return _call(node.name, [condition_sql(argument, columns) for argument in node.arguments])


def _call(name: str, operands: list[str]) -> str:
    if name in FORMS:
        return FORMS[name].format(*operands)
    if name in {"+", "-"} and len(operands) == 1:
        return f"({name} {operands[0]})"
    if name in BETWEEN_OPERANDS:
        return f"({f' {name} '.join(operands)})"
    if name == "in":
        return f"({operands[0]} in ({', '.join(operands[1:])}))"
    if name == "case":
        pairs = zip(operands[:-1:2], operands[1:-1:2], strict=True)
        return f"(case {' '.join(f'when {when} then {then}' for when, then in pairs)} else {operands[-1]} end)"
    return f"{name}({', '.join(operands)})"


def _literal(value: bool | int | Decimal | str | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def _like(node: Call, operand: str) -> str:
    """``LIKE``, or the regular expression of the same meaning where DuckDB would try every split of a text.

    With wildcards of both kinds it goes back and forth, which takes time exponential in their number; regular
    expressions are matched in linear time.
    """
    pattern, *escape = (str(argument.value) for argument in node.arguments[1:] if isinstance(argument, Literal))
    simple = not escape and ("_" not in pattern or pattern.count("%") <= 1)
    meant = pattern if simple else as_expression(pattern, *escape)
    if node.name == "ilike":
        operand, meant = f"lower({operand})", "".join(map(_lower, meant))
    return f"({operand} like {_literal(meant)})" if simple else f"regexp_full_match({operand}, {_literal(meant)}, 's')"


def as_expression(pattern: str, escape: str | None = None) -> str:
    """The regular expression that matches what a pattern of ``LIKE`` does, the whole text."""
    parts, literal = [], False
    for character in pattern:
        if character == escape and not literal:
            literal = True
            continue
        wild = None if literal else {"%": ".*", "_": "."}.get(character)
        parts.append(wild or re.escape(character))
        literal = False
    return "".join(parts)


def _lower(character: str) -> str:
    lowered = character.lower()
    return lowered if len(lowered) == 1 else character
