"""Filters that would make the machine work, and texts that would be more than a filter, are refused at once."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from columned import table_set

from simat.embeddings import EmbeddingSet
from simat.errors import QueryError
from simat.where import Filter, Filters
from simat.where.filters import size_of
from simat.where.patterns import expression_size

ROWS = 4000


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingSet:
    """Rows with captions of 300 characters."""
    columns = {"caption": ["a" * 300] * ROWS, "tags": [["sea"]] * ROWS}
    return table_set(tmp_path_factory.mktemp("long"), columns, part_size=ROWS)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("width < " + "9" * 5000, "a number that no column can have; got 9999"),
        ("width < 1e999999999", "a number that no column can have; got 1e999999999"),
        ("width > 1e-999999999", "a number that no column can have"),
        ("length(" + "||".join(["caption"] * 60) + ") > 1", r"more than 8 times \|\|; got 59; join fewer texts"),
        ("caption like '" + "%_" * 9000 + "'", "the pattern of like is longer than 500 characters; got 18000"),
        ("caption like '" + "%a_" * 6000 + "b'", "longer than 500 characters"),
        ("caption ilike '" + "%a_" * 300 + "' escape '!'", "the pattern of ilike is longer than 500 characters"),
    ],
)
def test_filter_that_would_need_much_is_refused_at_once(long: EmbeddingSet, text: str, why: str) -> None:
    started = time.process_time()
    with pytest.raises(QueryError, match=why):
        Filter.parse(text).select(long)
    assert time.process_time() - started < 1


def test_remembered_filters_take_no_more_memory_than_they_may(
    long: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    import simat.where.filters

    monkeypatch.setattr(simat.where.filters, "REMEMBERED", 100_000)
    filters = Filters(long)
    texts = [f"{' ' * 4000}id < {n}" for n in range(20)]
    kept = [filters.selection(text) for text in texts]
    known = [text for text, first in zip(texts, kept, strict=True) if text in filters._known]
    assert known == texts[-5:]  # of 16,000 bytes of text each, and of some more
    assert filters._bytes == sum(size_of(text, filters._known[text]) for text in known) <= 100_000


@pytest.mark.parametrize(
    ("pattern", "size"),
    [
        ("", 0),
        ("^IMG_.*[0-9]", 7),
        (r"\d{4}-\d{2}-\d{2}", 10),
        ("[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", 36),
        ("(a|bc){2,10}", 30),
        ("((a{3}b){4}c){5}", 85),
        ("(a{,7}){5,}", 35),
        (r"\pL+ \p{Greek}{4}", 25 + 1 + 100),
        (r"\{3}\({2}", 5),
        ("[](]{5}[^])]{5}", 10),
        ("([[:alpha:])(]a){50}", 100),
        (r"([\](]a){50}", 100),
        ("(.?){999}", 999),
        ("(" + ".?" * 200 + "){250}", 50_000),
        ("a)b(c{9}", 12),
        ("[" + r"\a" * 240, 241),
        ("[" + "[:alpha:" * 60, 481),
    ],
)
def test_size_of_an_expression_is_that_with_its_counts_written_out(pattern: str, size: int) -> None:
    assert expression_size(pattern) == size


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(.?){999}c", "repeats too much; got 1000 parts; count less"),
        ("(a?b?){499}c", "repeats too much; got 999 parts"),
        ("(a|b)*a(a|b){900}c", "repeats too much"),
        (r"(\pL|\pN){10}", "repeats too much; got 500 parts"),
        (r"\Q[\E(.?.?){900}]", r"may not quote with \\Q"),
    ],
)
def test_expression_that_would_need_hours_is_refused_at_once(long: EmbeddingSet, pattern: str, why: str) -> None:
    started = time.process_time()
    with pytest.raises(QueryError, match=why):
        Filter.parse(f"regexp_matches(caption, '{pattern}')").select(long)
    assert time.process_time() - started < 1


def test_expression_that_takes_long_is_stopped_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import simat.where.database

    letters = np.random.default_rng(0).choice(["a", "b"], (2048, 300))
    hard = table_set(tmp_path, {"caption": ["".join(row) for row in letters]}, part_size=2048)
    monkeypatch.setattr(simat.where.database, "LIMIT_S", 0.01)
    started = time.process_time()
    with pytest.raises(QueryError, match="takes longer"):
        Filter.parse("regexp_matches(caption, '(a|b)*a(a|b){100}c')").select(hard)
    assert time.process_time() - started < 2.5  # all rows take twice as long
