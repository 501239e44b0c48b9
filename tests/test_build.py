"""Whole builds in this process: what they leave, what they refuse, and how they go on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import (
    CountingEncoder,
    Interrupted,
    Recorder,
    contents,
    same_contents,
    save_blotches,
    without_processes,
)
from helpers import ColourEncoder, PixelColourEncoder
from PIL import Image

import simat
from indexing.build import Built, build_index
from indexing.config import SHARD_SETTINGS, BuildConfig, Machine
from indexing.inspect import verify_index
from simat.embeddings import EmbeddingSet
from simat.errors import BuildError
from simat.files import locked
from simat.types import Encoder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures in two folders, a copy, and a file that is none."""
    root = save_blotches(tmp_path_factory.mktemp("photos") / "photos", 12)
    save_blotches(root / "more", 8, first=12)
    shutil.copy(root / "0003.png", root / "more" / "copy.png")
    (root / "0005x.png").write_bytes(b"bad")
    return root


@pytest.fixture(scope="module")
def config(photos: Path) -> BuildConfig:
    return BuildConfig(str(photos), encoder="colours", part_size=5, shard_size=8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, config: BuildConfig) -> Path:
    """The index of an uninterrupted build."""
    folder = tmp_path_factory.mktemp("whole") / "index"
    make(folder, config)
    return folder


def make(folder: Path, config: BuildConfig, encoder: Encoder | None = None, recorder: Recorder | None = None) -> Built:
    with without_processes():
        return build_index(folder, config, Machine(workers=1), recorder, encoder or PixelColourEncoder())


def test_build_reports_what_it_made_and_leaves_only_that(whole: Path, config: BuildConfig) -> None:
    built = make(whole, config)
    assert (built.manifest.rows, built.duplicates, [item.path for item in built.rejected]) == (21, 1, ["0005x.png"])
    assert (built.manifest.factory, built.manifest.recall) == ("Flat", {"recall@10": 1.0, "queries": 5})
    assert sorted(contents(whole)) == sorted(
        [".lock", "manifest.json", "embeddings/manifest.json", "embeddings/rejected.parquet"]
        + [f"embeddings/part-{i:06}.parquet" for i in range(5)]
        + [f"shards/shard-{i:05}.faiss" for i in range(3)]
    )
    assert verify_index(whole)["rows"] == 21


def test_build_saves_its_settings_in_both_manifests(whole: Path, config: BuildConfig, photos: Path) -> None:
    assert json.loads((whole / "manifest.json").read_text())["config"] == config.as_dict()
    own = json.loads((whole / "embeddings" / "manifest.json").read_text())["config"]
    assert own == {name: value for name, value in config.as_dict().items() if name not in SHARD_SETTINGS}
    assert EmbeddingSet(whole / "embeddings").root == photos


def test_build_makes_an_index_in_which_every_picture_finds_itself(whole: Path, photos: Path) -> None:
    engine = simat.open(whole, PixelColourEncoder())
    for path in sorted(photos.rglob("*.png")):
        if path.name not in {"0005x.png", "0003.png", "copy.png"}:
            best = engine.search(image=path, k=1, include_self=True)[0]
            assert (best.path, round(best.score, 3)) == (path, 1.0)


def test_build_tells_its_stages(tmp_path: Path, config: BuildConfig) -> None:
    recorder = Recorder.new()
    make(tmp_path / "index", replace(config, factory="IVF2,Flat"), recorder=recorder)
    assert recorder.stages == [
        ("scan", None, "files"),
        ("embed", 22, "images"),
        ("train", None, "vectors"),
        ("shard", 21, "vectors"),
        ("measure", 21, "vectors"),
    ]
    assert recorder.advanced == {"scan": 22, "embed": 22, "shard": 21, "measure": 21}


