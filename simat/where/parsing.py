"""From the text of a filter to its tree, by way of DuckDB's parser; nothing is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from simat.errors import QueryError
from simat.where.allowed import (
    ALIASES,
    COMPARISONS,
    CONJUNCTIONS,
    FUNCTIONS,
    LARGEST_EXPONENT,
    LIKES,
    MOST_JOINED,
    MOST_NESTING,
    MOST_TEXT,
    OPERATORS,
    PATTERN_OPTIONS,
    PATTERNS,
    REFUSED,
    SYMBOLS,
    TYPES,
)
from simat.where.database import serialized, tokens
from simat.where.patterns import check_expression, check_length
from simat.where.tree import Call, Cast, Column, Literal, Node, walk

EXAMPLE = "write for example: width >= 640 and caption like '%beach%'"
ONE = "a filter is one condition, as after WHERE in SQL"
MOST_TOLD = 200  # characters of what is wrong
_WRITTEN = {"type", "class", "query_location", "query_location_length", "qualified_name", "is_operator"}


def parse_condition(text: str) -> Node:
    """The tree of one boolean SQL expression.

    Raises:
        QueryError: it does not parse, or is more than a condition: a statement, a sub-query, a comment, a function
            that is not allowed, nested too deeply, or too long.
    """
    _check_text(text)
    try:
        document = json.loads(serialized(text))
        if document["error"]:
            _refuse(document["error_message"])
        condition = _translated(_condition(document["statements"]), 0)
    except RecursionError as error:
        raise QueryError("the filter is nested too deeply", remedy="make it flatter") from error
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise QueryError("the filter is not understood", got=f"{type(error).__name__}: {error}"[:MOST_TOLD]) from error
    _check_joined(condition)
    return condition


def _check_text(text: str) -> None:
    if not text.strip():
        raise QueryError("the filter is empty", remedy=EXAMPLE)
    if len(text) > MOST_TEXT:
        raise QueryError(f"the filter is longer than {MOST_TEXT:,} characters", got=f"{len(text):,}")
    wrong = next((c for c in text if c not in "\t\n\r" and (ord(c) < 32 or 0xD800 <= ord(c) < 0xE000)), None)
    if wrong is not None:
        raise QueryError("the filter holds a character that no text has", got=repr(wrong))
    depth = 0
    for kind, sign in tokens(text):
        if kind == "comment" or sign == ";":
            raise QueryError("the filter holds " + ("a comment" if kind == "comment" else "a semicolon"), remedy=ONE)
        depth += (sign == "(") - (sign == ")")
        if not 0 <= depth <= MOST_NESTING:
            _refuse_depth(depth)
    if depth:
        _refuse_depth(-1)


def _check_joined(condition: Node) -> None:
    joined = sum(isinstance(part, Call) and part.name == "||" for part in walk(condition))
    if joined > MOST_JOINED:
        raise QueryError(f"the filter has more than {MOST_JOINED} times ||", got=joined, remedy="join fewer texts")


def _refuse(reason: str) -> None:
    if "expression depth" in reason:
        _refuse_depth(MOST_NESTING + 1)
    raise QueryError("the filter does not parse", got=reason[:MOST_TOLD], remedy=EXAMPLE)


def _refuse_depth(depth: int) -> None:
    if depth < 0:
        raise QueryError("the filter does not parse", got="brackets that do not match", remedy=EXAMPLE)
    raise QueryError(f"the filter is nested deeper than {MOST_NESTING}", remedy="make it flatter")


def _condition(statements: list[dict[str, Any]]) -> dict[str, Any]:
    """The condition of the only statement, which must hold nothing else."""
    if len(statements) != 1:
        raise QueryError("the filter holds several statements", remedy=ONE)
    node = statements[0]["node"]
    known = {"type", "select_list", "from_table", "where_clause", "aggregate_handling"}
    plain = node["type"] == "SELECT_NODE" and node["from_table"]["type"] == "EMPTY"
    if not plain or any(not _is_empty(value) for name, value in node.items() if name not in known):
        raise QueryError("the filter holds more than a condition", remedy=ONE)
    condition: dict[str, Any] = node["where_clause"]
    return condition


def _is_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_empty(item) for name, item in value.items() if name != "type")
    return not value


def _translated(node: Mapping[str, Any], depth: int) -> Node:
    if depth > MOST_NESTING:
        _refuse_depth(depth)
    kind = node["class"]
    if kind not in _READERS:
        raise QueryError(f"a filter may not hold {REFUSED.get(kind, kind.lower())}", remedy=ONE)
    fields, read = _READERS[kind]
    surplus = [name for name, value in node.items() if name not in fields | _WRITTEN and not _is_empty(value)]
    if surplus:
        raise QueryError(f"a filter may not say {surplus[0].replace('_', ' ')} of anything", remedy=ONE)
    return read(node, lambda child: _translated(child, depth + 1))


Below = Callable[[Mapping[str, Any]], Node]


def _column(node: Mapping[str, Any], below: Below) -> Node:
    return Column(".".join(node["column_names"]))


def _literal(node: Mapping[str, Any], below: Below) -> Node:
    kind, text = node["literal"]["kind"], node["literal"]["text"]
    if kind == "NULL_LITERAL":
        return Literal(None)
    if kind == "BOOLEAN":
        return Literal(text == "true")
    if kind == "STRING":
        return Literal(text)
    if kind not in {"INTEGER", "NUMERIC"}:
        raise QueryError("a filter may not hold bytes or bits", got=text[:MOST_TOLD], remedy=ONE)
    number = Decimal(text.replace("_", ""))
    if abs(number.adjusted()) > LARGEST_EXPONENT:
        raise QueryError("the filter holds a number that no column can have", got=text[:MOST_TOLD])
    return Literal(int(number) if kind == "INTEGER" else number)


def _comparison(node: Mapping[str, Any], below: Below) -> Node:
    return Call(_named(COMPARISONS, node), (below(node["left"]), below(node["right"])))


def _conjunction(node: Mapping[str, Any], below: Below) -> Node:
    return Call(_named(CONJUNCTIONS, node), tuple(below(child) for child in node["children"]))


def _operator(node: Mapping[str, Any], below: Below) -> Node:
    return Call(_named(OPERATORS, node), tuple(below(child) for child in node["children"]))


def _between(node: Mapping[str, Any], below: Below) -> Node:
    return Call("between", (below(node["input"]), below(node["lower"]), below(node["upper"])))


def _case(node: Mapping[str, Any], below: Below) -> Node:
    checks = [(below(check["when_expr"]), below(check["then_expr"])) for check in node["case_checks"]]
    return Call("case", (*(part for check in checks for part in check), below(node["else_expr"])))


def _cast(node: Mapping[str, Any], below: Below) -> Node:
    wanted = node["type_expr"]
    name = str(wanted["type_name"]).upper()
    kind = ALIASES.get(name, name)
    if kind not in TYPES or wanted["children"] or wanted["schema"]:
        remedy = f"there are: {', '.join(sorted(TYPES))}"
        raise QueryError("a filter may not cast to this type", got=name, remedy=remedy)
    return Cast(kind, below(node["child"]), bool(node["try_cast"]))


def _function(node: Mapping[str, Any], below: Below) -> Node:
    name, given = str(node["function_name"]).lower(), node["arguments"]
    if any(argument["name"] for argument in given):
        raise QueryError("a filter names no arguments", got=name)
    arguments = tuple(below(argument["expression"]) for argument in given)
    if name in LIKES:
        return _like(name, arguments)
    name = "starts_with" if name == "^@" else name
    least, most = {**SYMBOLS, **FUNCTIONS}.get(name, (0, -1))
    if most < 0:
        raise QueryError("a filter may not use this function", got=name, remedy=f"there are: {_functions()}")
    if not least <= len(arguments) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise QueryError(f"{name} takes {wanted} argument(s)", got=len(arguments))
    if name in PATTERNS:
        _check_pattern(name, arguments)
    return Call(name, arguments)


def _like(name: str, arguments: tuple[Node, ...]) -> Node:
    ours, negated = LIKES[name]
    for pattern in arguments[1:]:
        check_length(ours, _text_of(pattern, ours))
    if len(arguments) == 3:
        _check_escape(_text_of(arguments[1], ours), _text_of(arguments[2], ours))
    call = Call(ours, arguments)
    return Call("not", (call,)) if negated else call


def _check_escape(pattern: str, escape: str) -> None:
    if len(escape) != 1:
        raise QueryError("the escape character of a pattern is one character", got=repr(escape))
    if pattern.replace(2 * escape, "").endswith(escape):
        raise QueryError("the pattern ends with its escape character", got=repr(pattern))


def _check_pattern(name: str, arguments: tuple[Node, ...]) -> None:
    pattern, *options = (_text_of(argument, name) for argument in arguments[1:])
    check_expression(name, pattern)
    if options and not set(options[0]) <= PATTERN_OPTIONS:
        raise QueryError(f"{name} has no such option", got=repr(options[0]), remedy=f"one of {sorted(PATTERN_OPTIONS)}")


def _text_of(node: Node, name: str) -> str:
    if not isinstance(node, Literal) or not isinstance(node.value, str):
        raise QueryError(f"the pattern of {name} must be a text in quotes")
    return node.value


def _named(known: Mapping[str, str], node: Mapping[str, Any]) -> str:
    kind = node["type"]
    if kind not in known:
        raise QueryError("a filter may not use this operator", got=kind.lower().replace("_", " "), remedy=ONE)
    return known[kind]


def _functions() -> str:
    return ", ".join(sorted(FUNCTIONS))


_READERS: Mapping[str, tuple[frozenset[str], Callable[[Mapping[str, Any], Below], Node]]] = {
    "COLUMN_REF": (frozenset({"column_names"}), _column),
    "CONSTANT": (frozenset({"literal"}), _literal),
    "COMPARISON": (frozenset({"left", "right"}), _comparison),
    "CONJUNCTION": (frozenset({"children"}), _conjunction),
    "OPERATOR": (frozenset({"children"}), _operator),
    "BETWEEN": (frozenset({"input", "lower", "upper"}), _between),
    "CASE": (frozenset({"case_checks", "else_expr"}), _case),
    "CAST": (frozenset({"child", "try_cast", "type_expr"}), _cast),
    "FUNCTION": (frozenset({"function_name", "arguments"}), _function),
}
