"""Whole tasks ranked at once: the same rows as the composers give one by one, and the same as the index finds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from composing import MIXED
from helpers import ColourEncoder, blotches, save_pictures, unit_noise

import simat
from eval.composed import Gallery, prepare, prepare_all, rankings
from eval.simat_score import Task
from simat.composers import COMPOSERS, Fusion, Parts, compose
from simat.edits import Edit
from simat.errors import QueryError
from simat.types import Query

ENCODER = ColourEncoder()
CAPTIONS = ("A cat on a mat.", "a dog riding a bus", "a dog under a tree", "An owl.", "a cat riding an owl")
EDITS = [("dog", "cat"), ("cat", "owl"), ("riding", "under"), ("tree", "bus")]


def small_task(images: int, queries: int = 60) -> Task:
    rng = np.random.default_rng(5)
    return Task(
        np.sort(rng.integers(images, size=queries)),
        rng.integers(4, size=queries),
        np.full(queries, 1 / queries),
        rng.integers(3, size=queries),
        [EDITS[i] for i in rng.integers(len(EDITS), size=queries)],
    )


@pytest.fixture(scope="module")
def gallery() -> Gallery:
    images = ENCODER.encode_images([blotches(seed) for seed in range(50)])
    return Gallery(images, ENCODER.encode_texts, CAPTIONS)


def one_by_one(composer: str, gallery: Gallery, task: Task, scale: float, k: int) -> np.ndarray:
    """Each query through :func:`simat.composers.compose`."""
    found = []
    for source, (word, target) in zip(task.sources, task.edits, strict=True):
        query = Query(edits=[Edit(word, target)], scale=scale, composer=composer)
        image = gallery.images[source]
        made = compose(Parts(query, lambda image=image: image, ENCODER.encode_texts, gallery.background))
        scores = made.score(gallery.images) if isinstance(made, Fusion) else gallery.images @ made
        scores = np.where(np.arange(len(scores)) == source, -np.inf, scores)
        found.append(np.argsort(-scores, kind="stable")[:k])
    return np.stack(found)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("composer", [*COMPOSERS])
def test_rankings_are_those_of_the_composers_row_by_row(gallery: Gallery, composer: str, scale: float) -> None:
    task = small_task(50)
    np.testing.assert_array_equal(
        rankings(composer, gallery, task, scale, 4), one_by_one(composer, gallery, task, scale, 4)
    )


def test_several_composers_share_what_they_encode() -> None:
    asked: list[str] = []

    def counted(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return ENCODER.encode_texts(texts)

    images = ENCODER.encode_images([blotches(seed) for seed in range(20)])
    gallery = Gallery(images, counted, CAPTIONS)
    found = {name: rank(1.0, 2) for name, rank in prepare_all([*COMPOSERS], gallery, small_task(20)).items()}
    assert len(asked) == len(set(asked))
    assert set(found) == set(COMPOSERS)
    assert all(rows.shape == (60, 2) for rows in found.values())


def test_blocks_make_no_difference(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    task = small_task(50)
    before = {name: prepare(name, gallery, task)(1.5, 3) for name in ("product", "basic")}
    monkeypatch.setattr("eval.composed.BLOCK", 7)
    for name, rows in before.items():
        np.testing.assert_array_equal(prepare(name, gallery, task)(1.5, 3), rows)


@pytest.fixture(scope="module")
def engine(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> simat.Engine:
    """An index of thirty pictures, opened with captions and templates."""
    folder = tmp_path_factory.mktemp("composed")
    save_pictures(folder / "p", {f"{seed:02}.png": blotches(seed) for seed in range(30)})
    (folder / "captions.txt").write_text("\n".join([*CAPTIONS, "a {thing}", "one {relation} one"]))
    return simat.open(build(folder / "p", ENCODER), ENCODER, texts=folder / "captions.txt")


@pytest.mark.parametrize("composer", [*COMPOSERS])
def test_rankings_are_what_an_index_of_the_same_images_answers(engine: simat.Engine, composer: str) -> None:
    stored = engine.embeddings.vectors(np.arange(30))
    images = stored / np.linalg.norm(stored, axis=1, keepdims=True)
    task = small_task(30, 12)
    texts = [*CAPTIONS, "a {thing}", "one {relation} one"]
    found = rankings(composer, Gallery(images, ENCODER.encode_texts, CAPTIONS, texts), task, 1.5, 3)
    for row, source, edit in zip(found, task.sources, task.edits, strict=True):
        answer = engine.edit(int(source), [Edit(*edit)], scale=1.5, k=3, composer=composer)
        assert [result.id for result in answer] == row.tolist()


def test_an_encoder_that_says_nothing_favours_no_image() -> None:
    images = np.repeat(unit_noise(0, 1, 8), 40, axis=0)
    gallery = Gallery(images, lambda texts: unit_noise(1, 1, 8).repeat(len(texts), 0), CAPTIONS)
    task = small_task(40, 400)
    found = rankings("product", gallery, task, 1.0, 1)[:, 0]
    counts = np.bincount(found, minlength=40)
    assert counts.min() > 0 and counts.max() < 40
    assert (found != task.sources).all()


def test_unknown_composers_scales_and_counts_are_refused(gallery: Gallery) -> None:
    task = small_task(50)
    with pytest.raises(QueryError, match="no such composer; got magic; there are: delta, sentence_delta, "):
        prepare("magic", gallery, task)
    for composer in MIXED:
        with pytest.raises(QueryError, match=f"the composer '{composer}' needs a scale of at least 0; got -1"):
            rankings(composer, gallery, task, -1.0)
    for k in (0, 50):
        with pytest.raises(QueryError, match=rf"k must be in \[1, 49\]; got {k}"):
            rankings("basic", gallery, task, 1.0, k)
    with pytest.raises(QueryError, match="there are no captions to describe the image with"):
        rankings("pdv", Gallery(gallery.images, ENCODER.encode_texts), task)


@pytest.mark.parametrize("composer", ["image_text_image", "edited_caption", "pdv"])
def test_sentences_for_the_steps_describe_no_image(gallery: Gallery, composer: str) -> None:
    task = small_task(50)
    texts = ["a {thing}", "one {relation} one", "a dog under a bus", "a cat riding a tree", "an owl under a tree"]
    both = Gallery(gallery.images, ENCODER.encode_texts, CAPTIONS, texts)
    assert both.background.bank.texts == CAPTIONS
    np.testing.assert_array_equal(rankings(composer, both, task), rankings(composer, gallery, task))
    other = Gallery(gallery.images, ENCODER.encode_texts, texts[2:])
    assert (rankings(composer, other, task) != rankings(composer, gallery, task)).any()
