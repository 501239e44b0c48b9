"""Filters: what they may say, and that what they select is what a slow reading of the same words selects."""

from __future__ import annotations

import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from columned import table_set

from simat.embeddings import EmbeddingSet
from simat.errors import QueryError
from simat.selection import Selection
from simat.where import Call, Cast, Column, Filter, Filters, Literal

ROWS: dict[str, list[Any]] = {
    "path": ["a/dog.jpg", "a/cat.jpg", "b/Beach dog.png", "b/100%.png", "ü_ö.jpg", "b/it's.png"],
    "width": [640, 320, 800, 640, 10, 99],
    "height": [480, 480, 600, 640, 20, 98],
    "caption": ["a dog", None, "A dog on a BEACH", "a cat", "", "it's\na\ttest"],
    "similarity": [0.5, 0.25, None, float("nan"), -1.0, 1e10],
    "URL": ["http://x", None, "http://y", None, "", "z"],
    "tags": [["red", "sea"], [], None, ["sea"], ["blue"], [None]],
    "taken": pa.array([18262, 18263, None, 19000, 0, -1], pa.date32()).to_pylist(),
}


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingSet:
    return table_set(tmp_path_factory.mktemp("six"), ROWS, part_size=4)


def ids(found: Selection) -> list[int]:
    return found.ids().tolist()


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("width >= 640", [0, 2, 3]),
        ("width >= 640 and caption like '%beach%'", []),
        ("width >= 640 and caption ilike '%beach%'", [2]),
        ("caption like '%dog%'", [0, 2]),
        ("caption not like '%dog%'", [3, 4, 5]),
        ("not caption like '%dog%'", [3, 4, 5]),
        ("caption is null", [1]),
        ("caption is not null and caption != ''", [0, 2, 3, 5]),
        ("caption = 'it''s\na\ttest'", [5]),
        ("path like '%!%%' escape '!'", [3]),
        ("path like '__\\__.jpg' escape '\\'", []),
        ("path like '_!__.jpg' escape '!'", [4]),
        ("path like '_\\_%_.%_pg%' escape '\\'", [4]),
        ("path like '%_og%_pn_'", [2]),
        ("path like '_/%'", [0, 1, 2, 3, 5]),
        ("width in (640, 10) or height = 98", [0, 3, 4, 5]),
        ("width not in (640, 10)", [1, 2, 5]),
        ("width between 90 and 640 and id > 0", [1, 3, 5]),
        ("width = height", [3]),
        ("width > height * 1.2", [0, 2]),
        ("width * 1.0 / height between 1.3 and 1.4", [0, 2]),
        ("(width - 1) // 2 = 49", [5]),
        ("width % 2 = 1", [5]),
        ("-width < -700", [2]),
        ("similarity > 0.3", [0, 3, 5]),  # NaN is the greatest number in DuckDB, as in PostgreSQL
        ("isnan(similarity)", [3]),
        ("similarity is distinct from 0.5", [1, 2, 3, 4, 5]),
        ("similarity is not distinct from null", [2]),
        ("url is null", [1, 3]),
        ("\"URL\" = 'z'", [5]),
        ("coalesce(url, 'none') = 'none'", [1, 3]),
        ("caption || '!' = 'a cat!'", [3]),
        ("lower(caption) = 'a dog on a beach'", [2]),
        ("length(caption) < 6", [0, 3, 4]),
        ("contains(path, 'dog') and starts_with(path, 'b')", [2]),
        ("regexp_matches(caption, '^a (dog|cat)$')", [0, 3]),
        ("caption ~ 'A.*H'", [2]),
        ("regexp_matches(caption, '^A DOG', 'i')", [0, 2]),
        ("caption similar to 'a (dog|cat)'", [0, 3]),
        ("case when width > 700 then true when width < 15 then true else height = 98 end", [2, 4, 5]),
        ("case when width > 700 then true end", [2]),
        ("width::varchar like '6%'", [0, 3]),
        ("try_cast(path as integer) is null", [0, 1, 2, 3, 4, 5]),
        ("list_contains(tags, 'sea')", [0, 3]),
        ("len(tags) = 0", [1]),
        ("taken >= date '2020-01-01'", [0, 1, 3]),
        ("taken < '1970-01-01'", [5]),
        ("year(taken) = 2020 or extract(month from taken) = 12", [0, 1, 5]),
        ("true", [0, 1, 2, 3, 4, 5]),
        ("false", []),
        ("null::boolean", []),
        ("width > null", []),
        ("id in (5, 0)", [0, 5]),
        ("WIDTH = 10", [4]),
        ("path = 'ü_ö.jpg'", [4]),
        ("nullif(width, 640) is null", [0, 3]),
        ("greatest(width, height) = 99", [5]),
        ("width = 1e1", [4]),
        ("width < 99999999999999999999999999", [0, 1, 2, 3, 4, 5]),
        ("(((width))) = ((10))", [4]),
        ("'" * 9998 + " = ''", []),
        ("caption ilike '%\u00a0%' or width\u00a0= 10", [4]),
    ],
)
def test_filter_selects_as_sql_does(six: EmbeddingSet, text: str, selected: list[int]) -> None:
    assert ids(Filter.parse(text).select(six)) == selected


