"""Features opened for training: what is read, what is refused, which pairs are drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from features import write_features, write_vectors
from helpers import unit_noise
from hypothesis import given
from hypothesis import strategies as st

from finetune.config import TrainError
from finetune.pairs import Pairs, open_features, split_pairs
from simat.errors import StorageError


def test_features_are_read_as_they_were_written(tmp_path: Path) -> None:
    images, texts = unit_noise(0, 2500, 8), unit_noise(1, 20000, 4)
    owners = np.random.default_rng(0).integers(2500, size=20000)
    write_vectors(tmp_path, images, texts, owners, ["train"] * 19999 + ["val"])
    features = open_features(tmp_path)
    assert (features.images == images.astype(np.float16)).all()
    assert (features.texts == texts.astype(np.float16)).all()
    assert (features.image_rows == owners).all()
    assert features.splits.tolist() == ["train"] * 19999 + ["val"]
    assert (features.image_space.dim, features.text_space.encoder, features.corpus) == (8, "ears", "c" * 64)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 20), min_size=1, max_size=60))
def test_every_image_is_drawn_once_with_one_of_its_own_captions(seed: int, owners: list[int]) -> None:
    rows = np.array(owners, np.int64)
    pairs = Pairs.of(np.arange(len(rows)), rows)
    images, captions = pairs.draw(seed, 3)
    assert sorted(images) == sorted(set(owners)) == pairs.images.tolist()
    assert (rows[captions] == images).all()
    assert (rows[pairs.captions] == pairs.images[pairs.image_of_caption]).all()


def test_all_captions_come_up_equally_often_and_no_epoch_is_like_another() -> None:
    pairs = Pairs.of(np.arange(1000), np.repeat(np.arange(200), 5))
    drawn = [pairs.draw(0, epoch) for epoch in range(400)]
    times = np.bincount(np.concatenate([captions for _, captions in drawn]), minlength=1000)
    assert (abs(times - 80) < 6 * 80**0.5).all()
    assert len({tuple(images) for images, _ in drawn}) == 400
    assert (pairs.draw(0, 7)[1] == drawn[7][1]).all()
    assert (pairs.draw(1, 7)[1] != drawn[7][1]).any()


def test_training_uses_its_splits_and_recall_another(tmp_path: Path) -> None:
    features = open_features(write_features(tmp_path, 60, 2, splits=("train", "restval", "test", "val")))
    train, measured, note = split_pairs(features, "val", 0)
    assert set(train.images % 4) == {0, 1}
    assert measured is not None
    assert set(measured.images % 4) == {3}
    assert note == "recall is measured on the 15 images of the split 'val'"
    assert len(train.captions) == 60


def test_restval_may_be_what_recall_is_measured_on(tmp_path: Path) -> None:
    features = open_features(write_features(tmp_path, 60, 2, splits=("train", "restval", "test", "val")))
    train, measured, _ = split_pairs(features, "restval", 0)
    assert set(train.images % 4) == {0}
    assert measured is not None
    assert set(measured.images % 4) == {1}


def test_cache_without_a_split_for_validation_holds_images_out(tmp_path: Path) -> None:
    features = open_features(write_features(tmp_path, 200, 2, splits=("all",)))
    train, measured, note = split_pairs(features, "val", 0)
    assert measured is not None
    assert "10 images held out of training" in note
    assert (len(train), len(measured), len(measured.captions)) == (190, 10, 20)
    assert not set(train.images) & set(measured.images)
    again, other = (split_pairs(features, "val", seed)[1] for seed in (0, 1))
    assert again is not None
    assert other is not None
    assert (again.images == measured.images).all()
    assert (other.images != measured.images).any()


def test_cache_too_small_to_hold_images_out_is_not_measured(tmp_path: Path) -> None:
    features = open_features(write_features(tmp_path, 39, 1, splits=("all",)))
    train, measured, note = split_pairs(features, "val", 0)
    assert (len(train), measured) == (39, None)
    assert "no recall is measured" in note


@pytest.mark.parametrize(("images", "splits"), [(1, ("train",)), (20, ("test", "val"))])
def test_cache_with_nothing_to_tell_apart_is_refused(images: int, splits: tuple[str, ...], tmp_path: Path) -> None:
    features = open_features(write_features(tmp_path, images, 1, splits=splits))
    with pytest.raises(TrainError, match=r"needs at least 2 images with captions in the splits train, restval, all"):
        split_pairs(features, "val", 0)


@pytest.mark.parametrize(("value", "shown"), [(0.0, "0.0"), (np.nan, "nan"), (np.inf, "inf")])
@pytest.mark.parametrize("side", ["image", "text"])
def test_features_without_direction_are_refused_by_row(side: str, value: float, shown: str, tmp_path: Path) -> None:
    images, texts = unit_noise(0, 30, 8), unit_noise(1, 30, 4)
    (images if side == "image" else texts)[17] = value
    write_vectors(tmp_path, images, texts, np.arange(30), ["train"] * 30)
    with pytest.raises(TrainError, match=f"a {side} feature has no direction; got length {shown} of {side} row 17"):
        open_features(tmp_path)


def edited(**values: Any) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        path = folder / "cache.json"
        path.write_text(json.dumps({**json.loads(path.read_bytes()), **values}))

    return edit


def cut(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-9])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "cache.json").unlink(), "no features here.*simat finetune cache"),
        (lambda folder: (folder / "cache.json").write_text("{"), "the features are damaged"),
        (lambda folder: (folder / "cache.json").write_text("[]"), "not a cache of features"),
        (edited(format="simat/heads"), "not a cache of features"),
        (edited(version=2), "of a newer version"),
        (edited(texts=[{}]), "the features are damaged"),
        (edited(counts={"images": 9, "captions": 60}), "the features are damaged"),
        (edited(image_space={"encoder": "eyes", "fingerprint": "a", "dim": 16}), "the features are damaged"),
        (edited(text_space={"encoder": "ears", "fingerprint": "a", "dim": 15}), "the features are damaged"),
        (cut("texts/part-000000.parquet"), r"part-000000\.parquet was truncated"),
        (cut("images/part-000000.parquet"), r"part-000000\.parquet was truncated"),
    ],
)
def test_damaged_features_are_refused(damage: Callable[[Path], object], message: str, tmp_path: Path) -> None:
    write_features(tmp_path, 20)
    damage(tmp_path)
    with pytest.raises(StorageError, match=message):
        open_features(tmp_path)
