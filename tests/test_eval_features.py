"""Vectors of a corpus's images: encoded once, read again, and refused where they belong to something else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import vector_set
from triplet_world import TRIPLETS, TripletEncoder, triplet_corpus

import eval.features
from data.corpus import Corpus
from eval.features import corpus_vectors, image_files, stored_vectors
from eval.spaces import Space, Towers, load_space
from simat.encoders.unknown import unknown_space
from simat.errors import EncoderError, ImageError, QueryError, SpaceMismatchError, StorageError
from simat.files import cache_folder
from simat.heads import Head, Heads, Layer, save_heads
from simat.types import EmbeddingSpace


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return triplet_corpus(tmp_path_factory.mktemp("triplets"), copies=2)


def expected(corpus: Corpus, encoder: TripletEncoder) -> np.ndarray:
    captions = corpus.table("triplets")["caption"].to_pylist()
    shown = corpus.table("regions")["caption_id"].to_pylist()
    return encoder.encode_texts([captions[caption] for caption in shown])


def test_vectors_are_in_the_order_of_the_regions_and_encoded_once(corpus: Corpus, own_cache: Path) -> None:
    encoder = TripletEncoder()
    first = corpus_vectors(corpus, encoder)
    np.testing.assert_allclose(first, expected(corpus, encoder), atol=1e-3)
    assert encoder.seen == len(first) == 2 * len(TRIPLETS)
    again = corpus_vectors(corpus, encoder)
    assert encoder.seen == len(first)
    assert (again == first).all()


def test_a_killed_run_goes_on_at_its_part(corpus: Corpus, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eval.features, "PART", 8)
    monkeypatch.setattr(eval.features, "BATCH", 4)

    class Dying(TripletEncoder):
        def encode_images(self, images: list) -> np.ndarray:  # type: ignore[type-arg]
            if self.seen >= 20:
                raise KeyboardInterrupt
            return super().encode_images(images)

    with pytest.raises(KeyboardInterrupt):
        corpus_vectors(corpus, Dying())
    encoder = TripletEncoder()
    found = corpus_vectors(corpus, encoder)
    assert encoder.seen == len(found) - 16  # two whole parts stood
    np.testing.assert_allclose(found, expected(corpus, encoder), atol=1e-3)


def test_another_space_has_a_cache_of_its_own(corpus: Corpus, own_cache: Path) -> None:
    corpus_vectors(corpus, TripletEncoder())
    other = TripletEncoder(constant=True, fingerprint="8" * 64)
    assert (corpus_vectors(corpus, other)[:, -1] == 1).all()
    assert len([*cache_folder("eval").iterdir()]) == 2


def test_features_of_another_encoder_are_refused(corpus: Corpus, own_cache: Path) -> None:
    corpus_vectors(corpus, TripletEncoder())
    (folder,) = cache_folder("eval").iterdir()
    other = TripletEncoder(fingerprint="9" * 64)
    with pytest.raises(SpaceMismatchError, match=r"holds vectors of triplets \(9-d, 7+\); got an encoder of triplets"):
        Towers(other, other, folder).images(corpus)
    same = TripletEncoder()
    assert len(Towers(same, same, folder).images(corpus)) == 2 * len(TRIPLETS)
    assert same.seen == 0


def test_features_that_lack_an_image_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    vector_set(tmp_path / "set", np.eye(9, dtype=np.float32))
    with pytest.raises(StorageError, match=rf"lack {len(TRIPLETS) * 2} of {len(TRIPLETS) * 2} images; got 1\.jpg in"):
        stored_vectors(tmp_path / "set", sorted(image_files(corpus)), unknown_space(9, "noise"))


def test_features_of_other_images_of_the_same_names_are_refused(tmp_path: Path, own_cache: Path) -> None:
    encoder = TripletEncoder()
    corpus = triplet_corpus(tmp_path, copies=2)
    corpus_vectors(corpus, encoder)
    (folder,) = cache_folder("eval").iterdir()
    files = image_files(corpus)
    (corpus.images / files[0]).write_bytes((corpus.images / files[-1]).read_bytes())
    with pytest.raises(StorageError, match=rf"the features are of other images; got another {files[0]} in"):
        Towers(encoder, encoder, folder).images(corpus)


def test_regions_without_pictures_are_refused(tmp_path: Path) -> None:
    bare = triplet_corpus(tmp_path, pictures=False)
    with pytest.raises(QueryError, match=r"72 of 72 regions have no image; got .*; build the corpus again with the"):
        image_files(bare)


def test_an_image_that_is_gone_is_named(tmp_path: Path, own_cache: Path) -> None:
    corpus = triplet_corpus(tmp_path, copies=2)
    gone = corpus.images / image_files(corpus)[5]
    gone.unlink()
    with pytest.raises(ImageError, match=rf"cannot read the file: .*; got .*{gone.name}"):
        corpus_vectors(corpus, TripletEncoder())


def turned(seed: int, image: EmbeddingSpace, text: EmbeddingSpace) -> Heads:
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(image.dim, image.dim)))[0].astype(np.float32)
    head = Head((Layer(turn, np.zeros(image.dim, np.float32)),))
    return Heads(head, head, "linear", 0.1, image, text)


def test_heads_turn_images_and_texts_alike(corpus: Corpus, own_cache: Path) -> None:
    encoder = TripletEncoder()
    towers = Towers(encoder, encoder)
    plain, tuned = Space("plain", towers), Space("tuned", towers, turned(0, encoder.space, encoder.space))
    texts = ["cat", "biting", "A dog biting a bus."]
    before, after = (space.images(corpus) @ space.texts(texts).T for space in (plain, tuned))
    np.testing.assert_allclose(after, before, atol=2e-3)
    assert abs(plain.texts(texts) - tuned.texts(texts)).max() > 0.1
    assert (plain.tau, tuned.tau) == (None, 0.1)
    assert encoder.seen == 2 * len(TRIPLETS)  # once for both
    assert tuned.space.heads == turned(0, encoder.space, encoder.space).fingerprint


def test_towers_that_share_no_space_need_heads() -> None:
    image, text = TripletEncoder(), TripletEncoder(fingerprint="9" * 64)
    with pytest.raises(EncoderError, match=r"the two towers share no space; got .*; give heads for them"):
        Space("both", Towers(image, text))
    assert Space("both", Towers(image, text), turned(0, image.space, text.space)).tau == 0.1


def test_heads_of_another_encoder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = TripletEncoder()
    other = replace(encoder.space, fingerprint="9" * 64)
    save_heads(tmp_path / "heads", turned(0, other, other))
    monkeypatch.setattr("simat.encoders.load_towers", lambda spec: (encoder, encoder))
    with pytest.raises(SpaceMismatchError, match="the heads follow the image space triplets"):
        load_space("triplets", tmp_path / "heads")
    with pytest.raises(StorageError, match="no heads here"):
        load_space("triplets", tmp_path / "gone")


def test_every_text_is_encoded_once() -> None:
    asked: list[str] = []

    class Listening(TripletEncoder):
        encode_texts: Callable[[list[str]], np.ndarray] = lambda self, texts: (
            asked.extend(texts) or TripletEncoder.encode_texts(self, texts)
        )

    encoder = Listening()
    towers = Towers(encoder, encoder)
    rows = towers.texts(["cat", "dog", "cat"])
    assert (rows[0] == rows[2]).all()
    assert (towers.texts(["dog", "cow"])[0] == rows[1]).all()
    assert asked == ["cat", "dog", "cow"]