def test_filter_is_a_small_tree() -> None:
    found = Filter.parse("width >= 640 and (caption not like '%x%' or a.b::int in (1, -2.5, null))")
    like = Call("like", (Column("caption"), Literal("%x%")))
    cast = Cast("INTEGER", Column("a.b"))
    values = (Literal(1), Literal(Decimal("-2.5")), Literal(None))
    either = Call("or", (Call("not", (like,)), Call("in", (cast, *values))))
    assert found.condition == Call("and", (Call(">=", (Column("width"), Literal(640))), either))
    assert found.columns == ("width", "caption", "a.b")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("width >=", "does not parse"),
        ("width > 640 height", "does not parse"),
        ("(width > 640", "does not parse"),
        ("width > 640)", "does not parse"),
        ("caption = 'open", "does not parse"),
        ("width > 1; drop table rows", "a semicolon"),
        ("width > 1;", "a semicolon"),
        ("width > 1 -- and more", "a comment"),
        ("width /* all */ > 1", "a comment"),
        ("width > 1 union select 1", "does not parse"),
        ("width > 1) union select 1 where (true", "brackets that do not match"),
        ("true) limit (1", "brackets that do not match"),
        ("width > 1) or (true", "brackets that do not match"),
        ("true group by width", "does not parse"),
        ("true order by width", "does not parse"),
        ("true limit 1", "does not parse"),
        ("true window w as ()", "does not parse"),
        ("true qualify true", "does not parse"),
        ("true having true", "does not parse"),
        ("id in (select 1)", "a sub-query"),
        ("exists (select * from read_csv('/etc/passwd'))", "a sub-query"),
        ("(select true)", "a sub-query"),
        ("width > all (select 1)", "a sub-query"),
        ("width = any([1, 2])", "a sub-query"),
        ("read_csv('/etc/passwd') = 1", "may not use this function; got read_csv"),
        ("read_text('/etc/passwd') = 1", "may not use this function; got read_text"),
        ("getenv('HOME') = 'x'", "may not use this function; got getenv"),
        ("pragma database_list", "does not parse"),
        ("copy rows to 'x'", "does not parse"),
        ("getvariable('x') = 1", "may not use this function; got getvariable"),
        ("query('select 1') = 1", "may not use this function; got query"),
        ("json_execute_serialized_sql('{}') = 1", "may not use this function; got json_execute"),
        ("'/etc/passwd'.read_text() = 'x'", "may not use this function; got read_text"),
        ("path.lower() = 'x'", "may not say schema"),
        ("create macro f() as 1", "does not parse"),
        ("true; load httpfs", "a semicolon"),
        ("(with x as (select 1) select true)", "a sub-query"),
        ("(from rows)", "a sub-query"),
        ("(table rows)", "a sub-query"),
        ("(values (true))", "a sub-query"),
        ("array(select 1) is null", "a sub-query"),
        ("try(path::int) > 1", "may not use this operator; got operator try"),
        ("[x for x in tags] = tags", "a lambda"),
        ("width operator(pg_catalog.+) 1 > 2", "may not say schema"),
        ("width = default", "may not hold default"),
        ("path = x'00'", "may not hold bytes or bits; got 00"),
        ("width = b'01'", "may not hold bytes or bits; got 01"),
        ("path::blob = 'x'", "may not cast to this type; got BLOB"),
        ("width::decimal(38, 10) > 1", "may not cast to this type; got DECIMAL"),
        ("path::enum('a') = 'a'", "may not cast to this type; got ENUM"),
        ("path::variant is null", "may not cast to this type; got VARIANT"),
        ("width::memory.main.integer > 1", "may not cast to this type; got INTEGER"),
        ("taken::timestamptz is null", "may not cast to this type; got TIMESTAMPTZ"),
        ('path::"any" is null', "may not cast to this type; got ANY"),
        ("width > 1） or （true", "does not parse"),
        ("width > 1； drop", "does not parse"),
        ("true -\ufeff- x", "no such column; got x"),
        ("true /\ufeff* x *\ufeff/", "does not parse"),
        ("path = E'a\\x00b'", "does not parse"),
        ("rowid = 1", "no such column; got rowid"),
        ("rowed is null", "no such column; got rowed"),
        ("attach 'x'", "may not cast to this type; got ATTACH"),
        ("current_setting('memory_limit') = '1'", "may not use this function"),
        ("repeat(path, 1000000000) = 'x'", "may not use this function"),
        ("replace(path, 'a', 'aa') = 'x'", "may not use this function"),
        ("random() < 0.5", "may not use this function; got random"),
        ("now() > taken", "may not use this function"),
        ("count(*) > 1", "may not use this function"),
        ("sum(width) > 1", "may not use this function"),
        ("count(width) over () > 1", "a window function"),
        ("row_number() over () < 5", "a window function"),
        ("lower(distinct path) = 'x'", "may not say distinct"),
        ("lower(path) filter (where true) = 'x'", "may not say filter"),
        ("main.lower(path) = 'x'", "may not say schema"),
        ("lower(s := path) = 'x'", "names no arguments"),
        ("lower(path, path) = 'x'", r"lower takes 1 argument\(s\); got 2"),
        ("path collate nocase = 'x'", "a collation"),
        ("width > ?", "a parameter"),
        ("width > $1", "a parameter"),
        ("#1 = 1", "a column by its number"),
        ("* = 1", "a star|does not parse"),
        ("columns(*) > 1", "a star"),
        ("list_filter(tags, x -> true) = tags", "may not use this function|a lambda"),
        ("path::json is null", "may not cast to this type; got JSON"),
        ("path::varchar[] is null", "may not cast to this type"),
        ("tags[1] = 'sea'", "may not use this operator; got array extract"),
        ("path like caption", "must be a text in quotes"),
        ("regexp_matches(path, caption)", "must be a text in quotes"),
        ("path like '%!' escape '!'", "ends with its escape"),
        ("path like '%!' escape '!!'", "of a pattern is one character"),
        ("regexp_matches(path, 'a', 'g')", "no such option"),
        ("regexp_matches(path, '((a{100}){100}){100}')", "repeats too much"),
        ("regexp_matches(path, '" + "a" * 501 + "')", "longer than 500"),
        ("width > 1\0", "a character that no text has"),
        ("path = '\ud800'", "a character that no text has"),
        ("caption = '" + "x" * 10**6 + "'", "longer than 20,000 characters; got 1,000,012"),
        ("(" * 9000 + "true" + ")" * 9000, "nested deeper than 64"),
        ("(" * 19000, "nested deeper than 64"),
        ("not " * 4000 + "true", "nested deeper than 64"),
        ("1" + "+1" * 9000 + " > 1", "nested deeper than 64"),
        ("- " * 9000 + "width > 1", "nested deeper than 64"),
        ("case when true then " * 700 + "true" + " end" * 700, "nested deeper than 64"),
        ("lower(" * 1000 + "path" + ")" * 1000 + " = 'x'", "nested deeper than 64"),
        ("[" * 5000 + "]" * 5000 + " = 1", "nested deeper than 64"),
        ("'" * 9999, "does not parse"),
        ("\u202e\ufeff\u00a0", "no such column"),
        ("﷽" * 5000, "no such column; got ﷽"),
    ],
)
def test_filter_that_is_more_than_a_condition_is_refused_at_once(six: EmbeddingSet, text: str, why: str) -> None:
    started = time.process_time()
    with pytest.raises(QueryError, match=why) as refused:
        Filter.parse(text).select(six)
    assert time.process_time() - started < 1
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 1200


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "widht > 1",
            "no such column; got widht; there are: id, path, sha256, width, height, caption",
        ),
        ("embedding is null", "no such column; got embedding"),
        ("rows.width = 1", "no such column; got rows.width"),
        ("current_user = 'x'", "no such column|may not use this function"),
        ("width", "no condition; got a value of type INTEGER; compare it with something"),
        ("'true'", "no condition"),
        ("width + 1", "no condition"),
        ("path > 5 and width", "cannot be computed|no condition"),
        ("width > 'x'", "cannot be computed; got Could not convert string 'x'"),
        ("path::integer > 1", "cannot be computed; got Could not convert string 'a/dog.jpg'"),
        ("regexp_matches(path, '(')", "cannot be computed; got missing \\)"),
        ("width * 9223372036854775807 > 1", "cannot be computed; got Overflow"),
        ("lower(width) = 'x'", "cannot be computed"),
        ("taken > 'yesterday'", "cannot be computed"),
    ],
)
def test_filter_that_cannot_be_computed_says_why_in_one_line(six: EmbeddingSet, text: str, why: str) -> None:
    with pytest.raises(QueryError, match=why) as refused:
        Filter.parse(text).select(six)
    assert "\n" not in str(refused.value) and "LINE 1" not in str(refused.value)


