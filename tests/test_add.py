"""Adding: what is new goes in, what is there is left alone, and an interruption is forgotten."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import CountingEncoder, Interrupted, Recorder, contents, same_contents, save_blotches, without_processes
from helpers import PixelColourEncoder
from living import ONE, built, images, live_ids, photos_and_index

from indexing.add import Added, add_images
from indexing.compact import compact_index
from indexing.duplicates import find_duplicates
from indexing.inspect import describe
from indexing.known import KnownContents, content_keys, rows_at
from indexing.remove import remove_images
from simat.embeddings import EmbeddingSet, ImageRow, write_part
from simat.errors import BuildError, SpaceMismatchError
from simat.manifest import FileEntry, write_manifest
from simat.opened import open_index
from simat.selection import Selection


@pytest.fixture(autouse=True, scope="module")
def decoded_here() -> Iterator[None]:
    """Without decoder processes: those of the command line's tests are enough."""
    with without_processes():
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 30 pictures and a file that is none, and ``more``: 18 others, 2 copies and a file that is none."""
    place = tmp_path_factory.mktemp("add")
    photos = save_blotches(place / "photos", 30)
    (photos / "0007x.png").write_bytes(b"no picture")
    built(place / "index", photos)
    more = save_blotches(place / "more", 18, first=100)
    shutil.copy(photos / "0003.png", more / "old.png")
    shutil.copy(more / "0105.png", more / "new.png")
    (more / "bad.png").write_bytes(b"no picture either")
    return place


@pytest.fixture
def index(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "index", tmp_path / "index"))


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The index with ``more``."""
    folder = Path(shutil.copytree(place / "index", place / "whole"))
    add(folder, place / "more")
    return folder


def add(index: Path, source: Path, encoder: PixelColourEncoder | None = None, drop: bool = False) -> Added:
    return add_images(index, str(source), ONE, encoder=encoder or PixelColourEncoder(), drop=drop)


def test_added_images_follow_those_that_were_there(place: Path, whole: Path) -> None:
    before, after = images(place / "index"), images(whole)
    assert [after[id] for id in range(30)] == [*before.values()]
    files = sorted(place.glob("more/*.png"))
    assert [after[id][0] for id in range(30, 50)] == [str(file) for file in files if file.name != "bad.png"]
    other = built(place / "other", place / "more")
    assert sorted(image for id, image in after.items() if id >= 30) == sorted(images(other).values())


def test_copies_are_known_from_the_old_parts_and_what_is_unreadable_is_listed(whole: Path) -> None:
    facts = describe(whole)
    assert (facts["images"], facts["duplicates"], facts["generation"]) == (50, 2, 1)
    assert [item["path"] for item in facts["rejected_files"]] == ["0007x.png", "@2/bad.png"]


def test_nothing_of_the_old_generation_is_written_again(place: Path, whole: Path) -> None:
    old, new = contents(place / "index"), contents(whole)
    gone = {name for name in old if name not in new}
    assert gone == {"embeddings/manifest.json", "embeddings/rejected.parquet"}
    assert {name for name in old.keys() & new.keys() if old[name] != new[name]} == {"manifest.json"}
    assert {name for name in new.keys() - old.keys() if "g00001" not in name} == {"embeddings/manifest-00001.json"}


def test_copies_are_not_embedded_again(index: Path, place: Path) -> None:
    encoder = CountingEncoder()
    added = add(index, place / "more", encoder)
    assert (encoder.encoded, added.images, added.duplicates, len(added.rejected)) == (18, 20, 2, 1)


def test_files_that_are_in_the_index_are_left_alone(whole: Path, place: Path) -> None:
    before = contents(whole)
    encoder = CountingEncoder()
    for source in (place / "photos", place / "more"):
        added = add(whole, source, encoder)
        # What could not be read is tried again.
        assert (added.images, added.manifest.generation) == (0, 1)
    assert encoder.encoded == 0
    assert contents(whole) == before


