"""What the tests of composers share: a space of colours, words, captions, and queries over them."""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers import ColourEncoder, blotches
from hypothesis import strategies as st

from simat.composers import Background, Fusion, Parts, compose
from simat.edits import Edit
from simat.types import Query

ENCODER = ColourEncoder()
IMAGES = ENCODER.encode_images([blotches(seed) for seed in range(40)])
CAPTIONS = ("A red dog.", "A cat on a mat.", "a blue house in snow", "a dog under a tree", "An owl.")
WORDS = st.sampled_from(["red", "blue", "dog", "cat", "snow", "under"])
CHANGES = st.builds(Edit, WORDS, WORDS)
ADDITIONS = st.builds(Edit, st.none(), WORDS)
REMOVALS = st.builds(Edit, WORDS, st.none())
ANY_EDITS = st.lists(st.one_of(CHANGES, ADDITIONS, REMOVALS), min_size=1, max_size=4)
GOALS = st.lists(st.one_of(CHANGES, ADDITIONS), min_size=1, max_size=4)
SCALES = st.floats(0, 4).map(lambda scale: round(scale, 3))
MIXED = ("weighted", "slerp", "product", "basic")  # they search for words and can remove none
CAPTIONED = ("image_text_image", "edited_caption", "pdv")
EDITING = ("delta", "sentence_delta", *CAPTIONED)


def encode(texts: list[str]) -> np.ndarray:
    return ENCODER.encode_texts(texts)


def background(**changes: Any) -> Background:
    given = {"sample": lambda: IMAGES, "captions": lambda: CAPTIONS, **changes}
    return Background(encode, **given)


KNOWN = background()


def composed(composer: str, edits: Any, scale: float = 1.0, image: int = 4, known: Background = KNOWN) -> Any:
    """What a composer makes of an image of ``IMAGES``."""
    query = Query(edits=edits, scale=scale, composer=composer)
    return compose(Parts(query, lambda: IMAGES[image], encode, known))


def ranked(composition: Any, images: np.ndarray = IMAGES) -> list[int]:
    """Images from best to worst."""
    scores = composition.score(images) if isinstance(composition, Fusion) else images @ composition
    return np.argsort(-scores, kind="stable").tolist()


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def word(text: str) -> np.ndarray:
    return encode([text])[0].astype(np.float64)
