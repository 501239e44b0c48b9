"""Removal: by expression, by id, by path; at once, and refused where it says something that is not there."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import contents
from living import images, live_ids, noise, vector_index

from indexing.remove import read_ids, read_paths, remove_images
from simat.errors import BuildError, QueryError
from simat.opened import open_index


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vector_index(tmp_path_factory.mktemp("remove") / "index", noise(40))


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def left(index: Path) -> list[int]:
    return live_ids(open_index(index)).tolist()


def test_ids_are_removed_at_once_and_the_others_stay(index: Path) -> None:
    before, files = images(index), contents(index)
    removed = remove_images(index, ids=np.array([39, 0, 7, 7]))
    assert (removed.count, removed.manifest.generation) == (3, 1)
    assert images(index) == {id: image for id, image in before.items() if id not in (0, 7, 39)}
    after = contents(index)
    assert {name for name in after if after[name] != files.get(name)} == {
        "manifest.json",
        "removed-00001.bits",
        ".lock",
    }


def test_removing_again_what_is_gone_changes_nothing(index: Path) -> None:
    remove_images(index, ids=np.array([3, 4]))
    again = remove_images(index, ids=np.array([4]))
    assert (again.count, again.manifest.generation) == (0, 1)
    assert remove_images(index, ids=np.array([4, 5])).count == 1
    assert left(index) == [i for i in range(40) if i not in (3, 4, 5)]


def test_paths_are_relative_or_absolute(index: Path) -> None:
    assert remove_images(index, paths=["3.png", "/nowhere/17.png"]).count == 2
    assert left(index) == [i for i in range(40) if i not in (3, 17)]


def test_an_expression_chooses_by_the_metadata(index: Path) -> None:
    assert remove_images(index, where="path like '1%' and width = 4").count == 11
    assert left(index) == [i for i in range(40) if not str(i).startswith("1")]


@pytest.mark.parametrize(
    ("how", "error", "match"),
    [
        ({}, BuildError, r"say which images to remove in one way; give --where, --ids or --paths"),
        ({"ids": np.array([1]), "paths": ["1.png"]}, BuildError, "in one way"),
        ({"ids": np.array([3, 40])}, QueryError, r"ids run from 0 to 39; got 40"),
        ({"ids": np.array([-1])}, QueryError, r"got -1"),
        ({"paths": ["3.png", "no.png"]}, BuildError, r"1 of 2 images are not in the index; got 'no.png'; .* /nowhere"),
        ({"ids": np.arange(40)}, BuildError, r"no image would be left"),
        ({"where": "width > 0"}, BuildError, r"no image would be left"),
        ({"where": "1; drop table x"}, QueryError, "the filter holds a semicolon"),
    ],
)
def test_what_cannot_be_removed_is_refused_and_nothing_changes(
    index: Path, how: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        remove_images(index, **how)
    assert left(index) == [*range(40)]


def test_a_path_that_was_removed_is_not_there_any_more(index: Path) -> None:
    remove_images(index, paths=["3.png"])
    with pytest.raises(BuildError, match="not in the index"):
        remove_images(index, paths=["3.png"])


def test_lists_are_read_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_bytes(b"3\r\n\n 17 \n0\n")
    assert read_ids(file).tolist() == [3, 17, 0]
    file.write_bytes(b"a b.png\n\nsub/\xff.png\r\n")
    assert read_paths(file) == ["a b.png", "sub/\udcff.png"]


@pytest.mark.parametrize("text", ["3\nx\n", "1.5\n", "-4\n", "99999999999999999999\n", "1_0\n", "²\n", "9" * 5000])
def test_lines_that_are_no_ids_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "list").write_text(text)
    with pytest.raises(BuildError, match=r"is no id|names an image that cannot be"):
        read_ids(tmp_path / "list")


def test_a_line_that_is_no_id_is_told_by_its_number_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("3\n\n\nx\n")
    with pytest.raises(BuildError, match=r"line 4 of .*list is no id; got 'x'; give one id a line"):
        read_ids(tmp_path / "list")


@pytest.mark.parametrize("read", [read_ids, read_paths])
def test_a_list_that_is_not_there_is_one_line(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(BuildError, match=r"cannot read the list: No such file or directory; got .*list"):
        read(tmp_path / "list")
