"""Duplicates of an index: the same file, or nearly the same picture; the largest stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import Recorder, vector_set
from hypothesis import given, settings
from hypothesis import strategies as st
from living import ONE, live_ids, noise, vector_index

import indexing.duplicates
from indexing.build import complete
from indexing.config import BuildConfig
from indexing.duplicates import Copy, Group, find_duplicates, remove_duplicates
from indexing.remove import remove_images
from simat.embeddings import ImageRow, write_part
from simat.errors import BuildError
from simat.manifest import EmbeddingManifest, FileEntry, write_manifest
from simat.opened import Opened, open_index
from simat.progress import Silent
from simat.searcher import Searcher, open_shards
from simat.selection import Selection
from simat.types import Hits


def index_of(folder: Path, vectors: np.ndarray, sizes: list[int], shas: list[str] | None = None) -> Path:
    """An index of one part: pictures of given widths and contents."""
    embeddings = vector_set(folder / "embeddings", vectors)
    part, count = embeddings.folder / "part-000000.parquet", len(vectors)
    shas = shas or [f"{i:064x}" for i in range(count)]
    rows = [ImageRow(f"{i}.png", sha, size, 1) for i, (sha, size) in enumerate(zip(shas, sizes, strict=True))]
    write_part(part, 0, rows, vectors)
    entry = FileEntry.of(part.parent, part.name, count)
    write_manifest(part.parent, EmbeddingManifest(embeddings.manifest.space, "/nowhere", (entry,), count))
    complete(folder, BuildConfig("/nowhere"), ONE, Silent())
    return folder


def greedy(vectors: np.ndarray, sizes: list[int], threshold: float) -> dict[int, set[int]]:
    """The same in plain Python: the largest takes all that are near enough and not taken yet."""
    left, groups = set(range(len(vectors))), {}
    for id in sorted(left, key=lambda id: (-sizes[id], id)):
        if id in left:
            near = {other for other in left - {id} if float(vectors[id] @ vectors[other]) >= threshold}
            left -= near
            if near:
                groups[id] = near
    return groups


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.sampled_from([0.8, 0.95]))
def test_groups_are_those_of_a_plain_loop(
    tmp_path_factory: pytest.TempPathFactory, seed: int, threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    centres = noise(4, 8, seed)
    vectors = centres[rng.integers(0, 4, 30)] + rng.choice([0, 0.1, 0.3], (30, 1)) * noise(30, 8, seed + 1)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    sizes = rng.integers(1, 5, 30).tolist()
    opened = open_index(index_of(tmp_path_factory.mktemp("index") / "index", vectors, sizes))
    stored = opened.embeddings.vectors(np.arange(30)).astype(np.float64)
    products = np.abs(stored @ stored.T - threshold)
    if products.min() < 1e-5:  # single precision decides
        return
    groups = {group.kept: {copy.id for copy in group.copies} for group in find_duplicates(opened, threshold)}
    assert groups == greedy(stored, sizes, threshold)


def test_the_same_file_is_found_whatever_its_vector(tmp_path: Path) -> None:
    shas = ["a" * 64, "b" * 64, "a" * 64, "", "", "a" * 64]
    opened = open_index(index_of(tmp_path / "index", noise(6), [1, 1, 3, 1, 1, 3], shas))
    (group,) = find_duplicates(opened, 2.0)
    assert group == Group(2, (Copy(0, "exact", 1.0), Copy(5, "exact", 1.0)))


def test_copies_of_a_copy_follow_it_into_its_group(tmp_path: Path) -> None:
    one, other = noise(1), noise(1, seed=9)
    near = one + 0.05 * other
    vectors = np.concatenate([one, near / np.linalg.norm(near), near / np.linalg.norm(near), other])
    shas = ["a" * 64, "b" * 64, "b" * 64, "c" * 64]
    opened = open_index(index_of(tmp_path / "index", vectors.astype(np.float32), [9, 2, 2, 1], shas))
    (group,) = find_duplicates(opened)
    assert (group.kept, [(copy.id, copy.kind) for copy in group.copies]) == (0, [(1, "near"), (2, "near")])
    assert 0.95 < group.copies[0].score < 1


def test_more_copies_than_are_asked_for_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing.duplicates, "FIRST_K", 2)
    vectors = np.repeat(noise(2), 40, axis=0)
    recorder = Recorder.new()
    opened = open_index(index_of(tmp_path / "index", vectors, [1] * 80))
    groups = find_duplicates(opened, progress=recorder)
    assert [(group.kept, len(group.copies)) for group in groups] == [(0, 39), (40, 39)]
    assert recorder.advanced == {"duplicates": 80}


def test_copies_beyond_all_that_are_asked_for_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing.duplicates, "FIRST_K", 2)
    monkeypatch.setattr(indexing.duplicates, "MOST_K", 8)
    opened = open_index(index_of(tmp_path / "index", np.repeat(noise(2), 60, axis=0), ([1] * 59 + [2]) * 2))
    assert [(group.kept, len(group.copies)) for group in find_duplicates(opened)] == [(59, 59), (119, 59)]


class Forgetful(Searcher):
    """Misses everything but itself in the neighbourhood of one image."""

    def search(self, queries: np.ndarray, k: int, among: Selection | None = None) -> Hits:
        hits = super().search(queries, k, among)
        mine = hits.ids[:, :1] == 0
        return Hits(
            np.where(mine & (hits.ids != 0), -1, hits.ids), np.where(mine & (hits.ids != 0), -np.inf, hits.scores)
        )


def test_every_copy_is_near_to_the_image_that_stays_though_a_search_misses_some(tmp_path: Path) -> None:
    """0 is largest and near to 1 alone; its own search misses that. 2 is near to 1, and not to 0."""
    angles = np.radians([0, 15, 25])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    opened = open_index(index_of(tmp_path / "index", vectors, [9, 5, 1]))
    searcher = Forgetful(open_shards(opened.folder, opened.manifest))
    (group,) = find_duplicates(replace(opened, searcher=searcher))
    assert (group.kept, [copy.id for copy in group.copies]) == (0, [1])
    assert group.copies[0].score == pytest.approx(np.cos(angles[1]), abs=1e-3)


def test_removed_images_are_nobodys_copies(tmp_path: Path) -> None:
    index = index_of(tmp_path / "index", np.repeat(noise(10), 2, axis=0), [1] * 20)
    remove_images(index, ids=np.array([0, 3]))
    groups = find_duplicates(open_index(index))
    assert [group.kept for group in groups] == [*range(4, 20, 2)]


def test_remove_leaves_one_of_each_group(tmp_path: Path) -> None:
    index = index_of(tmp_path / "index", np.repeat(noise(10), 3, axis=0), [1, 2, 1] * 10)
    groups, removed = remove_duplicates(index)
    assert (len(groups), removed.count, removed.manifest.generation) == (10, 20, 1)
    opened: Opened = open_index(index)
    assert live_ids(opened).tolist() == [*range(1, 30, 3)]
    assert find_duplicates(opened) == []
    assert remove_duplicates(index)[1].manifest.generation == 1


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_a_threshold_that_everything_passes_is_refused(tmp_path: Path, threshold: float) -> None:
    opened = open_index(vector_index(tmp_path / "index", noise(20)))
    with pytest.raises(BuildError, match="the threshold must be above 0"):
        find_duplicates(opened, threshold)
