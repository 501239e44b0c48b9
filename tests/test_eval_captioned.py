"""Retrieval between images and captions against a slow reading of its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from triplet_world import triplet_corpus

from data.captioned import captioned_images
from data.corpus import Corpus, CorpusError, new_corpus
from eval.captioned import captioned, protocol_recalls, recall_table, recalls, usual_protocols
from simat.errors import QueryError
from simat.vectors import unit_rows


def noise(seed: int, count: int, dim: int = 4) -> np.ndarray:
    return unit_rows(np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32))


def slow(images: np.ndarray, captions: np.ndarray, k: int) -> tuple[float, float]:
    """Text R@k and Image R@k as they are defined."""
    per_image = len(captions) // len(images)
    text = [
        any(c // per_image == i for c in sorted(range(len(captions)), key=lambda c: -float(captions[c] @ image))[:k])
        for i, image in enumerate(images)
    ]
    image = [
        c // per_image in sorted(range(len(images)), key=lambda i: -float(images[i] @ caption))[:k]
        for c, caption in enumerate(captions)
    ]
    return float(np.mean(text)), float(np.mean(image))


@given(st.integers(0, 1000), st.integers(1, 9), st.integers(1, 5), st.integers(1, 6))
def test_recalls_are_the_definition(seed: int, images: int, per_image: int, k: int) -> None:
    rows, texts = noise(seed, images), noise(seed + 1, images * per_image)
    found = recalls(rows, texts, (k,))
    assert (found.text[k], found.image[k]) == pytest.approx(slow(rows, texts, k))


def test_one_of_its_captions_is_enough_for_an_image() -> None:
    images = np.eye(3, dtype=np.float32)
    misleading = np.roll(images, 1, axis=0) * np.float32(0.9)
    captions = np.stack([images, *[misleading] * 4], axis=1).reshape(15, 3)
    found = recalls(images, captions, (1, 2))
    assert found.text == {1: 1.0, 2: 1.0}
    assert found.image == {1: pytest.approx(1 / 5), 2: pytest.approx(1 / 5)}


def test_vectors_that_say_nothing_find_nothing() -> None:
    same = np.tile(noise(0, 1), (20, 1))
    found = recalls(same, np.tile(noise(0, 1), (100, 1)), (1, 5))
    assert found.text == {1: 0.0, 5: 0.0}
    assert found.image == {1: 0.0, 5: 0.0}


def test_folds_are_averaged_and_easier_than_the_whole() -> None:
    images, noisy = noise(0, 40, 6), noise(1, 200, 6)
    captions = unit_rows(np.repeat(images, 5, axis=0) + noisy)
    parts = [recalls(images[s : s + 10], captions[5 * s : 5 * s + 50], (1,)) for s in range(0, 40, 10)]
    folded = protocol_recalls(images, captions, 10, (1,))
    assert folded.text[1] == pytest.approx(np.mean([part.text[1] for part in parts]))
    assert folded.image[1] == pytest.approx(np.mean([part.image[1] for part in parts]))
    assert folded.image[1] > protocol_recalls(images, captions, 0, (1,)).image[1]


def test_images_beyond_the_last_whole_fold_stay_out() -> None:
    images, captions = noise(0, 25), noise(1, 50)
    assert protocol_recalls(images, captions, 10, (1,)) == protocol_recalls(images[:20], captions[:40], 10, (1,))


def test_protocols_are_those_that_the_images_suffice_for() -> None:
    assert usual_protocols(400) == {"all": 0}
    assert usual_protocols(1200) == {"1k": 1000}
    assert usual_protocols(5000) == {"1k": 1000, "5k": 5000}
    assert usual_protocols(5000, "all") == {"all": 0}
    with pytest.raises(QueryError, match=r"the protocol 5k needs 5,000 images; got 1,200; use all"):
        usual_protocols(1200, "5k")
    with pytest.raises(QueryError, match=r"no such protocol; got '2k'; there are: 1k, 5k, all"):
        usual_protocols(1200, "2k")


@pytest.mark.parametrize(("images", "captions", "k"), [(3, 7, 1), (3, 6, 0), (0, 0, 1)])
def test_captions_that_do_not_belong_to_the_images_are_refused(images: int, captions: int, k: int) -> None:
    with pytest.raises(QueryError, match="retrieval needs as many captions for every image"):
        recalls(np.ones((images, 2), np.float32), np.ones((captions, 2), np.float32), (k,))


def caption_corpus(folder: Path, splits: list[str], counts: list[int]) -> Corpus:
    with new_corpus(folder) as writer:
        ids = list(range(10, 10 + len(splits)))
        images = pa.table({"image_id": ids, "file": [f"{i}.jpg" for i in ids], "split": splits})
        writer.add_table("images", images, dict.fromkeys(images.column_names, ""))
        rows = [(i, f"caption {n} of {i}") for i, count in zip(ids, counts, strict=True) for n in range(count)]
        texts = pa.table({"image_id": [i for i, _ in rows], "caption": [text for _, text in rows]})
        writer.add_table("captions", texts, dict.fromkeys(texts.column_names, ""))
        writer.finish("captions", {}, {})
    return Corpus(folder)


def test_test_split_is_taken_where_there_is_one_and_images_need_enough_captions(tmp_path: Path) -> None:
    corpus = caption_corpus(tmp_path / "c", ["train", "test", "test", "test"], [5, 6, 4, 5])
    found = captioned(corpus)
    assert found.rows.tolist() == [1, 3]
    assert len(found) == 2
    assert found.captions[:5] == tuple(f"caption {n} of 11" for n in range(5))
    assert found.captions[5] == "caption 0 of 13"
    assert captioned(corpus, "train").rows.tolist() == [0]
    assert captioned(corpus, per_image=4).rows.tolist() == [1, 2, 3]


def test_corpus_without_a_test_split_is_taken_whole(tmp_path: Path) -> None:
    assert captioned(caption_corpus(tmp_path / "c", ["train", "val"], [5, 5])).rows.tolist() == [0, 1]


def test_corpus_that_retrieval_cannot_be_measured_on_is_refused(tmp_path: Path) -> None:
    corpus = caption_corpus(tmp_path / "c", ["train", "val"], [4, 3])
    with pytest.raises(QueryError, match="the corpus has no split 'test'; got train, val"):
        captioned(corpus, "test")
    with pytest.raises(QueryError, match="no image of the corpus has 5 captions"):
        captioned(corpus)
    with pytest.raises(QueryError, match="images with captions of their own; got simat; give a corpus of captions"):
        captioned(triplet_corpus(tmp_path / "t", pictures=False))


def test_table_has_a_row_per_protocol() -> None:
    images, captions = noise(0, 12), noise(1, 60)
    found = {"all": recalls(images, captions)}
    table = recall_table("noise", found, 12)
    assert table.columns == ("Protocol", *(f"{side} R@{k}" for side in ("Text", "Image") for k in (1, 5, 10)))
    assert table.rows[0][1] == pytest.approx(100 * found["all"].text[1])


def test_reader_keeps_every_row_of_every_kind(tmp_path: Path) -> None:
    images = captioned_images(caption_corpus(tmp_path / "c", ["train", "test"], [0, 2]))
    assert [(image.file, image.split, len(image.captions)) for image in images] == [
        ("10.jpg", "train", 0),
        ("11.jpg", "test", 2),
    ]
    corpus = triplet_corpus(tmp_path / "t", pictures=False)
    regions = captioned_images(corpus)
    assert len(regions) == corpus.manifest.counts["regions"]
    assert {region.file for region in regions} == {None}
    assert {region.split for region in regions} == {"dev", "test"}
    assert all(len(region.captions) == 1 for region in regions)


def test_reader_refuses_a_corpus_without_captions(tmp_path: Path) -> None:
    with new_corpus(tmp_path / "e") as writer:
        writer.finish("edits", {}, {})
    with pytest.raises(
        CorpusError, match=r"a corpus of kind 'edits' has no captions; got .*; give a corpus of captions"
    ):
        captioned_images(Corpus(tmp_path / "e"))
