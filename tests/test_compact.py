"""Compaction: what is removed goes, parts and shards get even, and training is renewed where it no longer fits."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from building import Recorder, contents, same_contents
from living import ONE, images, noise, vector_index

import indexing.compact
from indexing.compact import compact_index
from indexing.drift import reasons_to_train, spread, trained_index, training_record
from indexing.generations import changing
from indexing.remove import remove_images
from indexing.rewrite import Kept, count_duplicates, write_parts
from simat.embeddings import EmbeddingSet, ImageRow, PartReader, write_part
from simat.errors import BuildError
from simat.manifest import EmbeddingManifest, FileEntry, write_manifest
from simat.opened import open_index
from simat.progress import Silent
from simat.selection import Selection


class Stop(Exception):
    """Ends a compaction where it is."""


def test_compact_drops_the_removed_and_evens_out(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(50))
    remove_images(index, ids=np.arange(0, 50, 2))
    before = images(index)
    done = compact_index(index, ONE)
    assert done.reasons == ("25 removed images", "3 shards where 2 suffice")
    assert [*images(index).values()] == [before[id] for id in sorted(before)]
    assert [entry.rows for entry in open_index(index).embeddings.files()] == [8, 8, 8, 1]
    assert [entry.rows for entry in done.manifest.shards] == [20, 5]
    assert not [*index.glob("removed-*")]
    assert {path.parent.name for path in index.rglob("*.parquet")} == {"g00002"}


def test_there_is_nothing_to_compact_in_a_fresh_index(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(50))
    before = contents(index)
    done = compact_index(index, ONE)
    assert (done.reasons, done.retrained, done.manifest.generation) == ((), (), 0)
    assert {**contents(index), ".lock": b""} == {**before, ".lock": b""}


def test_a_compaction_that_was_interrupted_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = vector_index(tmp_path / "index", noise(50))
    remove_images(index, ids=np.array([3]))
    whole = Path(shutil.copytree(index, tmp_path / "whole"))
    before = images(index)
    compact_index(whole, ONE)

    def stop(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(indexing.compact, "ShardBuilder", stop)
        compact_index(index, ONE)
    assert images(index) == before
    first = index / "embeddings" / "g00002" / "part-000000.parquet"
    state = first.stat().st_mtime_ns
    compact_index(index, ONE)
    assert first.stat().st_mtime_ns == state
    assert same_contents(index, whole)


def test_a_compaction_that_was_interrupted_begins_anew_after_a_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = vector_index(tmp_path / "index", noise(50))
    remove_images(index, ids=np.array([3]))

    def stop(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(indexing.compact, "ShardBuilder", stop)
        compact_index(index, ONE)
    remove_images(index, ids=np.array([4]))
    left = images(index)
    compact_index(index, ONE)
    assert [*images(index).values()] == [*left.values()]


def test_half_added_images_are_in_the_way(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(20))
    with changing(index) as change:
        change.begin({"change": "add", "source": "/more"})
    with pytest.raises(BuildError, match=r"images were being added here; got /more"):
        compact_index(index, ONE)


def centroids(index: Path) -> np.ndarray:
    """Of the inverted lists of an index."""
    import faiss

    empty = trained_index(index, open_index(index).manifest)
    ivf = faiss.try_extract_index_ivf(empty)
    return np.array(ivf.quantizer.reconstruct_n(0, ivf.nlist))


def test_shards_are_made_as_the_old_ones_were_trained(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(200, seed=5), 64, 100, factory="IVF4,Flat")
    old = centroids(index)
    remove_images(index, ids=np.arange(50))
    assert compact_index(index, ONE, retrain=False).retrained == ()
    new = centroids(index)
    assert np.array_equal(old, new)
    asked = compact_index(index, ONE, retrain=True)
    assert (asked.reasons, asked.retrained) == ((), ("asked for",))
    assert not np.array_equal(new, centroids(index))


def test_spread_is_the_mean_squared_distance_to_the_nearest_centroid(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(120, seed=6), 64, 120, factory="IVF4,Flat")
    opened = open_index(index)
    empty = trained_index(index, opened.manifest)
    rows = Selection.of_ids(np.arange(0, 120, 2), 120)
    known, total = centroids(index), 0.0
    for vector in opened.embeddings.vectors(rows.ids()):
        nearest = max(known, key=lambda centroid: float(vector @ centroid))
        total += float(((vector - nearest) ** 2).sum())
    assert spread(empty, opened.embeddings, rows, 0) == pytest.approx(total / 60, rel=1e-5)


@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_an_index_without_lists_has_no_spread(tmp_path: Path, factory: str) -> None:
    opened = open_index(vector_index(tmp_path / "index", noise(40), factory=factory))
    assert spread(trained_index(opened.folder, opened.manifest), opened.embeddings, Selection.every(40), 0) is None


def test_spread_sees_vectors_as_the_lists_do(tmp_path: Path) -> None:
    """Behind a projection, which the distances are measured after."""
    opened = open_index(vector_index(tmp_path / "index", noise(300), 64, 300, factory="PCA8,IVF4,Flat"))
    value = spread(trained_index(opened.folder, opened.manifest), opened.embeddings, Selection.every(300), 0)
    assert value is not None
    assert 0 < value < 1


def test_spread_sees_vectors_as_lists_below_a_refinement_do(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(200), 64, 200, factory="PCA8,IVF4,Flat,RFlat")
    opened = open_index(index)
    value = spread(trained_index(index, opened.manifest), opened.embeddings, Selection.every(200), 0)
    assert value is not None
    assert 0 < value < 1
    remove_images(index, ids=np.arange(9))
    assert compact_index(index, ONE, retrain=False).manifest.rows == 191


def test_training_is_renewed_when_images_lie_farther_from_the_centroids(tmp_path: Path) -> None:
    near = noise(1, seed=7) + 0.05 * noise(200, seed=8)
    vectors = np.concatenate([near / np.linalg.norm(near, axis=1, keepdims=True), noise(200, seed=9)])
    index = vector_index(tmp_path / "index", vectors.astype(np.float32), 64, 400, factory="IVF4,Flat")
    opened = open_index(index)
    empty, config = trained_index(index, opened.manifest), indexing.compact.config_of(opened.manifest)
    first = Selection.of_ids(np.arange(200), 400)
    record = training_record(empty, opened.embeddings, first, 0)
    assert record["rows"] == 200
    manifest = replace(opened.manifest, trained=record)
    every = Selection.every(400)
    (reason,) = reasons_to_train(manifest, config, empty, opened.embeddings, every)
    assert reason.endswith("% farther from the centroids than those they were trained on")
    assert reasons_to_train(manifest, config, empty, opened.embeddings, first) == []
    assert reasons_to_train(opened.manifest, config, empty, opened.embeddings, every) == []


def test_training_is_renewed_when_another_factory_suits_the_size(tmp_path: Path) -> None:
    opened = open_index(vector_index(tmp_path / "index", noise(120), 64, 120, factory="IVF4,Flat"))
    config = replace(indexing.compact.config_of(opened.manifest), factory="auto")
    empty = trained_index(opened.folder, opened.manifest)
    reasons = reasons_to_train(opened.manifest, config, empty, opened.embeddings, Selection.every(120))
    assert reasons == ["120 images are better searched with Flat than with IVF4,Flat"]


def test_a_compaction_without_room_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = vector_index(tmp_path / "index", noise(50))
    remove_images(index, ids=np.array([3]))
    before = contents(index)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 100))
    with pytest.raises(BuildError, match=r"the disk is too full for this index; got 100 B free"):
        compact_index(index, ONE)
    assert contents(index) == before


def test_compact_tells_why(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(50), factory="IVF2,Flat")
    remove_images(index, ids=np.array([3]))
    recorder = Recorder.new()
    compact_index(index, ONE, recorder, retrain=True)
    assert recorder.notes[:2] == ["1 removed images", "trained anew: asked for"]
    assert recorder.advanced["rewrite"] == 49


def test_columns_that_some_parts_lack_are_null_there(tmp_path: Path) -> None:
    """Sources bring columns of their own; their types widen where they differ."""
    import pyarrow as pa

    folder = tmp_path / "set"
    folder.mkdir()
    rows = [ImageRow(f"{i}.png", f"{i:064x}", 4, 3) for i in range(4)]
    more = [pa.table({"year": [1, 2]}), pa.table({"url": ["a", None], "year": [0.5, None]})]
    entries = []
    for part, table in enumerate(more):
        name = f"part-{part:06}.parquet"
        write_part(folder / name, 2 * part, rows[2 * part : 2 * part + 2], noise(2, seed=part), table)
        entries.append(FileEntry.of(folder, name, 2))
    space = open_index(vector_index(tmp_path / "index", noise(20))).manifest.space
    write_manifest(folder, EmbeddingManifest(space, "/nowhere", tuple(entries), 4))
    kept = Kept(EmbeddingSet(folder), Selection.of_ids(np.array([0, 1, 3]), 4))
    (entry,) = write_parts([kept], tmp_path / "out", 10, Silent())
    table = pq.read_table(tmp_path / "out" / entry.name)
    assert table["id"].to_pylist() == [0, 1, 2]
    assert table["year"].to_pylist() == [1.0, 2.0, None]
    assert table["url"].to_pylist() == [None, None, None]
    assert table.column_names[-1] == "embedding"
    old, new = EmbeddingSet(folder), PartReader(tmp_path / "out", [entry])
    assert np.array_equal(new.vectors(np.arange(3)), old.vectors(np.array([0, 1, 3])))


def test_duplicates_are_the_rows_whose_content_came_before(tmp_path: Path) -> None:
    rows = [ImageRow(f"{i}.png", sha, 4, 3) for i, sha in enumerate(["a" * 64, "b" * 64, "a" * 64, "", "", "a" * 64])]
    write_part(tmp_path / "part", 0, rows, noise(6))
    assert count_duplicates(PartReader(tmp_path, [FileEntry.of(tmp_path, "part", 6)])) == 2
