"""The edit language: what is written is what is read, and what cannot be read is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simat.edits import Edit, parse_edits
from simat.errors import QueryError

WORD = st.text("abcdefghijklmnopqrstuvwxyzäéßあ0123456789'", min_size=1, max_size=8)
PHRASE = st.lists(WORD, min_size=1, max_size=4).map(" ".join)
EDIT = st.one_of(
    st.builds(Edit, PHRASE, PHRASE),
    st.builds(lambda target: Edit(None, target), PHRASE),
    st.builds(lambda source: Edit(source, None), PHRASE),
)


@given(st.lists(EDIT, min_size=1, max_size=5))
def test_parse_edits_reads_back_what_str_writes(edits: list[Edit]) -> None:
    assert parse_edits(", ".join(map(str, edits))) == tuple(edits)


@given(EDIT, st.sampled_from(["  ", "\t", "\n "]))
def test_parse_edits_ignores_white_space(edit: Edit, space: str) -> None:
    assert parse_edits(space + str(edit).replace(" ", space) + space) == (edit,)


@given(PHRASE, PHRASE, st.sampled_from(["->", "→", "=>"]))
def test_parse_edits_knows_every_arrow(source: str, target: str, arrow: str) -> None:
    assert parse_edits(f"{source}{arrow}{target}") == (Edit(source, target),)


@given(st.text(max_size=30))
def test_parse_edits_returns_edits_or_a_query_error(text: str) -> None:
    try:
        edits = parse_edits(text)
    except QueryError as error:
        assert "write" in str(error)
        return
    assert edits and parse_edits(", ".join(map(str, edits))) == edits


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        ("dog -> cat", (Edit("dog", "cat"),)),
        ("dog -> cat, + snow", (Edit("dog", "cat"), Edit(None, "snow"))),
        ("- person", (Edit("person", None),)),
        ("− person", (Edit("person", None),)),
        ("+snow,-rain", (Edit(None, "snow"), Edit("rain", None))),
        ("a man-made  lake -> a well", (Edit("a man-made lake", "a well"),)),
    ],
)
def test_parse_edits_examples(text: str, edits: tuple[Edit, ...]) -> None:
    assert parse_edits(text) == edits


@pytest.mark.parametrize(
    "text", ["", " ", "dog", "dog ->", "-> cat", "->", "a -> b -> c", "+", "-", "dog -> cat,", ",+ snow", "+ , - a"]
)
def test_parse_edits_refuses_what_is_no_edit(text: str) -> None:
    with pytest.raises(QueryError, match=r"this is no edit; got .*write \"dog -> cat\""):
        parse_edits(text)


def test_parse_edits_names_the_item_that_is_wrong() -> None:
    with pytest.raises(QueryError, match="got 'snow'"):
        parse_edits("dog -> cat, snow, - person")


@pytest.mark.parametrize("words", [(None, None), ("", None), (None, ""), ("", "")])
def test_edit_needs_a_word(words: tuple[str | None, str | None]) -> None:
    with pytest.raises(QueryError, match="needs a source or a target"):
        Edit(*words)
