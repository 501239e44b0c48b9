"""Filters said to Milvus: it lets the rows pass that SQL does, or is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from columned import table_set
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from milvuses import plain_index

from simat.embeddings import EmbeddingSet
from simat.errors import QueryError
from simat.where import Filter

pytest.importorskip("pymilvus")
from simat.milvus.address import Address
from simat.milvus.condition import expression
from simat.milvus.opening import MilvusOpened, open_milvus
from simat.milvus.push import push_index

WORDS = ["a dog", "A dog", None, "", "100%", "a_b", "a\\b", 'say "so"', "it's\na\ttest", "üö", "zebra"]
ROWS: dict[str, list[Any]] = {
    "path": [f"{i:02}.jpg" if i % 3 else f"beach/{i:02}.png" for i in range(33)],
    "width": [(37 * i) % 11 * 100 for i in range(33)],
    "height": [(23 * i) % 7 * 100 for i in range(33)],
    "caption": [WORDS[i % 11] for i in range(33)],
    "note": [WORDS[(5 * i + 1) % 11] for i in range(33)],
    "likes": [None if i % 5 == 0 else (i - 9) * 10**17 for i in range(33)],
    "similarity": [None if i % 7 == 0 else (i - 16) / 8 for i in range(33)],
    "safe": [None if i % 4 == 0 else i % 4 == 1 for i in range(33)],
    "in": [i % 2 for i in range(33)],
    "iso": [100 * (i % 4) for i in range(33)],
    "Timestamp": [i % 5 for i in range(33)],
    "RowID": [i % 6 for i in range(33)],
    "tags": [["x"] if i % 2 else [] for i in range(33)],
}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingSet:
    return table_set(tmp_path_factory.mktemp("table") / "index" / "embeddings", ROWS, part_size=20)


@pytest.fixture(scope="module")
def collection(table: EmbeddingSet) -> Iterator[MilvusOpened]:
    address = Address.parse(f"milvus:{table.folder.parents[1]}/table.db/rows")
    push_index(plain_index(table.folder.parent, table), address)
    opened = open_milvus(address)
    yield opened
    opened.connection.close()


TEXTS = st.sampled_from([word for word in WORDS if word is not None] + ["a", "dog", "z"])
PATTERNS = st.text("a%_düA\n", max_size=4) | st.sampled_from(["%dog%", "a%", "%b", "a_b", "%", "", "%\n%"])
PLAIN = TEXTS.filter(lambda text: "\\" not in text)
SIGNS = st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "is distinct from", "is not distinct from"])
WHOLE = st.sampled_from(
    ["0", "300", "500", "-100", "299.5", "300.0", "1e2", "99999999999999999999", "-10000000000000000000"]
)
REAL = st.sampled_from(["0", "0.125", "-1.5", "0.1", "1e300", "2"])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def listed(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values | st.just("null"), min_size=1, max_size=3).map(lambda found: f"({', '.join(found)})")


LEAVES = st.one_of(
    st.builds(
        "{} {} {}".format,
        st.sampled_from(["width", "likes", '"in"', "id", "iso", "Timestamp", "RowID"]),
        SIGNS,
        WHOLE | st.just("null"),
    ),
    st.builds("{} {} similarity".format, REAL, st.sampled_from(["=", "<", ">="])),
    st.builds("similarity {} {}".format, SIGNS, REAL),
    st.builds("{} {} {}".format, st.sampled_from(["caption", "note", "path"]), SIGNS, TEXTS.map(quoted)),
    st.builds("caption {} {}".format, st.sampled_from(["like", "not like"]), PATTERNS.map(quoted)),
    st.builds("note like {} escape '!'".format, st.sampled_from(["'100!%'", "'%!_%'", "'!!'", "'%'"])),
    st.builds("{}(note, {})".format, st.sampled_from(["contains", "starts_with", "suffix"]), PLAIN.map(quoted)),
    st.builds("width {}in {}".format, st.sampled_from(["", "not "]), listed(WHOLE)),
    st.builds("caption {}in {}".format, st.sampled_from(["", "not "]), listed(TEXTS.map(quoted))),
    st.builds("likes between {} and {}".format, WHOLE, WHOLE),
    st.builds(
        "{} is {}null".format, st.sampled_from(["caption", "likes", "safe", "id"]), st.sampled_from(["", "not "])
    ),
    st.sampled_from(["safe", "safe = true", "safe != true", "safe is distinct from false", "width = height", "true"]),
    st.sampled_from(["caption < note", "false", "width >= id", "caption in (null)", "WIDTH > 300"]),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no failure
@given(CONDITIONS)
def test_milvus_lets_pass_what_sql_does(table: EmbeddingSet, collection: MilvusOpened, text: str) -> None:
    expected = Filter.parse(text).select(table).ids().tolist()
    found = collection.selected(text)
    assert found.ids().tolist() == expected, found.expression
    assert found.count == len(expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("width >= 640", "width >= 640"),
        ("640 > width", "width <= 639"),
        ("width > 639.5", "width >= 640"),
        ("width = 639.5", "id < 0"),
        ("not (width < 640 and caption = 'x')", '(width >= 640 or (caption != "x" and caption is not null))'),
        ("width in (1, 2.0, 2.5, null)", "width in [1, 2]"),
        ("caption not in ('a', 'b')", '(caption not in ["a", "b"] and caption is not null)'),
        ("caption like '100%!%' escape '!'", 'caption like "100%\\\\%"'),
        ("starts_with(path, 'a_')", 'path like "a\\\\_%"'),
        ("similarity <= 0.1", "similarity <= 0.1"),
    ],
)
def test_known_filters_become_known_expressions(collection: MilvusOpened, text: str, said: str) -> None:
    assert expression(Filter.parse(text).condition, collection.card.columns) == said


def test_a_name_that_milvus_cannot_have_is_another_there(collection: MilvusOpened) -> None:
    name, kind = collection.card.columns["in"]
    assert (name.startswith("column_"), kind) == (True, "integer")
    assert collection.selected('"in" = 1').expression == f"{name} == 1"


def test_numbers_for_a_single_precision_column_are_rounded_as_sql_casts_them() -> None:
    columns = {"s": ("s", "single")}
    assert expression(Filter.parse("s = 0.1").condition, columns) == "s == 0.10000000149011612"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("length(caption) > 3", "this cannot be said to Milvus; got length; compare columns with values"),
        ("width * 2 > 640", r"this cannot be said to Milvus; got \*"),
        ("caption ilike '%dog%'", "cannot be said to Milvus; got ilike"),
        ("width::varchar = '1'", "cannot be said to Milvus"),
        ("case when safe then true end", "cannot be said to Milvus; got case"),
        ("1 = 1", "cannot be said to Milvus; got values compared with values"),
        ("width < likes and width < similarity", "cannot be said to Milvus; got width < similarity"),
        ("caption like 'a\\b%'", "cannot be said to Milvus; got a backslash in a pattern"),
        ("safe > false", "cannot be said to Milvus; got > of truth values"),
        ("caption = 'bell\x7f'", "cannot be said to Milvus; got control characters"),
        ("caption = 5", "the column caption holds values of kind text; got a condition on integer or single or double"),
        ("width", "the column width holds values of kind integer; got a condition on truth"),
        ("tags is null", "Milvus holds this column as text that cannot be compared; got tags"),
        ("size > 3", "no such column; got size; there are: id, path, sha256, width, height, caption"),
        ("width >= 640; drop table x", "the filter holds a semicolon"),
    ],
)
def test_what_milvus_cannot_be_told_is_refused(collection: MilvusOpened, text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        collection.selected(text)
