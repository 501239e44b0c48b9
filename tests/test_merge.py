"""Merging: all images of several indexes, each file once, every path leading where it led before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import Recorder, contents, same_contents, save_blotches, without_processes
from hypothesis import given
from hypothesis import strategies as st
from living import ONE, built, images, live_ids, noise, photos_and_index, vector_index

import indexing.merge
from indexing.merge import merge_indexes
from indexing.places import Places, relative
from indexing.remove import remove_images
from simat.embeddings import EmbeddingSet, ImageRow, write_part
from simat.errors import BuildError, SpaceMismatchError, StorageError
from simat.manifest import (
    EmbeddingManifest,
    FileEntry,
    read_embedding_manifest,
    read_index_manifest,
    write_manifest,
)
from simat.opened import open_index
from simat.types import EmbeddingSpace


@pytest.fixture(autouse=True, scope="module")
def decoded_here() -> Iterator[None]:
    """Without decoder processes: those of the command line's tests are enough."""
    with without_processes():
        yield


class Stop(Exception):
    """Ends a merge where it is."""


def moved_to(index: Path, root: str, space: EmbeddingSpace | None = None) -> Path:
    """The index as if its pictures lay below ``root``."""
    known = read_embedding_manifest(index / "embeddings")
    write_manifest(index / "embeddings", replace(known, root=root, space=space or known.space))
    if space is not None:
        write_manifest(index, replace(read_index_manifest(index), space=space))
    return index


def test_merged_indexes_hold_the_images_of_all_in_their_order(tmp_path: Path) -> None:
    first = moved_to(vector_index(tmp_path / "a", noise(30)), "/pictures/a")
    second = moved_to(vector_index(tmp_path / "b", noise(25, seed=1)), "/elsewhere")
    third = moved_to(vector_index(tmp_path / "c", noise(5, seed=2)), "/pictures/a/inner")
    remove_images(first, ids=np.array([2]))
    before = [contents(folder) for folder in (first, second, third)]
    done = merge_indexes([first, second, third], tmp_path / "out", ONE)
    expected = [image for index in (first, second, third) for image in images(index).values()]
    assert [*images(tmp_path / "out").values()] == expected
    assert done.manifest.rows == 59
    opened = open_index(tmp_path / "out")
    paths = [row.path for row in opened.rows(live_ids(opened))]
    assert (paths[0], paths[29], paths[-1]) == ("0.png", "@2/0.png", "inner/4.png")
    assert opened.embeddings.manifest.folders == {"@2": "/elsewhere"}
    assert [contents(folder) for folder in (first, second, third)] == before


def test_files_that_several_indexes_hold_go_in_once(tmp_path: Path) -> None:
    photos, first = photos_and_index(tmp_path, 12)
    save_blotches(photos / "inner", 6, first=50)
    second = built(tmp_path / "second", photos / "inner")
    third = built(tmp_path / "third", photos)
    recorder = Recorder.new()
    merge_indexes([first, second, third], tmp_path / "out", ONE, recorder)
    merged = [*images(tmp_path / "out").values()]
    assert sorted(merged) == sorted(images(third).values())
    assert f"18 images of {third} are in the index already: taken once" in recorder.notes