def test_build_again_changes_no_byte_and_encodes_nothing(whole: Path, config: BuildConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*.*") if path.name != ".lock"}
    bytes_before, encoder, recorder = contents(whole), CountingEncoder(), Recorder.new()
    make(whole, config, encoder, recorder)
    assert contents(whole) == bytes_before
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (encoder.encoded, recorder.stages, recorder.notes) == (0, [], ["already built: 21 images"])


def test_builds_of_one_folder_are_identical_for_any_number_of_workers(
    tmp_path: Path, whole: Path, config: BuildConfig
) -> None:
    for workers in (1, 3):
        build_index(tmp_path / f"{workers}", config, Machine(workers=workers), encoder=PixelColourEncoder())
        assert same_contents(tmp_path / f"{workers}", whole)


def test_whole_pictures_and_worker_pixels_give_the_same_index(tmp_path: Path, whole: Path, config: BuildConfig) -> None:
    class Whole(ColourEncoder):  # without ``transform``: the pictures travel as they are
        def encode_images(self, images: list[Image.Image]) -> np.ndarray:
            return PixelColourEncoder().encode_images(images)

    make(tmp_path / "index", config, Whole())
    assert same_contents(tmp_path / "index", whole)


def lose(folder: Path, *patterns: str) -> None:
    for pattern in patterns:
        found = list(folder.glob(pattern))
        assert found, pattern
        for path in found:
            path.unlink()


AFTER_EMBEDDING = ["manifest.json", "shards/*.faiss"]
CUTS = {
    "before the index's manifest": ["manifest.json"],
    "between shards": ["manifest.json", "shards/shard-00001.faiss", "shards/shard-00002.faiss"],
    "between embeddings and shards": AFTER_EMBEDDING,
    "between the rejected list and the manifest": [*AFTER_EMBEDDING, "embeddings/manifest.json"],
    "between the last part and the rejected list": [
        *AFTER_EMBEDDING,
        "embeddings/manifest.json",
        "embeddings/rejected.parquet",
    ],
    "between parts": [
        *AFTER_EMBEDDING,
        "embeddings/manifest.json",
        "embeddings/rejected.parquet",
        "embeddings/part-00000[234].parquet",
    ],
    "between a rejected list and its part": [
        *AFTER_EMBEDDING,
        "embeddings/manifest.json",
        "embeddings/rejected.parquet",
        "embeddings/part-*.parquet",
    ],
    "after the settings": [*AFTER_EMBEDDING, "embeddings/*"],
    "before the settings": [*AFTER_EMBEDDING, "embeddings/*", "building.json"],
}


@pytest.fixture(scope="module")
def untidied(tmp_path_factory: pytest.TempPathFactory, config: BuildConfig) -> Path:
    """Everything that a build ever writes, nothing tidied away."""
    folder = tmp_path_factory.mktemp("untidied") / "index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexing.build._tidy", lambda folder: None)
        make(folder, config)
    return folder


@pytest.mark.parametrize("cut", CUTS)
def test_build_cut_short_ends_as_if_it_had_not_been(
    tmp_path: Path, whole: Path, untidied: Path, config: BuildConfig, cut: str
) -> None:
    index = tmp_path / "index"
    shutil.copytree(untidied, index)
    lose(index, *CUTS[cut])
    for folder in (index, index / "embeddings", index / "shards"):
        if not (folder / "manifest.json").exists():  # the step that a kill can have cut short
            (folder / ".manifest.json.123.tmp").write_bytes(b'{"half":')
    make(index, config)
    assert same_contents(index, whole)


def test_build_killed_while_tidying_up_is_tidied_by_the_next_run(
    tmp_path: Path, whole: Path, untidied: Path, config: BuildConfig
) -> None:
    shutil.copytree(untidied, tmp_path / "index")
    assert (tmp_path / "index" / "building.json").exists()
    make(tmp_path / "index", config)
    assert same_contents(tmp_path / "index", whole)


def test_build_goes_on_from_its_own_list_of_files(
    tmp_path: Path, photos: Path, whole: Path, config: BuildConfig
) -> None:
    index = tmp_path / "index"
    with pytest.raises(Interrupted):
        make(index, config, CountingEncoder(4))
    late = save_blotches(photos, 1, first=99) / "0099.png"
    try:
        make(index, config)
    finally:
        late.unlink()
    assert same_contents(index, whole)


CHANGES: list[tuple[str, Any]] = [
    ("encoder", "offline"),
    ("precision", "bf16"),
    ("factory", "SQ8"),
    ("part_size", 6),
    ("shard_size", 9),
    ("memory", 10**6),
    ("target_recall", 0.5),
    ("seed", 1),
]


@pytest.mark.parametrize(("setting", "value"), CHANGES)
def test_other_settings_are_refused_by_name_on_a_finished_index(
    whole: Path, config: BuildConfig, setting: str, value: Any
) -> None:
    before = contents(whole)
    old = getattr(config, setting)
    with pytest.raises(BuildError, match=rf"begun with other settings; got {setting} {old!r} -> {value!r}; repeat"):
        make(whole, replace(config, **{setting: value}))
    assert contents(whole) == before


def test_other_settings_are_refused_by_name_on_a_half_built_index(tmp_path: Path, config: BuildConfig) -> None:
    with pytest.raises(Interrupted):
        make(tmp_path / "index", config, CountingEncoder(0))
    with pytest.raises(BuildError, match=r"other settings; got part_size 5 -> 6, seed 0 -> 1; repeat"):
        make(tmp_path / "index", replace(config, part_size=6, seed=1))


