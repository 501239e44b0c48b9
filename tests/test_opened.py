"""An open index: one generation's parts, without what is removed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from living import live_ids, noise, vector_index

import simat.opened
from indexing.remove import remove_images
from simat.errors import QueryError, StorageError
from simat.manifest import FileEntry, IndexManifest, read_index_manifest, write_manifest
from simat.opened import Opened, open_index
from simat.selection import Selection
from simat.tombstones import read_removed, write_removed


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return vector_index(tmp_path / "index", noise(50))


def test_open_index_has_the_parts_of_the_folder(index: Path) -> None:
    opened = open_index(index)
    assert (len(opened), len(opened.embeddings), opened.searcher.rows) == (50, 50, 50)
    assert (opened.manifest, opened.removed) == (read_index_manifest(index), None)
    assert not opened.changed()


def test_removed_rows_are_counted_out_and_refused_by_id(index: Path) -> None:
    remove_images(index, ids=np.array([3, 49]))
    opened = open_index(index)
    assert (len(opened), len(opened.embeddings)) == (48, 50)
    assert [row.path for row in opened.rows(np.array([4, 2]))] == ["4.png", "2.png"]
    with pytest.raises(QueryError, match=r"the image with this id was removed; got 49"):
        opened.rows(np.array([2, 49, 3]))
    with pytest.raises(QueryError, match=r"no image with this id; got 50"):
        opened.rows(np.array([50]))
    assert [row.path for row in opened.embeddings.rows(np.array([49]))] == ["49.png"]


@given(st.lists(st.booleans(), min_size=1, max_size=60).filter(any))
def test_live_counts_over_the_removed_rows(mask: list[bool]) -> None:
    kept = np.array(mask)
    opened = Opened.__new__(Opened)
    object.__setattr__(opened, "removed", Selection.of(~kept))
    places = np.arange(kept.sum())[::-1]
    assert opened.live(places).tolist() == np.flatnonzero(kept)[::-1].tolist()


def test_captions_are_those_of_the_images_that_are_left(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_images(index, ids=np.array([0, 2]))
    opened = open_index(index)
    monkeypatch.setattr(opened.embeddings, "captions", lambda: iter(map(str, range(50))))
    assert [*opened.captions()][:3] == ["1", "3", "4"]


def test_changed_notices_a_new_generation(index: Path) -> None:
    opened = open_index(index)
    remove_images(index, ids=np.array([7]))
    assert opened.changed()
    assert not open_index(index).changed()


def test_changed_notices_a_folder_that_is_gone(index: Path) -> None:
    opened = open_index(index)
    (index / "manifest.json").unlink()
    assert opened.changed()


def test_open_index_tries_again_when_it_is_changed_meanwhile(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, calls = read_removed, []

    def changes_first(folder: Path, manifest: IndexManifest) -> Selection | None:
        calls.append(manifest.generation)
        if len(calls) == 1:
            remove_images(folder, ids=np.array([1]))
            raise StorageError("a file of the old generation is missing")
        return read(folder, manifest)

    monkeypatch.setattr(simat.opened, "read_removed", changes_first)
    assert len(open_index(index)) == 49
    assert calls == [0, 1]


def test_open_index_says_what_is_wrong_where_nothing_changes(index: Path) -> None:
    (index / "shards" / "shard-00001.faiss").unlink()
    with pytest.raises(StorageError, match=r"shards/shard-00001.faiss is missing"):
        open_index(index)


def test_tombstones_written_then_read_are_the_same(tmp_path: Path) -> None:
    removed = Selection.of_ids(np.array([0, 8, 12]), 13)
    entry = write_removed(tmp_path, "removed-00001.bits", removed)
    assert (entry.name, entry.rows, entry.bytes) == ("removed-00001.bits", 3, 2)
    assert (tmp_path / entry.name).read_bytes() == bytes([0b00000001, 0b00010001])
    manifest = replace(_manifest(13), removed=entry)
    assert read_removed(tmp_path, manifest) == removed
    assert read_removed(tmp_path, _manifest(13)) is None


@pytest.mark.parametrize("rows", [8, 17, 100])
def test_tombstones_of_another_index_are_refused(tmp_path: Path, rows: int) -> None:
    entry = write_removed(tmp_path, "removed-00001.bits", Selection.of_ids(np.array([0, 8, 12]), 13))
    with pytest.raises(StorageError, match=r"removed-00001.bits is of another index"):
        read_removed(tmp_path, replace(_manifest(rows), removed=entry))


def test_damaged_tombstones_are_refused(index: Path) -> None:
    entry = remove_images(index, ids=np.array([5])).manifest.removed
    assert entry is not None
    path = index / entry.name
    path.write_bytes(bytes(len(path.read_bytes())))
    with pytest.raises(StorageError, match=r"removed-00001.bits was altered; got another SHA-256"):
        open_index(index)


def test_tombstones_of_another_count_are_refused(tmp_path: Path) -> None:
    entry = write_removed(tmp_path, "removed-00001.bits", Selection.of_ids(np.array([0]), 13))
    with pytest.raises(StorageError, match=r"is of another index; got 1 removed rows"):
        read_removed(tmp_path, replace(_manifest(13), removed=replace(entry, rows=2)))


def test_an_index_of_before_generations_opens(index: Path) -> None:
    """One whose manifest has none of the newer fields."""
    import json

    path = index / "manifest.json"
    document = json.loads(path.read_text())
    assert document["version"] == 1
    for name in ("generation", "embedding_manifest", "removed", "trained"):
        del document[name]
    path.write_text(json.dumps(document))
    assert live_ids(open_index(index)).tolist() == [*range(50)]


def test_what_an_older_simat_would_overlook_is_not_opened_by_it(index: Path) -> None:
    remove_images(index, ids=np.array([5]))
    assert '"version": 2' in (index / "manifest.json").read_text()
    write_manifest(index, replace(read_index_manifest(index), generation=0, removed=None))
    assert '"version": 1' in (index / "manifest.json").read_text()


def _manifest(rows: int) -> IndexManifest:
    from simat.types import EmbeddingSpace

    return IndexManifest(EmbeddingSpace("e", "f", 4), "embeddings", "Flat", (FileEntry("a", rows, 1, "b"),), rows)