def test_a_merge_that_was_interrupted_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = vector_index(tmp_path / "a", noise(30)), vector_index(tmp_path / "b", noise(25, seed=1))
    moved_to(second, "/elsewhere")
    merge_indexes([first, second], tmp_path / "whole", ONE)

    def stop(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(indexing.merge, "complete", stop)
        merge_indexes([first, second], tmp_path / "out", ONE)
    with pytest.raises(StorageError, match="half built"):
        open_index(tmp_path / "out")
    with pytest.raises(BuildError, match="was begun from other indexes"):
        merge_indexes([second, first], tmp_path / "out", ONE)
    merge_indexes([first, second], tmp_path / "out", ONE)
    assert same_contents(tmp_path / "out", tmp_path / "whole")


def test_a_merge_does_not_go_on_with_an_index_that_was_changed_while_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parts are of the generation that was read: what is remembered must be that one, not what is there by now."""
    index = vector_index(tmp_path / "a", noise(30))
    begin = indexing.merge._begin

    def changed_first(*arguments: Any) -> None:
        remove_images(index, ids=np.array([3]))
        begin(*arguments)

    def stop(*_: object) -> None:
        raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(indexing.merge, "_begin", changed_first)
        patch.setattr(indexing.merge, "complete", stop)
        merge_indexes([index], tmp_path / "out", ONE)
    with pytest.raises(BuildError, match="was begun from other indexes"):
        merge_indexes([index], tmp_path / "out", ONE)


def test_a_file_that_several_could_not_read_is_listed_once(tmp_path: Path) -> None:
    photos = save_blotches(tmp_path / "photos", 3)
    (photos / "bad.png").write_bytes(b"no picture")
    first, second = built(tmp_path / "a", photos), built(tmp_path / "b", photos)
    done = merge_indexes([first, second], tmp_path / "out", ONE)
    assert [item.path for item in done.rejected] == ["bad.png"]


def test_indexes_of_different_spaces_are_not_merged(tmp_path: Path) -> None:
    first, second = vector_index(tmp_path / "a", noise(20)), vector_index(tmp_path / "b", noise(20, seed=1))
    moved_to(second, "/elsewhere", EmbeddingSpace("other", "1" * 64, 16))
    with pytest.raises(SpaceMismatchError, match=r"a holds vectors of unknown:16/.*; got .*b of other"):
        merge_indexes([first, second], tmp_path / "out", ONE)
    assert not (tmp_path / "out").exists()


def test_an_index_is_not_overwritten(tmp_path: Path) -> None:
    first = vector_index(tmp_path / "a", noise(20))
    before = contents(first)
    with pytest.raises(BuildError, match=r"there is an index here already; got .*a; give a new folder"):
        merge_indexes([first], first, ONE)
    assert {**contents(first), ".lock": b""} == {**before, ".lock": b""}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(BuildError, match="the folder holds something else"):
        merge_indexes([first], tmp_path / "full", ONE)
    with pytest.raises(BuildError, match="give the indexes to merge"):
        merge_indexes([], tmp_path / "out", ONE)


def test_an_index_without_files_is_not_thinned_out(tmp_path: Path) -> None:
    """Vectors that came without paths are nobody's copies."""
    folders = []
    for number in range(2):
        index = vector_index(tmp_path / f"{number}", noise(20, seed=number))
        part = index / "embeddings" / "part-000000.parquet"
        manifest = read_embedding_manifest(index / "embeddings")
        write_part(part, 0, [ImageRow("", "", 0, 0)] * 8, noise(8, seed=number))
        entries = (FileEntry.of(part.parent, part.name, 8), *manifest.parts[1:])
        write_manifest(part.parent, EmbeddingManifest(manifest.space, f"/{number}", entries, 20))
        folders.append(index)
    merge_indexes(folders, tmp_path / "out", ONE)
    assert len(open_index(tmp_path / "out")) == 40


@given(st.lists(st.sampled_from(["/a", "/a/b", "/a/b/c", "/d", "/d/e", "/"]), min_size=1, max_size=5))
def test_names_lead_back_to_their_files(folders: list[str]) -> None:
    places = Places(Path("/a"))
    for folder in folders:
        name = f"{places.prefix(Path(folder))}x/y.png"
        assert not name.startswith("/")
        assert places.file(name) == Path(folder, "x/y.png")
        assert places.file(places.name(str(Path(folder, "x/y.png")))) == Path(folder, "x/y.png")


def test_a_folder_that_is_called_as_a_place_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "@2").mkdir()
    places = Places(tmp_path)
    assert places.prefix(Path("/elsewhere")) == "@3/"
    assert places.prefix(tmp_path / "@2") == "@2/"
    assert places.file("@2/x") == tmp_path / "@2" / "x"
    assert places.file("@3/x") == Path("/elsewhere/x")


def test_a_folder_of_the_name_of_a_place_that_came_later_gets_another(tmp_path: Path) -> None:
    places = Places(tmp_path, {"@2": "/elsewhere"})
    (tmp_path / "@2").mkdir()
    assert places.prefix(tmp_path / "@2") == "@3/"
    assert places.file("@3/x") == tmp_path / "@2" / "x"


def test_a_file_has_one_name_whichever_folder_it_is_found_through() -> None:
    places = Places(Path("/a/photos"))
    above = [places.is_above(Path(folder)) for folder in ("/a", "/", "/a/photos", "/a/photos/x", "/b")]
    assert above == [True, True, False, False, False]
    assert places.prefix(Path("/a")) == "@2/"
    assert places.is_above(Path("/a"))
    assert [places.inside(Path(file)) for file in ("/a/photos/1", "/a/two/1", "/b/1")] == ["1", "@2/two/1", None]


def test_a_file_of_an_index_of_the_folder_above_keeps_its_name(tmp_path: Path) -> None:
    index = moved_to(vector_index(tmp_path / "a", noise(20)), "/pictures")
    rename = indexing.merge._Renaming(EmbeddingSet(index / "embeddings"), Places(Path("/pictures/a")))
    assert [rename("a/3.png"), rename("b/3.png"), rename("3.png")] == ["3.png", "@2/b/3.png", "@2/3.png"]


@pytest.mark.parametrize(
    ("path", "inner"),
    [("/a/b", "b"), ("/a", ""), ("/a/", ""), ("/ab", None), ("/a/../c", None), ("/a/./b/../d", "d")],
)
def test_relative_follows_no_links(path: str, inner: str | None) -> None:
    assert relative(Path(path), Path("/a")) == inner


def test_moved_pictures_are_found_below_their_new_root(tmp_path: Path) -> None:
    first = moved_to(vector_index(tmp_path / "a", noise(20)), "/old")
    second = moved_to(vector_index(tmp_path / "b", noise(20, seed=1)), "/elsewhere")
    merge_indexes([first, second], tmp_path / "out", ONE)
    embeddings = EmbeddingSet.of_index(tmp_path / "out", open_index(tmp_path / "out").manifest, Path("/new"))
    rows = embeddings.rows(np.array([0, 20]))
    assert [str(embeddings.resolve(row)) for row in rows] == ["/new/0.png", "/elsewhere/0.png"]
