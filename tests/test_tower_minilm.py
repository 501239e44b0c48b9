"""The wheel's all-MiniLM-L6-v2 as a text tower."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import cosines
from sentence_transformers import SentenceTransformer

from simat.encoders import load_tower
from simat.encoders.minilm import MiniLM
from simat.encoders.offline import sentence_model
from simat.errors import EncoderError
from simat.types import ImageEncoder, TextEncoder

TEXTS = ["a dog", "", "the cats on a red mat .", "名前", "dog " * 400, "a dog"]


@pytest.fixture(scope="module")
def tower() -> MiniLM:
    return load_tower("minilm")


def test_vectors_are_those_of_the_library(tower: MiniLM) -> None:
    library = SentenceTransformer(str(sentence_model()), device="cpu")
    found = tower.encode_texts(TEXTS)
    assert cosines(found, library.encode(TEXTS)).min() >= 0.9999
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_a_batch_is_its_singles(tower: MiniLM) -> None:
    singles = np.concatenate([tower.encode_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(tower.encode_texts(TEXTS), singles, atol=1e-5)
    assert tower.encode_texts([]).shape == (0, 384)


def test_texts_are_those_of_the_offline_encoder_in_a_space_of_their_own(tower: MiniLM) -> None:
    offline = load_tower("offline")
    np.testing.assert_array_equal(tower.encode_texts(["a dog"]), offline.encode_texts(["a dog"]))
    assert (tower.space.encoder, tower.space.dim) == ("minilm", 384)
    assert tower.space.fingerprint != offline.space.fingerprint  # no image lives in it


def test_minilm_takes_no_argument_and_reads_no_images(tower: MiniLM) -> None:
    assert isinstance(tower, TextEncoder) and not isinstance(tower, ImageEncoder)
    with pytest.raises(EncoderError, match="the encoder minilm takes no argument; got 'x'; leave it out"):
        load_tower("minilm:x")
