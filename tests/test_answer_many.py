"""Queries answered together: the answers of one by one, and errors that stay with the query that made them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import COLOURS, ColourEncoder, blotches, colour_pictures, plain, save_pictures, unit_noise
from hypothesis import given, settings
from hypothesis import strategies as st

import simat
from simat.backends.composing import composed
from simat.backends.sources import QueryImage
from simat.composers import COMPOSERS, Background
from simat.engine import Engine
from simat.errors import ImageError, QueryError, SimatError
from simat.types import Answer, Query

IMAGES = 24
WORDS = st.sampled_from([*COLOURS, "snow", "a photo of nothing"])
EDITS = st.sampled_from(["red -> blue", "green -> white, + snow", "- purple", "red -> red"])
SOURCES = st.sampled_from(
    [
        {"image": 3},
        {"image": plain("red")},
        {"image": blotches(4)},
        {"image": np.asarray(blotches(99))},
        {"vector": unit_noise(3, 1, ColourEncoder().space.dim)[0]},
    ]
)
COUNTS = st.sampled_from([None, 1, 3, IMAGES - 1])
GOOD = st.one_of(
    st.builds(lambda text, k: Query(text=text, k=k, composer="text"), WORDS, COUNTS),
    st.builds(lambda source, k: Query(**source, k=k, composer="image"), SOURCES, COUNTS),
    st.builds(
        lambda source, edits, composer, k, include: Query(
            **source, edits=edits, composer=composer, k=k, scale=0.7, include_self=include
        ),
        SOURCES,
        EDITS,
        st.sampled_from(sorted(set(COMPOSERS) - {"text", "image", "edited_caption", "image_text_image"})),
        COUNTS,
        st.booleans(),
    ),
)
BAD = st.sampled_from(
    [
        Query(image="missing.png", composer="image"),
        Query(image=10**9, composer="image"),
        Query(text="red", k=10**9, composer="text"),
        Query(text="red", composer="no such composer"),
        Query(composer="delta", edits="red -> blue"),
        Query(image=0, text="red", mask=np.ones((2, 2), np.float32), composer="text"),
        Query(vector=np.ones(2), composer="image"),
        Query(vector=np.zeros(ColourEncoder().space.dim), composer="image"),
    ]
)


@pytest.fixture(scope="module")
def engine(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Engine:
    photos = tmp_path_factory.mktemp("many") / "photos"
    save_pictures(photos, {**colour_pictures(), "again.png": plain("red")})
    index = build(photos, ColourEncoder())
    opened = simat.open(index, ColourEncoder(), texts=["a {} thing", "{} and nothing else"])
    assert len(opened) == IMAGES
    return opened


def alone(engine: Engine, query: Query) -> Answer | SimatError:
    try:
        return engine.answer(query)
    except SimatError as error:
        return error


def same(one: Answer | SimatError, other: Answer | SimatError) -> None:
    assert type(one) is type(other), (one, other)
    if isinstance(one, Answer) and isinstance(other, Answer):
        np.testing.assert_allclose([r.score for r in one], [r.score for r in other], atol=1e-5)
        assert [r.path for r in one] == [r.path for r in other]
    else:
        assert str(one) == str(other)


@given(st.lists(st.one_of(GOOD, GOOD, BAD), min_size=1, max_size=9))
@settings(max_examples=40)
def test_answers_together_are_the_answers_one_by_one(engine: Engine, queries: list[Query]) -> None:
    for together, query in zip(engine.answer_many(queries), queries, strict=True):
        same(together, alone(engine, query))


def test_bad_queries_are_bad_and_spoil_no_other(engine: Engine) -> None:
    queries = [
        Query(text="red", k=1, composer="text"),
        Query(image="missing.png", composer="image"),
        Query(text="red", k=10**9, composer="text"),
        Query(image=3, edits="red -> blue", k=2),
    ]
    good, unreadable, greedy, edited = engine.answer_many(queries)
    assert isinstance(good, Answer)
    assert isinstance(edited, Answer)
    assert good[0].path.name == "red.png" or good[0].path.name == "again.png"
    assert isinstance(unreadable, ImageError)
    assert isinstance(greedy, QueryError)
    assert len(edited) == 2


def test_no_queries_have_no_answers(engine: Engine) -> None:
    assert engine.answer_many([]) == []


class Counting(ColourEncoder):
    """Remembers what it was asked to encode, call by call; a colour's name is itself a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[list[str]] = []
        self.images: list[int] = []

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        self.texts.append(texts)
        return super().encode_texts(texts)

    def encode_images(self, images: list[Any]) -> np.ndarray:
        self.images.append(len(images))
        return super().encode_images(images)


def test_words_and_images_of_all_queries_go_through_the_encoder_once(engine: Engine) -> None:
    encoder = Counting()
    fresh = simat.open(engine.folder, encoder)
    fresh.answer_many(
        [
            Query(text="snow", k=1, composer="text"),
            Query(image=plain("red"), edits="red -> blue, + snow", k=1),
            Query(image=plain("blue"), edits="blue -> green", k=1),
        ]
    )
    assert encoder.images[0] == 2
    assert [sorted(texts) for texts in encoder.texts] == [["blue", "green", "red", "snow"]]


def test_words_that_cannot_be_encoded_are_an_error_of_their_query_alone() -> None:
    encoder = ColourEncoder()

    def encode(texts: list[str]) -> np.ndarray:
        if "unspeakable" in texts:
            raise QueryError("no vector for this word")
        return encoder.encode_texts(texts)

    image = QueryImage(encoder.encode_texts(["red"])[0])
    queries = [Query(edits="red -> unspeakable"), Query(edits="red -> blue"), Query(composer="image")]
    bad, good, plainly = composed(queries, [image] * 3, encode, lambda: Background(encode))
    assert isinstance(bad, QueryError)
    np.testing.assert_allclose(good, encoder.encode_texts(["blue"])[0], atol=1e-6)
    np.testing.assert_allclose(plainly, image.vector, atol=1e-6)
