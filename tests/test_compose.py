"""Query vectors: the equations, written a second time as plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import ColourEncoder, blotches
from hypothesis import given
from hypothesis import strategies as st

from simat.compose import Parts, compose
from simat.edits import Edit
from simat.errors import QueryError
from simat.types import Query

ENCODER = ColourEncoder()
IMAGE = ENCODER.encode_images([blotches(4)])[0]
WORDS = st.sampled_from(["red", "blue", "dog", "a cat on a mat", "snow"])
EDITS = st.lists(st.one_of(st.builds(Edit, WORDS, WORDS), WORDS.map(lambda w: Edit(None, w))), min_size=1, max_size=4)
SCALES = st.floats(-3, 3).map(lambda scale: round(scale, 3))


def composed(query: Query) -> np.ndarray:
    vector = compose(Parts(query, lambda: IMAGE, ENCODER.encode_texts))
    assert isinstance(vector, np.ndarray)
    return vector


def never(*_: object) -> np.ndarray:
    raise AssertionError("nothing asked for this")


@given(EDITS, SCALES)
def test_delta_is_equation_3_2(edits: list[Edit], scale: float) -> None:
    expected = IMAGE.astype(np.float64)
    for edit in edits:
        for sign, word in ((1, edit.target), (-1, edit.source)):
            if word:
                expected = expected + scale * sign * ENCODER.encode_texts([word])[0]
    expected = expected / np.linalg.norm(expected)
    np.testing.assert_allclose(composed(Query(edits=edits, scale=scale)), expected, atol=1e-6)


@given(EDITS)
def test_delta_of_scale_0_is_the_image(edits: list[Edit]) -> None:
    np.testing.assert_allclose(composed(Query(edits=edits, scale=0.0)), IMAGE, atol=1e-7)


@given(WORDS, SCALES)
def test_delta_from_a_word_to_itself_is_the_image(word: str, scale: float) -> None:
    np.testing.assert_array_equal(
        composed(Query(edits=[Edit(word, word)], scale=scale)), composed(Query(composer="image"))
    )


@given(EDITS, SCALES, st.randoms(use_true_random=False))
def test_delta_does_not_depend_on_the_order_of_edits(edits: list[Edit], scale: float, random: object) -> None:
    shuffled = [*edits]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    np.testing.assert_allclose(
        composed(Query(edits=edits, scale=scale)), composed(Query(edits=shuffled, scale=scale)), atol=1e-6
    )


def test_delta_adds_and_removes_single_words() -> None:
    snow = ENCODER.encode_texts(["snow"])[0]
    plus, minus = IMAGE + snow, IMAGE - snow
    np.testing.assert_allclose(composed(Query(edits="+ snow")), plus / np.linalg.norm(plus), atol=1e-6)
    np.testing.assert_allclose(composed(Query(edits="- snow")), minus / np.linalg.norm(minus), atol=1e-6)


def test_text_is_the_words_alone() -> None:
    parts = Parts(Query(text="red", composer="text"), never, ENCODER.encode_texts)
    np.testing.assert_allclose(compose(parts), ENCODER.encode_texts(["red"])[0], atol=1e-7)


def test_text_takes_the_targets_where_no_text_is_given() -> None:
    query = Query(edits="dog -> cat, + red, - snow", composer="text")
    np.testing.assert_allclose(composed(query), ENCODER.encode_texts(["cat red"])[0], atol=1e-7)


def test_image_asks_for_no_words() -> None:
    np.testing.assert_allclose(compose(Parts(Query(composer="image"), lambda: IMAGE, never)), IMAGE, atol=1e-7)


def test_compose_refuses_an_unknown_composer() -> None:
    with pytest.raises(QueryError, match="no such composer; got magic; there are: delta, sentence_delta, "):
        composed(Query(composer="magic"))


def test_delta_refuses_a_query_without_edits() -> None:
    with pytest.raises(QueryError, match="'delta' needs edits; write for example \"dog -> cat\""):
        composed(Query())


@pytest.mark.parametrize("query", [Query(composer="text"), Query(edits="- dog", composer="text")])
def test_text_refuses_a_query_without_words(query: Query) -> None:
    with pytest.raises(QueryError, match="'text' needs words"):
        composed(query)


def test_compose_refuses_an_edit_that_cancels_the_image() -> None:
    texts = lambda words: np.stack([IMAGE] * len(words))  # noqa: E731
    with pytest.raises(QueryError, match="query vector 0 has no direction"):
        compose(Parts(Query(edits="- this"), lambda: IMAGE, texts))


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), float("-inf")])
def test_query_refuses_scales_that_are_no_numbers(scale: float) -> None:
    with pytest.raises(QueryError, match="the scale must be a finite number; got"):
        Query(edits="dog -> cat", scale=scale)


@pytest.mark.parametrize("k", [0, -1])
def test_query_refuses_k_below_1(k: int) -> None:
    with pytest.raises(QueryError, match=f"k must be at least 1; got {k}"):
        Query(text="dog", k=k)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_query_refuses_strengths_outside_0_and_1(strength: float) -> None:
    with pytest.raises(QueryError, match=r"the strength must lie in \[0, 1\]; got"):
        Query(text="dog", strength=strength)


def test_query_refuses_edits_that_do_not_parse() -> None:
    with pytest.raises(QueryError, match="this is no edit; got 'dog'"):
        Query(edits="dog")