def test_shard_settings_may_change_while_there_is_no_shard(tmp_path: Path, config: BuildConfig) -> None:
    with pytest.raises(BuildError, match="FAISS cannot train"):
        make(tmp_path / "index", replace(config, factory="IVF512,Flat"))
    encoder = CountingEncoder()
    make(tmp_path / "index", replace(config, factory="Flat"), encoder)
    assert encoder.encoded == 0
    make(tmp_path / "straight", replace(config, factory="Flat"))
    assert contents(tmp_path / "index") == contents(tmp_path / "straight")


def test_other_weights_are_refused_on_a_half_built_index(tmp_path: Path, config: BuildConfig) -> None:
    with pytest.raises(Interrupted):
        make(tmp_path / "index", config, CountingEncoder(0))
    with pytest.raises(BuildError, match="got other weights of the encoder"):
        make(tmp_path / "index", config, PixelColourEncoder("another"))


def test_a_folder_of_something_else_is_never_touched(tmp_path: Path, config: BuildConfig) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("three years of work")
    with pytest.raises(BuildError, match=r"the folder holds something else; got .*mine; give a new or empty folder"):
        make(tmp_path / "mine", config)
    assert contents(tmp_path / "mine") == {"thesis.txt": b"three years of work"}


def test_a_file_is_no_folder_for_an_index(tmp_path: Path, config: BuildConfig) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BuildError, match=r"the index must be a folder; got .*file"):
        make(tmp_path / "file", config)
    assert (tmp_path / "file").read_text() == "x"


def test_an_empty_folder_that_was_there_stays_when_there_is_nothing_to_index(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "index").mkdir()
    with pytest.raises(BuildError, match=r"no image files here; got .*photos"):
        make(tmp_path / "index", BuildConfig(str(tmp_path / "photos")))
    assert list((tmp_path / "index").iterdir()) == []


def test_a_missing_folder_of_photos_makes_no_index(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"no such folder of photos; got .*nothing"):
        make(tmp_path / "index", BuildConfig(str(tmp_path / "nothing")))
    assert not (tmp_path / "index").exists()


def test_a_second_build_at_once_is_told_to_wait(tmp_path: Path, config: BuildConfig) -> None:
    (tmp_path / "index").mkdir()
    with (
        locked(tmp_path / "index"),
        pytest.raises(BuildError, match=r"another process is building here; got .*index; wait for it or stop it"),
    ):
        make(tmp_path / "index", config)
    make(tmp_path / "index", config)
    assert (tmp_path / "index" / "manifest.json").exists()


def test_a_bad_factory_string_is_refused_before_any_work(tmp_path: Path, config: BuildConfig) -> None:
    with pytest.raises(BuildError, match=r"cannot make a 49-d index of this factory string; got 'IVFlat'"):
        make(tmp_path / "index", replace(config, factory="IVFlat"))
    assert not (tmp_path / "index").exists()


def test_an_index_that_the_disk_cannot_hold_is_refused_before_any_work(
    tmp_path: Path, config: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage, encoder = shutil.disk_usage(tmp_path), CountingEncoder()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(BuildError, match=r"the disk is too full for this index; got 1000 B free, \d+.\d KiB needed"):
        make(tmp_path / "index", config, encoder)
    assert encoder.encoded == 0
    monkeypatch.undo()
    assert make(tmp_path / "index", config).manifest.rows == 21


def test_no_workers_are_refused_before_any_work(tmp_path: Path, config: BuildConfig) -> None:
    with pytest.raises(BuildError, match="workers must be at least 1; got -2"):
        build_index(tmp_path / "index", config, Machine(workers=-2), encoder=PixelColourEncoder())
    assert not (tmp_path / "index").exists()


def test_an_index_finds_its_photos_wherever_both_moved(tmp_path: Path, whole: Path, photos: Path) -> None:
    shutil.copytree(whole, tmp_path / "index")
    shutil.copytree(photos, tmp_path / "moved")
    engine = simat.open(tmp_path / "index", PixelColourEncoder(), root=tmp_path / "moved")
    assert engine.search(image=0, k=1)[0].path.parent in {tmp_path / "moved", tmp_path / "moved" / "more"}
    assert all(result.path.is_file() for result in engine.search(image=0))


def test_one_picture_makes_an_index(tmp_path: Path) -> None:
    save_blotches(tmp_path / "photos", 1)
    built = make(tmp_path / "index", BuildConfig(str(tmp_path / "photos")))
    assert (built.manifest.rows, built.manifest.recall) == (1, {"recall@10": 1.0, "queries": 1})
    assert simat.open(tmp_path / "index", PixelColourEncoder()).search("red")[0].path.name == "0000.png"
