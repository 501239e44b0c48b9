"""Changes in generations: one rename, nothing that is named is touched, nothing that is not named stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import contents
from living import noise, vector_index

from indexing.generations import (
    changing,
    generation_name,
    prefixed,
    refuse_unfinished,
    require_own_embeddings,
)
from simat.errors import BuildError, StorageError
from simat.manifest import FileEntry, read_index_manifest, write_manifest
from simat.selection import Selection


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return vector_index(tmp_path / "index", noise(30))


def test_a_commit_raises_the_generation_and_changes_what_it_is_given(index: Path) -> None:
    before = contents(index)
    with changing(index) as change:
        written = change.commit(replace(change.manifest, search={"nprobe": 3}))
    assert written == read_index_manifest(index)
    assert (written.generation, written.search) == (1, {"nprobe": 3})
    after = contents(index)
    assert {name for name in after if after[name] != before.get(name)} == {"manifest.json", ".lock"}
    assert after.keys() == before.keys() | {".lock"}


def test_a_second_commit_of_one_change_is_the_next_generation(index: Path) -> None:
    with changing(index) as change:
        first = change.commit(change.manifest, Selection.of_ids(np.array([1]), 30))
        second = change.commit(first, Selection.of_ids(np.array([1, 2]), 30))
    assert (first.generation, second.generation) == (1, 2)
    assert second.removed is not None
    assert second.removed.name == "removed-00002.bits"
    assert [path.name for path in index.glob("removed-*")] == ["removed-00002.bits"]


def test_tombstones_of_nothing_are_none(index: Path) -> None:
    with changing(index) as change:
        change.commit(change.manifest, Selection.of_ids(np.array([1]), 30))
        assert change.commit(change.manifest, Selection.none(30)).removed is None
    assert not [*index.glob("removed-*")]


def test_what_nobody_names_is_swept_and_what_is_not_ours_stays(index: Path) -> None:
    for name in (
        *("removed-00007.bits", "embeddings/part-000099.parquet", "embeddings/manifest-00003.json"),
        *("shards/trained.faiss", "shards/g00009/shard-00000.faiss", "embeddings/g00009/part-000000.parquet"),
        ".manifest.json.0123.tmp",
    ):
        (index / name).parent.mkdir(exist_ok=True)
        (index / name).write_bytes(b"left over")
    mine = dict.fromkeys(["notes.txt", "shards/notes.txt", "g00001.txt"], b"mine")
    mine |= dict.fromkeys(
        ["rejected_by_me.json", "part-list.parquet", "manifest-old.json", "shard-notes.faiss"], b"mine"
    )
    for name, data in mine.items():
        (index / name).write_bytes(data)
    named = contents(vector_index(index.parent / "again", noise(30)))
    with changing(index):
        pass
    left = contents(index)
    del left[".lock"]
    assert left == {**named, **mine}
    assert not (index / "shards" / "g00009").exists()


def test_a_set_that_lies_elsewhere_is_not_touched(index: Path) -> None:
    elsewhere = index.parent / "elsewhere"
    (index / "embeddings").rename(elsewhere)
    write_manifest(index, replace(read_index_manifest(index), embeddings=str(elsewhere)))
    (elsewhere / "part-000099.parquet").write_bytes(b"another's")
    before = contents(elsewhere)
    with changing(index) as change:
        change.commit(change.manifest, Selection.of_ids(np.array([1]), 30))
        with pytest.raises(BuildError, match=r"vectors of this index lie in another folder.*index merge"):
            require_own_embeddings(change)
    assert contents(elsewhere) == before


def test_an_unfinished_change_keeps_its_files_until_it_is_abandoned(index: Path) -> None:
    with changing(index) as change:
        assert not change.begin({"change": "add", "source": "/more", "base": "x"})
        part = change.new_folder("embeddings") / "part-000000.parquet"
        part.write_bytes(b"half done")
    with changing(index) as change:
        assert part.exists()
        with pytest.raises(BuildError, match=r"images were being added here; got /more; .*--drop"):
            refuse_unfinished(change)
        change.commit(change.manifest, Selection.of_ids(np.array([1]), 30))
        assert part.exists()
        assert change.begin({"change": "add", "source": "/more", "base": "x"})
        assert change.new_folder("embeddings") == part.parent
        change.abandon()
    assert not part.parent.exists()
    assert not (index / "changing.json").exists()


def test_a_change_of_other_arguments_begins_anew(index: Path) -> None:
    with changing(index) as change:
        change.begin({"change": "compact", "base": "x"})
        change.remember({"files": 3})
        part = change.new_folder("embeddings") / "part-000000.parquet"
        part.write_bytes(b"half done")
        assert change.begin({"change": "compact", "base": "x"})
        assert not change.begin({"change": "compact", "base": "y"})
        assert not part.exists()
        assert change.state == {"change": "compact", "base": "y", "folder": "g00001"}


def test_the_state_of_a_change_that_was_committed_is_cleared_away(index: Path) -> None:
    """Killed after its commit, before it had tidied up."""
    with changing(index) as change:
        change.begin({"change": "add", "source": "/more", "base": "x"})
        old = index / "shards" / "shard-00001.faiss"
        new = change.new_folder("shards") / "shard-00000.faiss"
        new.write_bytes(old.read_bytes())
        first, second = change.manifest.shards
        entry = prefixed(prefixed(FileEntry.of(new.parent, new.name, second.rows), "g00001"), "shards")
        write_manifest(index, replace(change.manifest, shards=(first, entry), generation=1))
    with changing(index) as change:
        assert change.state is None
    assert (new.exists(), old.exists()) == (True, False)


def test_one_writer_at_a_time(index: Path) -> None:
    with (
        changing(index),
        pytest.raises(BuildError, match=r"another process is building here; got .*index; wait for it or stop it"),
        changing(index),
    ):
        pass


def test_a_change_of_no_index_leaves_no_trace(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no index here"), changing(tmp_path):
        pass
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("text", ["{", "[1]", "3", ""])
def test_a_damaged_state_counts_as_none(index: Path, text: str) -> None:
    (index / "changing.json").write_text(text)
    (index / "changing.parquet").write_bytes(b"its list of files")
    with changing(index) as change:
        assert change.state is None
        refuse_unfinished(change)
    assert not [*index.glob("changing.*")]


def test_names_of_generations_sort() -> None:
    names = [generation_name(number) for number in (1, 2, 99, 12345)]
    assert names == sorted(names) == ["g00001", "g00002", "g00099", "g12345"]
