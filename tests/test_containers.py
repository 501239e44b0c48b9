"""Pictures inside files: opened by their paths wherever a picture is opened, and nothing else is."""

from __future__ import annotations

import os
import tarfile
import threading
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed import pack_arrow, pack_parquet, pack_tar, picture, special, structs

from simat import containers, images
from simat.containers import read_bytes, size_of, split, tar_table
from simat.errors import ImageError
from simat.images import load_image

LIMIT = 2**20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same three pictures in a tar, in tables, and as files."""
    place = tmp_path_factory.mktemp("containers")
    pictures = {f"{seed}.png": picture(seed) for seed in range(3)}
    for name, data in pictures.items():
        (place / name).write_bytes(data)
    bad = {"empty.png": b"", "link.png": special("link.png", tarfile.SYMTYPE, "0.png"), "/abs.png": b"x"}
    pack_tar(place / "a.tar", {**{f"d/{name}": data for name, data in pictures.items()}, **bad})
    pack_parquet(place / "b.parquet", {"image": structs([0, 1, 2, None]), "n": range(4)}, row_group=2)
    blobs = pa.array([*pictures.values()])
    pack_arrow(place / "c.arrow", {"image": structs([2, 1, 0]), "photo": blobs}, batch=2)
    paths = ["1.png", str(place / "2.png"), "a.tar/d/0.png", "", None, "gone.png"]
    pack_parquet(place / "paths.parquet", {"file_name": paths})
    return place


@pytest.mark.parametrize(
    ("path", "seed"),
    [
        ("1.png", 1),
        ("a.tar/d/2.png", 2),
        ("a.tar/./d//2.png", 2),
        ("b.parquet/0", 0),
        ("b.parquet/2", 2),
        ("c.arrow/0", 2),
        ("c.arrow/0/photo", 0),
        ("c.arrow/2/photo", 2),
        ("paths.parquet/0", 1),
        ("paths.parquet/1", 2),
    ],
)
def test_a_picture_is_read_wherever_it_is(place: Path, path: str, seed: int) -> None:
    assert read_bytes(place / path, LIMIT) == images.read_bytes(str(place / path)) == picture(seed)
    assert size_of(place / path) == len(picture(seed))
    assert load_image(place / path).tobytes() == load_image(place / f"{seed}.png").tobytes()


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a.tar/d/9.png", "no such file in the tar; got d/9.png"),
        ("a.tar/../0.png", "no such file in the tar; got ../0.png"),
        ("a.tar/d", "no such file in the tar; got d"),
        ("a.tar/link.png", "a link inside a tar"),
        ("a.tar/abs.png", "an absolute name inside a tar"),
        ("a.tar/empty.png", "the file is empty"),
        ("a.tar", "a tar is no picture"),
        ("b.parquet/3", "the row holds no image; got b.parquet/3"),
        ("b.parquet/4", "no such row; got 4"),
        ("b.parquet/-1", "a row is a number; got -1"),
        ("b.parquet/²", "a row is a number"),
        ("b.parquet/" + "9" * 30, "a row is a number"),
        ("b.parquet/0/photo", "no column 'photo'; got b.parquet"),
        ("b.parquet/0/n", "the row holds no image"),
        ("paths.parquet/2", "the row names a file inside another one"),
        ("paths.parquet/3", "the row holds no image"),
        ("paths.parquet/4", "the row holds no image"),
        ("paths.parquet/5", "cannot read the file: No such file or directory"),
        ("1.png/x.png", "cannot read the file: Not a directory"),
        ("no.tar/x.png", "cannot read the file: No such file or directory"),
        ("a\0b.png", "cannot read the file: embedded null"),
    ],
)
def test_what_cannot_be_read_says_why(place: Path, path: str, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        read_bytes(place / path, LIMIT)
    assert message in str(caught.value)


@pytest.mark.parametrize("path", ["1.png", "a.tar/d/1.png", "b.parquet/1", "c.arrow/1"])
def test_the_limit_holds_everywhere(place: Path, path: str) -> None:
    assert read_bytes(place / path, len(picture(1))) == picture(1)
    with pytest.raises(ImageError, match="larger than 0 MiB"):
        read_bytes(place / path, len(picture(1)) - 1)


def test_a_folder_named_as_a_container_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "photos.tar"
    folder.mkdir()
    (folder / "1.png").write_bytes(picture(1))
    assert read_bytes(folder / "1.png", LIMIT) == picture(1)
    assert split(folder / "2.png") is None


def test_split_finds_the_file_and_what_follows(place: Path) -> None:
    assert split(place / "a.tar/d/1.png") == (place / "a.tar", "d/1.png")
    assert split(place / "1.png/x") is None
    assert split(Path("nowhere.tar/x")) is None


@given(inner=st.text(min_size=1, max_size=80))
def test_no_name_inside_a_container_opens_anything_else(place: Path, inner: str) -> None:
    for container in ("a.tar", "b.parquet"):
        try:
            data = read_bytes(place / container / inner.lstrip("/"), LIMIT)
        except ImageError:
            continue
        assert data in {picture(seed) for seed in range(3)}


def test_a_container_that_changes_is_read_anew(tmp_path: Path) -> None:
    path = pack_tar(tmp_path / "a.tar", {"x.png": b"one"})
    assert read_bytes(path / "x.png", LIMIT) == b"one"
    pack_tar(tmp_path / "b.tar", {"w.png": b"zero", "x.png": b"three"}).replace(path)
    assert read_bytes(path / "x.png", LIMIT) == b"three"


def test_a_table_of_a_tar_is_read_once(tmp_path: Path) -> None:
    path = pack_tar(tmp_path / "a.tar", {"x.png": b"one"})
    assert tar_table(path) is tar_table(path)


def test_a_tar_whose_bytes_are_gone_says_so(tmp_path: Path) -> None:
    path = pack_tar(tmp_path / "a.tar", {"x.png": b"x" * 5000})
    os.truncate(path, 2000)
    with pytest.raises(ImageError, match="the tar is cut short inside this file"):
        read_bytes(path / "x.png", LIMIT)


def test_many_threads_read_one_table(place: Path) -> None:
    wrong: list[int] = []

    def read(offset: int) -> None:
        for step in range(12):
            row = (step + offset) % 3
            if read_bytes(place / f"b.parquet/{row}", LIMIT) != picture(row):
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert containers.table(place / "b.parquet") is containers.table(place / "b.parquet")


def test_the_size_of_a_file_that_a_row_names_is_told_without_reading_it(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(2**40)
    path = pack_parquet(tmp_path / "paths.parquet", {"file_name": ["huge.png"]})
    assert size_of(path / "0") == 2**40
    with pytest.raises(ImageError, match="larger than 1 MiB; got 1048576 MiB"):
        read_bytes(path / "0", LIMIT)


@pytest.mark.parametrize("named", ["/dev/zero", "pipe", ".", "..", "/", "a\0b", "x" * 5000, "paths.parquet/0"])
def test_what_a_row_names_is_a_file_or_refused(tmp_path: Path, named: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    path = pack_parquet(tmp_path / "paths.parquet", {"file_name": [named]})
    for read in (lambda: read_bytes(path / "0", LIMIT), lambda: load_image(path / "0")):
        with pytest.raises(ImageError):
            read()


def test_tables_of_tars_are_kept_by_their_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MOST_MEMBERS", 6)
    containers.forget()
    tars = [pack_tar(tmp_path / f"{n}.tar", {f"{i}.png": b"x" for i in range(n)}) for n in (3, 2, 4, 9)]
    first, second = tar_table(tars[0]), tar_table(tars[1])
    assert tar_table(tars[0]) is first  # asked for last: the second one has to go
    third = tar_table(tars[2])
    assert tar_table(tars[2]) is third
    assert tar_table(tars[1]) is not second
    huge = tar_table(tars[3])
    assert tar_table(tars[3]) is huge  # of more members than are kept, but alone
    assert tar_table(tars[2]) is not third


def test_what_was_opened_can_be_forgotten(tmp_path: Path) -> None:
    path = pack_tar(tmp_path / "a.tar", {"x.png": b"one"})
    known = tar_table(path)
    containers.forget()
    assert tar_table(path) is not known
