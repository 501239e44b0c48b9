"""What a filter selects is what a slow reading of the same words in three-valued logic selects."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
from columned import table_set
from hypothesis import given, settings
from hypothesis import strategies as st

from simat.embeddings import EmbeddingSet
from simat.errors import QueryError
from simat.where import Filters
from simat.where.parsing import parse_condition
from simat.where.sql import as_expression, condition_sql
from simat.where.tree import names

ROWS, TABLES = 240, 3
TEXTS = ["", "a", "b", "ab", "aB", "Ab%", "a_b", "é", "Éa", "a b", "it's", "ba\nb", "100%", None]
Row = dict[str, Any]


class Said(NamedTuple):
    """An expression in SQL, and what it is for a row; None is null."""

    sql: str
    of: Callable[[Row], Any]


def strict(function: Callable[..., Any], *parts: Said) -> Callable[[Row], Any]:
    """Null where any operand is."""

    def of(row: Row) -> Any:
        values = [part.of(row) for part in parts]
        return None if any(value is None for value in values) else function(*values)

    return of


def column(name: str) -> Said:
    return Said(name, lambda row: row[name])


def literal(value: Any) -> Said:
    if isinstance(value, str):
        return Said("'" + value.replace("'", "''") + "'", lambda row: value)
    return Said({None: "null", True: "true", False: "false"}.get(value, str(value)), lambda row: value)


def number(value: float) -> Said:
    return Said(str(value), lambda row: value)


@cache
def is_like(text: str, pattern: str) -> bool:
    """``LIKE``, by trying every split."""
    if not pattern:
        return not text
    if pattern[0] == "%":
        return any(is_like(text[place:], pattern[1:]) for place in range(len(text) + 1))
    return bool(text) and pattern[0] in {"_", text[0]} and is_like(text[1:], pattern[1:])


def and_(one: Said, other: Said) -> Said:
    def of(row: Row) -> Any:
        values = {one.of(row), other.of(row)}
        return False if False in values else None if None in values else True

    return Said(f"({one.sql} and {other.sql})", of)


def or_(one: Said, other: Said) -> Said:
    def of(row: Row) -> Any:
        values = {one.of(row), other.of(row)}
        return True if True in values else None if None in values else False

    return Said(f"({one.sql} or {other.sql})", of)


def not_(one: Said) -> Said:
    return Said(f"not ({one.sql})", strict(operator.not_, one))


def among(one: Said, values: list[Said], negated: bool) -> Said:
    def of(row: Row) -> Any:
        value, others = one.of(row), [each.of(row) for each in values]
        if value is None:
            return None
        found = True if value in [each for each in others if each is not None] else None if None in others else False
        return found if found is None or not negated else not found

    return Said(f"{one.sql} {'not ' * negated}in ({', '.join(each.sql for each in values)})", of)


def distinct(one: Said, other: Said, negated: bool) -> Said:
    word = f"is {'not ' * negated}distinct from"
    return Said(f"({one.sql} {word} {other.sql})", lambda row: (one.of(row) == other.of(row)) == negated)


def case(when: Said, then: Said, other: Said) -> Said:
    sql = f"(case when {when.sql} then {then.sql} else {other.sql} end)"
    return Said(sql, lambda row: then.of(row) if when.of(row) is True else other.of(row))


def like(one: Said, pattern: str, word: str) -> Said:
    def of(text: str) -> bool:
        found = is_like(text.lower(), pattern.lower()) if "ilike" in word else is_like(text, pattern)
        return found != word.startswith("not")

    return Said(f"{one.sql} {word} {literal(pattern).sql}", strict(of, one))


def compared(one: Said, word: str, other: Said) -> Said:
    return Said(f"{one.sql} {word} {other.sql}", strict(COMPARISONS[word], one, other))


COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    **{"=": operator.eq, "!=": operator.ne, "<>": operator.ne, "<": operator.lt, "<=": operator.le},
    **{">": operator.gt, ">=": operator.ge, "==": operator.eq},
}
ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
WORDS = st.sampled_from([text for text in TEXTS if text is not None])
ATOMS = st.sampled_from(
    [*(column(name) for name in ("width", "n", "x", "id")), *map(number, (0, 1, 3, -2, 0.5, 2.25)), literal(None)]
)
NUMBERS = st.recursive(
    ATOMS,
    lambda below: st.one_of(
        st.builds(
            lambda one, word, other: Said(f"({one.sql} {word} {other.sql})", strict(ARITHMETIC[word], one, other)),
            below, st.sampled_from([*ARITHMETIC]), below,
        ),
        st.builds(
            lambda one, by: Said(f"({one.sql} / {by})", strict(lambda value: value / by, one)),
            below, st.sampled_from([1, -2, 4, 0.5]),
        ),
        st.builds(lambda one: Said(f"(- {one.sql})", strict(operator.neg, one)), below),
        st.builds(lambda one: Said(f"abs({one.sql})", strict(abs, one)), below),
        st.builds(
            lambda one, other: Said(
                f"coalesce({one.sql}, {other.sql})", lambda row: other.of(row) if one.of(row) is None else one.of(row)
            ),
            below, below,
        ),
    ),
    max_leaves=4,
)  # fmt: skip
NAMED = st.one_of(st.just(column("s")), st.just(column("caption")))
STRINGS = st.one_of(
    NAMED,
    WORDS.map(literal),
    NAMED.map(lambda one: Said(f"lower({one.sql})", strict(str.lower, one))),
    st.builds(lambda one, other: Said(f"({one.sql} || {other.sql})", strict(operator.add, one, other)), NAMED, NAMED),
    st.builds(lambda one, n: Said(f"left({one.sql}, {n})", strict(lambda t: t[:n], one)), NAMED, st.integers(0, 3)),
)
PATTERNS = st.text("abBé%_'.*+?[(|^$\\\\ \n", max_size=7)
LIKES = st.sampled_from(["like", "not like", "ilike", "not ilike"])
LEAVES = st.one_of(
    st.builds(compared, NUMBERS, st.sampled_from([*COMPARISONS]), NUMBERS),
    st.builds(compared, STRINGS, st.sampled_from([*COMPARISONS]), STRINGS),
    st.builds(like, STRINGS, PATTERNS, LIKES),
    st.builds(among, ATOMS, st.lists(ATOMS, min_size=1, max_size=4), st.booleans()),
    st.builds(among, NAMED, st.lists(WORDS.map(literal), min_size=1, max_size=4), st.booleans()),
    st.builds(distinct, ATOMS, ATOMS, st.booleans()),
    st.builds(distinct, NAMED, NAMED, st.booleans()),
    st.builds(
        lambda one, low, high: Said(
            f"{one.sql} between {low} and {high}", strict(lambda value: low <= value <= high, one)
        ),
        NUMBERS, st.integers(-3, 3), st.integers(-3, 300),
    ),
    st.builds(lambda one: Said(f"{one.sql} is null", lambda row: one.of(row) is None), NUMBERS),
    st.builds(lambda one: Said(f"{one.sql} is not null", lambda row: one.of(row) is not None), STRINGS),
    st.builds(
        lambda one, w: Said(f"contains({one.sql}, {literal(w).sql})", strict(lambda t: w in t, one)), NAMED, WORDS
    ),
    st.builds(
        lambda one, w: Said(f"starts_with({one.sql}, {literal(w).sql})", strict(lambda t: t.startswith(w), one)),
        NAMED, WORDS,
    ),
    st.builds(
        lambda one, n: Said(f"length({one.sql}) > {n}", strict(lambda t: len(t) > n, one)), STRINGS, st.integers(0, 3)
    ),
    st.just(column("f")),
    st.sampled_from([True, False]).map(literal),
)  # fmt: skip
CONDITIONS = st.recursive(
    LEAVES,
    lambda below: st.one_of(
        st.builds(and_, below, below), st.builds(or_, below, below), st.builds(not_, below),
        st.builds(case, below, below, below),
    ),
    max_leaves=6,
)  # fmt: skip


def rows_of(seed: int) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)

    def some(values: list[Any]) -> list[Any]:
        return [values[i] for i in random.integers(0, len(values), ROWS)]

    return {
        "width": some([1, 2, 3, 100, 200]),
        "caption": some(TEXTS),
        "s": some(TEXTS),
        "n": some([*range(-5, 6), None]),
        "x": some([-2.0, -0.5, 0.0, 0.25, 0.5, 2.25, None]),
        "f": some([True, False, None]),
    }


class World(NamedTuple):
    rows: list[Row]
    filters: Filters


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> list[World]:
    made = []
    for seed in range(TABLES):
        values = rows_of(seed)
        known: EmbeddingSet = table_set(tmp_path_factory.mktemp("world"), values, part_size=100)
        rows = [{"id": i, **{name: column[i] for name, column in values.items()}} for i in range(ROWS)]
        made.append(World(rows, Filters(known)))
    return made


@given(CONDITIONS, st.integers(0, TABLES - 1))
@settings(max_examples=150)
def test_selection_is_that_of_a_slow_reading(worlds: list[World], said: Said, number: int) -> None:
    rows, filters = worlds[number]
    assert filters.selection(said.sql).ids().tolist() == [i for i, row in enumerate(rows) if said.of(row) is True]


@given(CONDITIONS)
@settings(max_examples=60)
def test_tree_written_as_sql_reads_as_the_same_tree(said: Said) -> None:
    tree = parse_condition(said.sql)
    again = parse_condition(condition_sql(tree, {name: f'"{name}"' for name in names(tree)}))
    assert condition_sql(again, {name: name for name in names(again)}) == condition_sql(
        tree, {name: name for name in names(tree)}
    )


@given(st.text("ab%_!.*+\\[]()é\n", max_size=8), st.text("ab%_!.*+\\[]()é\n", max_size=8))
def test_pattern_and_expression_match_the_same(pattern: str, text: str) -> None:
    import re

    assert bool(re.fullmatch(as_expression(pattern), text, re.DOTALL)) == is_like(text, pattern)
    escaped = "".join(f"!{c}" if c in "%_!" else c for c in pattern)
    assert bool(re.fullmatch(as_expression(escaped, "!"), text, re.DOTALL)) == (text == pattern)


SQL = (
    "select from where width caption id ( ) ( ) , . ; -- /* */ 'a' '%_' ' \" \"id\" 1 2.5 1e9 -1 + - * / // % || = <> "
    "< > ! and or not in like ilike escape between is null true false case when then else end cast as integer :: "
    "varchar [ ] { } ? $1 #1 lower regexp_matches count sum over partition by order limit union all exists any glob "
    "read_csv copy attach pragma set x'00' e'\\x' interval date struct_pack := -> => @ ~ !~ ^ & | << >> try_cast "
    "collate columns lambda $$ $a$ \u2028 é ﷽ 🏖 \x00 \\"
)
TOKENS = st.sampled_from(SQL.split(" "))


@given(st.lists(TOKENS, min_size=1, max_size=14), st.sampled_from([" ", " ", ""]))
@settings(max_examples=300)
def test_any_words_are_a_filter_or_refused(worlds: list[World], words: list[str], between: str) -> None:
    text = between.join(words)
    try:
        found = worlds[0].filters.selection(text)
    except QueryError as error:
        assert "\n" not in str(error) and "c0" not in str(error)
    else:
        assert found.rows == ROWS and parse_condition(text) is not None
