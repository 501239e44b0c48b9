"""Composers on labelled photographs: which queries are asked, who is right, what perfect and empty vectors score."""

from __future__ import annotations

import csv
from itertools import permutations
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from building import here
from PIL import Image

from data.imagenet_classes import imagenet_classes, imagenet_clusters
from data.labels import LabelledPhoto, read_labels
from eval.intervals import Estimate
from eval.photos import Album, album_judge, label_tasks, open_album, photo_table
from eval.spaces import Space, Towers
from simat.composers import COMPOSERS
from simat.errors import QueryError
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

NAMES = ("tiger", "jaguar", "leopard", "zebra", "gorilla", "banana", "orange", "artichoke", "cello", "banjo", "flute")
NOISE = 8  # axes
STEP = 20  # of grey between two classes


class LabelEncoder:
    """One axis per class, for grey pictures and for texts with its name, beside axes of noise.

    With ``noise`` above 1 the noise drowns the classes.
    """

    def __init__(self, noise: float = 0.1) -> None:
        self.space = EmbeddingSpace("labels", "5" * 64, len(NAMES) + NOISE)
        self.noise = noise

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        levels = [round(float(np.asarray(image.convert("L")).mean()) / STEP) for image in images]
        return np.concatenate([self._row([level], level) for level in levels])

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        found = [[i for i, name in enumerate(NAMES) if name in text.split()] for text in texts]
        return np.concatenate([self._row(f, crc32(t.encode())) for f, t in zip(found, texts, strict=True)])

    def _row(self, places: list[int], seed: int) -> np.ndarray:
        row = np.zeros((1, len(NAMES) + NOISE), np.float32)
        row[0, places] = 1
        row[0, len(NAMES) :] = self.noise * np.random.default_rng(seed).normal(size=NOISE)
        return unit_rows(row)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("photographs")
    known = {one.name: one for one in imagenet_classes()}
    rows = []
    for number, name in enumerate(NAMES):
        Image.new("L", (40, 40), STEP * number).save(made / f"{name}.png")
        rows.append((f"{name}.png", known[name].wnid, name, known[name].index))
    with (made / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "wnid", "label", "imagenet_index"), *rows])
    return made


@pytest.fixture(scope="module")
def photos(folder: Path) -> list[LabelledPhoto]:
    return read_labels(folder)


def album_of(photos: list[LabelledPhoto], noise: float = 0.1) -> Album:
    encoder = LabelEncoder(noise)
    return open_album(Space("labels", Towers(encoder, encoder)), photos)


def test_every_class_becomes_every_other_of_its_group(photos: list[LabelledPhoto]) -> None:
    group = {name: cluster.group for cluster in imagenet_clusters() for name in cluster.classes}
    expected = {(a, b) for a, b in permutations(NAMES, 2) if group[a] == group[b]}
    dev, test = label_tasks(photos)
    assert {*dev.edits, *test.edits} == expected
    assert len(dev) + len(test) == len(expected)
    assert not {*dev.sources.tolist()} & {*test.sources.tolist()}
    for task in (dev, test):
        assert task.weights.sum() == pytest.approx(1)
        for source, goal, edit in zip(task.sources, task.goals, task.edits, strict=True):
            assert photos[source].label == edit[0]
            assert [photo.label for photo in photos if photo.imagenet_index == goal] == [edit[1]]


def test_judge_goes_by_the_label(photos: list[LabelledPhoto]) -> None:
    goals = np.full(len(photos), photos[3].imagenet_index)
    assert album_judge(photos)(np.arange(len(photos)), goals).tolist() == [0, 0, 0, 1] + [0] * 7


def test_perfect_labels_score_100_and_the_image_alone_little(photos: list[LabelledPhoto]) -> None:
    table = photo_table(album_of(photos), "labels")
    assert {row[0] for row in table.rows} == {*COMPOSERS}
    found = {row[:2]: row for row in table.rows}
    for name in ("delta", "text", "sentence_delta"):
        assert found[name, None][4].value == pytest.approx(1)  # type: ignore[union-attr]
    alone, margin = found["image", None][4], found["image", None][6]
    assert isinstance(alone, Estimate) and isinstance(margin, Estimate)
    assert alone.value < 0.5
    assert margin.value == pytest.approx(alone.value - 1)
    for name in ("pdv", "edited_caption", "image_text_image"):
        assert found[name, "own"][2].value == pytest.approx(1)  # type: ignore[union-attr]
        assert isinstance(found[name, "other"][4], Estimate)


def test_vectors_that_say_nothing_score_what_chance_predicts(photos: list[LabelledPhoto]) -> None:
    table = photo_table(album_of(photos, noise=1000), "labels")
    delta = next(row for row in table.rows if row[0] == "delta")
    assert isinstance(delta[2], Estimate) and isinstance(delta[5], Estimate)
    assert delta[2].value < 0.4 and 0.2 < delta[5].value < 0.8  # 1 of 10, and 5 of 10


def test_bank_of_others_has_no_class_of_the_photographs(photos: list[LabelledPhoto]) -> None:
    album = album_of(photos)
    own, other = (gallery.background.bank.texts for gallery in (album.own, album.other))
    assert own[0] == "a photo of a tiger" and own[6] == "a photo of an orange"
    assert len(other) == len({one.name for one in imagenet_classes()}) - len(NAMES)
    assert not {*own} & {*other}


def test_photographs_without_a_pair_are_refused(photos: list[LabelledPhoto]) -> None:
    with pytest.raises(QueryError, match="no photograph can become another; got 1 photographs"):
        label_tasks(photos[:1])


def test_command_prints_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = LabelEncoder()
    monkeypatch.setattr("simat.encoders.load_towers", lambda spec: (encoder, encoder))
    found = here(capsys, "eval", "photos", folder, "--encoder", "labels", "--json").json
    assert found["photographs"] == len(NAMES)
    assert found["tables"]["photos"][0]["λ*, n = 1"] == pytest.approx(100)
    assert "cannot read" in here(capsys, "eval", "photos", folder / "gone").error