def test_a_file_that_is_new_below_the_root_has_a_name_from_there(tmp_path: Path) -> None:
    photos, index = photos_and_index(tmp_path, 6)
    (photos / "inner").mkdir()
    shutil.copy(photos / "0001.png", photos / "inner" / "copy.png")
    (photos / "0003x.png").write_bytes(b"no picture yet")
    added = add(index, photos)
    assert (added.images, added.known, added.duplicates) == (1, 6, 1)
    assert describe(index)["rejected"] == 1
    save_blotches(tmp_path / "other", 1, first=70)
    (tmp_path / "other" / "0070.png").rename(photos / "0003x.png")
    assert add(index, photos / "inner").images == 0
    added = add(index, photos)
    assert (added.images, added.known, describe(index)["rejected"]) == (1, 7, 0)
    opened = open_index(index)
    assert [row.path for row in opened.rows(np.array([6, 7]))] == ["inner/copy.png", "0003x.png"]
    remove_images(index, paths=["0002.png", "inner/copy.png"])
    added = add(index, photos)
    assert (added.images, added.known, added.duplicates) == (2, 6, 1)
    assert len(images(index)) == 8


@pytest.mark.parametrize("limit", [0, 7, 12])
def test_an_addition_that_was_interrupted_leaves_the_old_one_and_goes_on(
    index: Path, place: Path, whole: Path, limit: int
) -> None:
    before = images(index)
    with pytest.raises(Interrupted):
        add(index, place / "more", CountingEncoder(limit))
    assert images(index) == before
    encoder = CountingEncoder()
    add(index, place / "more", encoder)
    assert encoder.encoded <= 18 - limit // 8 * 7
    assert same_contents(index, whole)


def test_a_removal_does_not_disturb_an_addition_that_was_interrupted(index: Path, place: Path) -> None:
    with pytest.raises(Interrupted):
        add(index, place / "more", CountingEncoder(12))
    remove_images(index, ids=np.array([1, 2]))
    encoder = CountingEncoder()
    assert add(index, place / "more", encoder).manifest.generation == 2
    assert encoder.encoded < 18
    assert [*images(index)] == [0, *range(3, 50)]


def test_another_addition_waits_for_one_that_was_interrupted_or_drops_it(index: Path, place: Path) -> None:
    with pytest.raises(Interrupted):
        add(index, place / "more", CountingEncoder(7))
    others = save_blotches(index.parent / "others", 2, first=300)
    with pytest.raises(BuildError, match=r"images were being added here; got .*more; .*--drop"):
        add(index, others)
    assert add(index, others, drop=True).images == 2
    assert [path.name for path in (index / "embeddings" / "g00001").iterdir()] == ["part-000000.parquet"]
    assert len(images(index)) == 32


def test_what_cannot_be_added_is_one_line_and_changes_nothing(index: Path, tmp_path: Path) -> None:
    before = contents(index)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match=r"no image files here; got .*empty"):
        add(index, tmp_path / "empty")
    (tmp_path / "empty" / "x.tar").touch()
    with pytest.raises(BuildError, match=r"no image files here; got .*empty; name the files in it: .*empty/\*\.tar"):
        add(index, tmp_path / "empty")
    with pytest.raises(BuildError, match=r"no such folder of photos"):
        add(index, tmp_path / "nowhere")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"no picture")
    with pytest.raises(BuildError, match=r"none of the 1 new files can be read; got '@2/x.png': not an image"):
        add(index, tmp_path / "bad")
    assert {**contents(index), ".lock": b""} == {**before, ".lock": b""}


def test_an_encoder_with_other_weights_is_refused(index: Path, place: Path) -> None:
    with pytest.raises(SpaceMismatchError, match="the index holds vectors of"):
        add(index, place / "more", PixelColourEncoder("0" * 64))
    assert describe(index)["images"] == 30


def test_an_addition_that_fails_before_its_work_is_in_nobodys_way(
    index: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(index)
    with pytest.raises(SpaceMismatchError):
        add(index, place / "more", PixelColourEncoder("0" * 64))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 100))
        with pytest.raises(
            BuildError, match=r"the disk is too full for this index; got 100 B free, .* needed; free some"
        ):
            add(index, place / "more")
    assert {**contents(index), ".lock": b""} == {**before, ".lock": b""}
    remove_images(index, ids=np.array([1]))
    assert compact_index(index, ONE).reasons


def test_an_addition_that_has_begun_outlives_an_encoder_that_fails(index: Path, place: Path, whole: Path) -> None:
    with pytest.raises(Interrupted):
        add(index, place / "more", CountingEncoder(12))
    with pytest.raises(SpaceMismatchError):
        add(index, place / "more", PixelColourEncoder("0" * 64))
    encoder = CountingEncoder()
    add(index, place / "more", encoder)
    assert encoder.encoded < 18
    assert same_contents(index, whole)


