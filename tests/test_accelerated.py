"""Builds with the help of GPUs, their part played by an index of the CPU: the same shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faiss
import pytest
from building import Recorder, contents, here, same_contents, save_blotches, vector_set
from helpers import unit_noise

from indexing import accelerated
from indexing.config import BuildConfig
from indexing.shards import ShardBuilder

DIM = 16


class Helper:
    """Stands for the GPUs: remembers what it was asked for, and what it gave."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, tuple[int, ...]]] = []
        self.given: list[Any] = []

    def __call__(self, index: Any, devices: Any) -> Any:
        self.asked.append((index.ntotal, tuple(devices)))
        self.given.append(faiss.clone_index(index))
        return self.given[-1]


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> Helper:
    helper = Helper()
    monkeypatch.setattr(accelerated, "nearest_on_gpus", helper)
    return helper


def build(folder: Path, factory: str, gpus: tuple[int, ...]) -> Path:
    embeddings = vector_set(folder / "set", unit_noise(0, 600, DIM))
    (folder / "shards").mkdir()
    config = BuildConfig("/nowhere", factory=factory, shard_size=400, target_recall=0.01)  # tuned in no time
    ShardBuilder(folder / "shards", embeddings, config, 1, gpus).run(Recorder.new())
    return folder / "shards"


@pytest.mark.parametrize(
    ("factory", "assigned"),
    [
        ("IVF8,Flat", True),
        ("IVF8,SQ8", True),
        ("IVF8,RaBitQ", True),
        ("PCA8,IVF8,SQ8", True),
        ("IVF8,RaBitQfs", False),
        ("IVF8,Flat,RFlat", False),
    ],
)
def test_gpus_find_centroids_and_lists_and_the_shards_are_the_same(
    tmp_path: Path, helper: Helper, factory: str, assigned: bool
) -> None:
    (tmp_path / "alone").mkdir()
    (tmp_path / "helped").mkdir()
    alone = build(tmp_path / "alone", factory, ())
    assert helper.asked == []
    helped = build(tmp_path / "helped", factory, (0, 1))
    assert same_contents(alone, helped)
    assert len(contents(helped)) == 3  # two shards and what they were trained to
    assert helper.asked == [(0, (0, 1)), *([(8, (0,))] * 2 if assigned else [])]
    assert helper.given[0].ntotal == 8  # k-means put its centroids there
    assert all(index.thisown for index in helper.given)  # and Python frees their memory


@pytest.mark.parametrize("factory", ["Flat", "HNSW8", "SQ8"])
def test_gpus_have_nothing_to_do_where_there_are_no_lists(tmp_path: Path, helper: Helper, factory: str) -> None:
    build(tmp_path, factory, (0,))
    assert helper.asked == []


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="faiss-gpu is installed")
def test_build_with_gpus_says_at_once_that_there_are_none(tmp_path: Path, capsys: Any) -> None:
    photos = save_blotches(tmp_path / "photos", 3)
    ran = here(capsys, "index", "build", photos, tmp_path / "index", "--gpus", "all")
    assert "this faiss knows no GPUs" in ran.error
    assert not (tmp_path / "index").exists()
