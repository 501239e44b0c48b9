"""Captions and facts: out of documents of any shape into columns of one type each."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.items import DEEPEST, MOST_COLUMNS, Columns, described, from_json, sidecars, tidy, to_json
from simat.embeddings import FIXED

SIMPLE = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=5))
ROWS = st.lists(st.dictionaries(st.sampled_from("abc"), SIMPLE, max_size=3), min_size=1, max_size=6)


@given(rows=ROWS)
def test_columns_keep_every_value_or_a_wider_form_of_it(rows: list[dict[str, Any]]) -> None:
    columns = Columns()
    for row in rows:
        columns.add(row)
    table = columns.table(rows)
    assert (table.num_columns, len(table) if table.num_columns else len(rows)) == (len(columns.types), len(rows))
    for number, row in enumerate(rows):
        for name in columns.types:
            stored = table[name][number].as_py()
            if name not in row:
                assert stored is None
            elif isinstance(stored, str) and not isinstance(row[name], str):
                assert json.loads(stored) == row[name]
            else:
                assert stored == row[name] or float(stored) == float(row[name])


@given(rows=ROWS)
def test_facts_survive_the_list_on_disk(rows: list[dict[str, Any]]) -> None:
    assert [from_json(to_json(row)) for row in rows] == rows


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False], pa.bool_()),
        ([1, None, 2], pa.int64()),
        ([1, 2.5], pa.float64()),
        ([1, True], pa.string()),
        ([2**70], pa.string()),
        (["a", 1.5], pa.string()),
        ([1, 2.5, "x", 3], pa.string()),
    ],
)
def test_columns_widen(values: list[Any], kind: pa.DataType) -> None:
    columns = Columns()
    rows = [{} if value is None else {"x": value} for value in values]
    for row in rows:
        columns.add(row)
    assert columns.table(rows).schema.field("x").type == kind


def test_columns_are_bounded() -> None:
    columns = Columns()
    for number in range(1000):
        columns.add({f"column {number}": number})
    assert [*columns.types] == [f"column {number}" for number in range(MOST_COLUMNS)]
    assert columns.too_many


def test_columns_are_not_too_many_for_coming_again() -> None:
    columns = Columns()
    for value in (1, 2.5, "x"):
        columns.add({f"column {number}": value for number in range(MOST_COLUMNS)})
    assert not columns.too_many


@given(depth=st.integers(1, 400))
def test_described_leaves_out_what_is_nested_too_deep(depth: int) -> None:
    values: dict[str, Any] = {"x": 1}
    for _ in range(depth):
        values = {"a": values, "y": 2}
    _, facts = described(values)
    kept = min(depth, DEEPEST)
    assert len(facts) == kept + (depth < DEEPEST)
    assert facts["y"] == 2


def test_described_flattens_and_leaves_out_what_no_filter_can_use() -> None:
    values = {
        "exif": {"iso": 100, "lens": {"name": "50 mm"}},
        "tags": ["a", "b"],
        "vector": [0.1, 0.2],
        "blob": b"x",
        "nothing": None,
        "date": datetime.date(2024, 5, 1),
        "price": Decimal("1.50"),
    }
    told = {"exif_iso": 100, "exif_lens_name": "50 mm", "tags": '["a", "b"]', "date": "2024-05-01", "price": "1.50"}
    assert described(values) == (None, told)


@pytest.mark.parametrize(
    ("values", "known", "column", "expected"),
    [
        ({"caption": "a cat"}, None, None, ("a cat", {})),
        ({"text": " a cat\n"}, None, None, ("a cat", {})),
        ({"caption": "a cat", "text": "meow"}, None, None, ("a cat", {"text": "meow"})),
        ({"caption": "a cat"}, "a cat", None, ("a cat", {})),
        ({"caption": "a dog"}, "a cat", None, ("a cat", {"source_caption": "a dog"})),
        ({"caption": ["first", "second"]}, None, None, ("first", {})),
        ({"caption": 7}, None, None, (None, {"source_caption": 7})),
        ({"caption": "a", "title": "b"}, None, "title", ("b", {"source_caption": "a"})),
        ({"caption": None}, None, None, (None, {})),
    ],
)
def test_described_finds_the_caption(
    values: dict[str, Any], known: str | None, column: str | None, expected: tuple[str | None, dict[str, Any]]
) -> None:
    assert described(values, known, column) == expected


@given(name=st.sampled_from(sorted(FIXED)), upper=st.booleans())
def test_no_column_is_named_as_a_fixed_one(name: str, upper: bool) -> None:
    _, facts = described({name.upper() if upper else name: 7})
    assert not {column.lower() for column in facts} & FIXED
    assert [*facts.values()] == [7]


def test_text_that_unicode_cannot_hold_is_mended() -> None:
    caption, facts = described(json.loads('{"caption": "a\\ud800b", "k\\udfff": "\\ud800"}'))
    assert (caption, facts) == ("a?b", {"k?": "?"})
    assert tidy("\ufeff \n") is None


def test_sidecars_share_the_name_up_to_the_last_point() -> None:
    there = {"d/a.b.txt", "d/a.json", "d/a.b.json"}
    assert sidecars("d/a.b.jpg", there.__contains__) == {".txt": "d/a.b.txt", ".json": "d/a.b.json"}
    assert sidecars("d/c.jpg", there.__contains__) == {}