def test_a_full_disk_leaves_the_index_and_the_addition_goes_on(index: Path, place: Path, whole: Path) -> None:
    before = images(index)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2500, limits[1]))
    try:
        with pytest.raises(BuildError, match=r"File too large|FAISS cannot make|cannot remember"):
            add(index, place / "more")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert images(index) == before
    assert not [*index.rglob("*.tmp")]
    add(index, place / "more")
    assert same_contents(index, whole)


def test_an_index_with_lists_is_added_to_with_its_training(tmp_path: Path) -> None:
    photos, index = photos_and_index(tmp_path, 40, factory="IVF2,Flat", shard_size=100)
    added = add(index, save_blotches(tmp_path / "more", 10, first=80))
    assert added.manifest.trained["rows"] == 40
    opened = open_index(index)
    ids = live_ids(opened)
    searcher_hits = opened.searcher.search(opened.embeddings.vectors(ids), 1)
    assert (searcher_hits.ids[:, 0] == ids).mean() > 0.9
    assert photos.is_dir()


def test_known_rows_are_found_by_path_and_by_content(whole: Path) -> None:
    opened = open_index(whole)
    embeddings: EmbeddingSet = opened.embeddings
    removed = Selection.of_ids(np.array([3]), 50)
    assert dict(rows_at(embeddings, removed, ["0003.png", "0004.png", "@2/new.png", "no.png"])) == {
        "0004.png": 4,
        "@2/new.png": next(i for i in range(50) if embeddings.rows(np.array([i]))[0].path == "@2/new.png"),
    }
    contents_known = KnownContents(embeddings, removed)
    for id, row in enumerate(embeddings.rows(np.arange(50))):
        same = [i for i, other in enumerate(embeddings.rows(np.arange(50))) if other.sha256 == row.sha256 and i != 3]
        assert contents_known.find(row.sha256) == (min(same) if same else None), id
    assert contents_known.find("f" * 64) is None


def test_content_keys_are_the_first_bits_of_the_hash() -> None:
    import pyarrow as pa

    column = pa.chunked_array([["0123456789abcdef" + "0" * 48, ""], ["f" * 64, "short"]])
    rows, keys = content_keys(column)
    assert rows.tolist() == [0, 2]
    assert [int(key) for key in keys] == [0x0123456789ABCDEF, 2**64 - 1]


def test_an_addition_tells_what_it_finds(index: Path, place: Path) -> None:
    recorder = Recorder.new()
    photos = save_blotches(index.parent / "two", 2, first=500)
    add_images(index, f"{place / 'photos'}::{photos}", ONE, recorder, PixelColourEncoder())
    assert recorder.notes[0] == "30 files are in the index already: left alone"
    assert recorder.notes[1].startswith("3 new files: they will take about ")
    assert recorder.advanced["shard"] == 2


def test_a_row_without_content_or_file_is_nobodys_copy(tmp_path: Path) -> None:
    """Imported vectors may have neither."""
    index = built(tmp_path / "index", save_blotches(tmp_path / "photos", 6))
    folder, known = index / "embeddings", open_index(index).embeddings
    rows = [ImageRow("", "", 0, 0), ImageRow("", "", 0, 0), *known.rows(np.arange(2, 6))]
    write_part(folder / "part-000000.parquet", 0, rows, known.vectors(np.arange(6)))
    entry = FileEntry.of(folder, "part-000000.parquet", 6)
    write_manifest(folder, replace(known.manifest, parts=(entry,)))
    embeddings = EmbeddingSet(folder)
    assert [KnownContents(embeddings, Selection.none(6)).find(sha) for sha in ("", rows[2].sha256)] == [None, 2]
    assert [*rows_at(embeddings, Selection.none(6), ["", "0002.png"])] == [("0002.png", 2)]
    more = save_blotches(tmp_path / "more", 3)  # the same pictures as the first three rows
    encoder = CountingEncoder()
    added = add(index, more, encoder)
    assert (encoder.encoded, added.images, added.duplicates) == (2, 3, 1)
    assert [group.kept for group in find_duplicates(open_index(index), 2.0)] == [2]
    with pytest.raises(BuildError, match="1 of 1 images are not in the index"):
        remove_images(index, paths=[str(tmp_path / "photos")])