def test_columns_that_some_parts_have_are_null_in_the_others(tmp_path: Path) -> None:
    mixed = table_set(
        tmp_path,
        {"width": [1, 2, 3, 4], "likes": [1, 2, None, None], "mark": [1, 2, "x", "2"]},
        part_size=2,
        absent={1: ["likes"]},
    )
    assert ids(Filter.parse("likes is null").select(mixed)) == [2, 3]
    assert ids(Filter.parse("likes >= 2").select(mixed)) == [1]
    assert ids(Filter.parse("mark = '2'").select(mixed)) == [1, 3]  # numbers here, texts there: texts


def test_columns_of_half_precision_are_compared(tmp_path: Path) -> None:
    halves = table_set(tmp_path, {"score": np.array([0.5, 0.25], np.float16)})
    assert ids(Filter.parse("score > 0.3").select(halves)) == [0]


def test_columns_that_differ_in_type_beyond_repair_are_named(tmp_path: Path) -> None:
    mixed = table_set(tmp_path, {"mark": [1, 2, {"a": 1}, {"a": 2}]}, part_size=2)
    with pytest.raises(QueryError, match=r"values differ in type from part to part; got mark: struct<a: int64> and"):
        Filter.parse("mark is null").select(mixed)


def test_columns_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    alike = table_set(tmp_path, {"URL": ["a", "b"], "url": ["b", "c"]})
    assert ids(Filter.parse("\"URL\" = 'b'").select(alike)) == [1]
    assert ids(Filter.parse("url = 'b'").select(alike)) == [0]
    with pytest.raises(QueryError, match="several columns have this name; got Url; there are: URL, url"):
        Filter.parse("Url = 'b'").select(alike)


