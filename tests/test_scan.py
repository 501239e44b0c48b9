"""Finding files: order, names of any bytes, links; and the written list."""

from __future__ import annotations

import errno
import inspect
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from building import Recorder
from hypothesis import given
from hypothesis import strategies as st

import indexing.scan
from indexing.items import MOST_COLUMNS, Item
from indexing.scan import read_scan, walk, write_items, write_scan
from simat.errors import BuildError

NAMES = st.binary(min_size=1, max_size=12).filter(lambda raw: b"\0" not in raw and b"/" not in raw)


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_walk_sorts_names_within_a_folder_and_takes_folders_after_files(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a/z.png", "a/b/c.gif", "c/a.webp", "a.jpg", "B.JPG", "a0.jpeg")
    assert list(walk(tmp_path)) == ["B.JPG", "a.jpg", "a0.jpeg", "b.jpg", "a/z.png", "a/b/c.gif", "c/a.webp"]


def test_walk_takes_every_suffix_of_an_image_format_and_no_other(tmp_path: Path) -> None:
    images = ["a.AVIF", "b.bmp", "c.gif", "d.jfif", "e.jpe", "f.mpo", "g.TIF", "h.tiff", "i.webp"]
    touch(tmp_path, *images, "notes.txt", "drawing.svg", "jpg", ".jpg", "archive.jpg.gz")
    assert list(walk(tmp_path)) == images


def test_walk_does_not_depend_on_the_order_of_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{folder}{i:02}.png" for folder in ("", "x/", "y/") for i in range(20)))
    expected = list(walk(tmp_path))
    rng, scandir = random.Random(3), os.scandir

    class Shuffled:
        def __init__(self, path: Any) -> None:
            self.entries = list(scandir(path))
            rng.shuffle(self.entries)

        def __enter__(self) -> Any:
            return iter(self.entries)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Shuffled)
    assert list(walk(tmp_path)) == expected
    assert len(expected) == 60


def test_walk_keeps_spaces_newlines_and_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    raw = [b"a b.png", b"line\nbreak.png", b"\xff\xfe.png", "ü.png".encode()]
    for name in raw:
        (tmp_path / os.fsdecode(name)).write_bytes(b"x")
    assert [os.fsencode(name) for name in walk(tmp_path)] == sorted(raw)


def test_walk_follows_links_to_files_but_not_to_folders(tmp_path: Path) -> None:
    touch(tmp_path, "photos/in.png", "elsewhere/out.png")
    photos = tmp_path / "photos"
    (photos / "link.png").symlink_to(tmp_path / "elsewhere/out.png")
    (photos / "folder").symlink_to(tmp_path / "elsewhere")
    (photos / "folder.png").symlink_to(tmp_path / "elsewhere")
    (photos / "gone.png").symlink_to(tmp_path / "nothing")
    assert list(walk(photos)) == ["gone.png", "in.png", "link.png"]


def test_walk_ends_where_links_lead_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "a/in.png")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self.png").symlink_to("self.png")
    assert list(walk(tmp_path)) == ["a/in.png", "a/self.png"]


def test_walk_gives_a_folder_below_that_cannot_be_read_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "open/a.png", "shut/b.png")
    scandir = os.scandir

    def refuse(path: Any) -> Any:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert list(walk(tmp_path)) == ["open/a.png", "shut"]
    with pytest.raises(BuildError, match=r"cannot read the folder: Permission denied; got .*/shut"):
        list(walk(tmp_path / "shut"))


def test_walk_of_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot read the folder: No such file or directory"):
        list(walk(tmp_path / "nothing"))


@given(
    names=st.lists(NAMES.map(os.fsdecode), max_size=12),
    chunk=st.integers(1, 5),
    start=st.integers(0, 13),
    length=st.integers(0, 13),
)
def test_read_scan_is_a_slice_of_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], chunk: int, start: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("scan") / "scan.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing.scan, "CHUNK", chunk)
        patch.setattr(indexing.scan, "walk", lambda root: iter(names))
        assert write_scan(Path("/photos"), path) == len(names)
        assert read_scan(path, start, start + length) == names[start : start + length]


def test_write_scan_of_the_same_folder_writes_the_same_bytes(tmp_path: Path) -> None:
    touch(tmp_path, *(f"photos/{i}.png" for i in range(30)))
    write_scan(tmp_path / "photos", tmp_path / "one")
    write_scan(tmp_path / "photos", tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_write_scan_of_an_empty_folder_counts_none_and_reads_back_none(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert write_scan(tmp_path / "photos", tmp_path / "scan") == 0
    assert read_scan(tmp_path / "scan", 0, 10) == []


def test_walk_survives_every_folder_below_that_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png", "b/c/2.png", "b/3.png", "d/4.png")
    scandir = os.scandir
    failing = {"a": errno.EIO, "c": errno.ENAMETOOLONG, "d": errno.ENOENT}

    def fail(path: Any) -> Any:
        if (number := failing.get(Path(path).name)) is not None:
            raise OSError(number, os.strerror(number), os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", fail)
    assert list(walk(tmp_path)) == ["a", "b/3.png", "b/c", "d"]


def test_walk_goes_as_deep_as_the_folders_do(tmp_path: Path) -> None:
    names = ["/".join(["d"] * depth + ["x.png"]) for depth in range(0, 300, 100)]
    touch(tmp_path, *names)
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(len(inspect.stack()) + 150)
        assert list(walk(tmp_path)) == names
    finally:
        sys.setrecursionlimit(limit)


def test_write_items_tells_of_columns_that_are_left_out(tmp_path: Path) -> None:
    for count, notes in ((MOST_COLUMNS, 0), (MOST_COLUMNS + 1, 1)):
        recorder = Recorder([("scan", None, "files")], {}, [])
        write_items([Item("a.png", None, {f"c{i}": i for i in range(count)})], tmp_path / "scan", recorder)
        assert [note.startswith("more than 256 columns of facts") for note in recorder.notes] == [True] * notes
