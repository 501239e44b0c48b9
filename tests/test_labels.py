"""``labels.csv``: read back what was written, and one clear line for whatever is wrong with it."""

from __future__ import annotations

import csv
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data.labels import COLUMNS, LabelledPhoto, LabelsError, read_labels
from simat.errors import SimatError

ROW = ("dog.jpg", "n02099601", "golden retriever", "207")


def write(folder: Path, rows: list[tuple[str, ...]], columns: tuple[str, ...] = COLUMNS) -> Path:
    """A folder with ``labels.csv``, and a photograph per row."""
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    for row in rows:
        if row and row[0].strip():
            Image.new("RGB", (2, 2)).save(folder / row[0], "JPEG")
    return folder


words = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=12)


@given(rows=st.lists(st.tuples(words, words, st.integers(0, 999)), min_size=1, max_size=6))
def test_read_labels_returns_what_was_written_in_its_order(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, int]]
) -> None:
    written = [(f"{number}.jpg", wnid, label, str(index)) for number, (wnid, label, index) in enumerate(rows)]
    folder = write(tmp_path_factory.mktemp("labels"), written)
    read = [
        (p.path.relative_to(folder).as_posix(), p.wnid, p.label, str(p.imagenet_index)) for p in read_labels(folder)
    ]
    assert read == written


def test_read_labels_reads_a_quoted_comma_a_byte_order_mark_and_ignores_other_columns(tmp_path: Path) -> None:
    write(tmp_path, [("7", *ROW[:2], "dog, golden", ROW[3])], ("split", *COLUMNS))
    Image.new("RGB", (2, 2)).save(tmp_path / "dog.jpg")
    text = (tmp_path / "labels.csv").read_text("utf-8")
    (tmp_path / "labels.csv").write_text(text, "utf-8-sig")
    assert read_labels(tmp_path) == [LabelledPhoto(tmp_path / "dog.jpg", "n02099601", "dog, golden", 207)]


def test_read_labels_rows_cannot_be_changed(tmp_path: Path) -> None:
    photo = read_labels(write(tmp_path, [ROW]))[0]
    with pytest.raises(FrozenInstanceError):
        photo.label = "cat"  # type: ignore[misc]


def test_read_labels_without_the_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"labels\.csv: No such file or directory; give a folder with a labels\.csv"):
        read_labels(tmp_path)


def test_read_labels_of_other_bytes_says_so(tmp_path: Path) -> None:
    write(tmp_path, [ROW])
    (tmp_path / "labels.csv").write_bytes(b"file,wnid,label,imagenet_index\n\xff\xfe,a,b,1\n")
    with pytest.raises(LabelsError, match="no UTF-8 text"):
        read_labels(tmp_path)


def test_read_labels_without_a_column_names_it(tmp_path: Path) -> None:
    write(tmp_path, [("dog.jpg", "golden retriever")], ("file", "label"))
    with pytest.raises(LabelsError, match="lacks the columns wnid, imagenet_index; got file, label"):
        read_labels(tmp_path)


def test_read_labels_of_an_empty_file_names_every_column(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()
    with pytest.raises(LabelsError, match="lacks the columns file, wnid, label, imagenet_index; got nothing"):
        read_labels(tmp_path)


def test_read_labels_without_rows_says_so(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match="lists no photographs"):
        read_labels(write(tmp_path, []))


@pytest.mark.parametrize("row", [ROW[:3], (*ROW[:2], " ", ROW[3])])
def test_read_labels_with_a_value_missing_names_the_line(tmp_path: Path, row: tuple[str, ...]) -> None:
    with pytest.raises(LabelsError, match=r"line 3 of .*labels\.csv lacks a value"):
        read_labels(write(tmp_path, [("a.jpg", *ROW[1:]), row]))


@pytest.mark.parametrize("index", ["1000", "-1", "7.0", "dog", "²"])
def test_read_labels_with_an_index_that_is_no_class_shows_it(tmp_path: Path, index: str) -> None:
    with pytest.raises(LabelsError, match=rf"imagenet_index must lie in \[0, 1000\); got '{index}'"):
        read_labels(write(tmp_path, [(*ROW[:3], index)]))


def test_read_labels_of_a_photograph_that_is_not_there_names_it(tmp_path: Path) -> None:
    write(tmp_path, [ROW])
    (tmp_path / "dog.jpg").unlink()
    with pytest.raises(LabelsError, match=r"names a photograph that is not there; got dog\.jpg"):
        read_labels(tmp_path)


def test_read_labels_of_a_photograph_listed_twice_names_it(tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=r"lists a photograph twice; got dog\.jpg"):
        read_labels(write(tmp_path, [ROW, ROW]))


def test_read_labels_errors_are_such_as_the_command_line_prints() -> None:
    assert issubclass(LabelsError, SimatError)


def test_read_labels_of_the_real_photographs_knows_dogs_and_cats(photos: Path) -> None:
    labels = read_labels(photos)
    dogs = [photo for photo in labels if 151 <= photo.imagenet_index <= 268]
    cats = [photo for photo in labels if 281 <= photo.imagenet_index <= 285]
    assert (len(labels), len(dogs), len(cats)) == (500, 59, 2)
    assert all(photo.path.name.startswith(photo.wnid) for photo in labels)