def test_columns_with_names_like_code_are_only_names(tmp_path: Path) -> None:
    hostile = table_set(
        tmp_path, {'x" or true --': [1, 2], "rows": [1, 2], "a.b": [1, 2], "c0": [2, 1], "select": [1, 2]}
    )
    assert ids(Filter.parse('"x"" or true --" = 2').select(hostile)) == [1]
    assert ids(Filter.parse('a.b = 2 and c0 = 1 and rows = 2 and "select" = 2').select(hostile)) == [1]


def test_selection_of_the_first_rows_only(six: EmbeddingSet) -> None:
    assert Filter.parse("width >= 640").select(six, 3) == Selection.of_ids(np.array([0, 2]), 3)


def test_filters_remember_selections_and_columns(six: EmbeddingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    filters, reads = Filters(six), []
    read: Callable[..., Any] = six.part_columns
    monkeypatch.setattr(six, "part_columns", lambda *given: reads.append(given) or read(*given))
    first = filters.selection("width >= 640")
    assert filters.selection("width >= 640") is first
    assert ids(filters.selection("width < 640")) == [1, 4, 5]
    assert reads == [(0, ["width"]), (1, ["width"])]
    assert ids(filters.selection("width < 640 and id > 1 and height > 20")) == [5]
    assert reads[2:] == [(0, ["id", "height"]), (1, ["id", "height"])]


def test_filters_forget_when_they_hold_too_much(six: EmbeddingSet, monkeypatch: pytest.MonkeyPatch) -> None:
    import simat.where.columns
    import simat.where.filters

    monkeypatch.setattr(simat.where.columns, "REMEMBERED", 0)
    filters = Filters(six)
    first = filters.selection("id = 0")
    monkeypatch.setattr(simat.where.filters, "REMEMBERED", 2 * simat.where.filters.size_of("id = 0", first))
    assert filters.selection("id = 1") != first and filters.selection("id = 0") is first
    filters.selection("id = 2")
    filters.selection("id = 3")
    again = filters.selection("id = 0")
    assert again == first and again is not first


def test_filter_that_takes_too_long_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import simat.where.database

    monkeypatch.setattr(simat.where.database, "LIMIT_S", 0.01)
    long = table_set(tmp_path, {"caption": ["a" * 300] * 10_000}, part_size=10_000)
    slow = " or ".join(f"regexp_matches(caption, '(a|b)*c{n}')" for n in range(40))
    with pytest.raises(QueryError, match="takes longer"):
        Filter.parse(slow).select(long)
    assert Filter.parse("id < 3").select(long).count == 3


@pytest.mark.parametrize("text", ["'%a_%a_%a_%a_%a_%a_%b'", "'%a%a%a%a%a%a%a%b'"])
@pytest.mark.parametrize("operator", ["like", "ilike", "not like"])
def test_patterns_with_many_wildcards_take_no_longer(tmp_path: Path, operator: str, text: str) -> None:
    long = table_set(tmp_path, {"caption": ["a" * 4000] * 10})
    started = time.process_time()
    found = Filter.parse(f"caption {operator} {text}").select(long)
    assert found.count == (10 if operator == "not like" else 0)
    assert time.process_time() - started < 1


def test_filters_of_several_threads_do_not_disturb_each_other(six: EmbeddingSet) -> None:
    from concurrent.futures import ThreadPoolExecutor

    filters = Filters(six)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda n: filters.selection(f"id = {n % 6} and width > {-n}"), range(60))]
    assert [ids(one) for one in found] == [[n % 6] for n in range(60)]
