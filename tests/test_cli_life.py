"""``simat index add | remove | compact | merge | duplicates``: what is printed, and what is refused in one line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from building import colour_plugin, contents, here, plugged_in, save_blotches
from living import ONE

from indexing.build import build_index
from indexing.config import BuildConfig
from simat.encoders import load_encoder
from simat.files import locked


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The encoder ``colours``, registered as a stranger would register it."""
    with plugged_in(colour_plugin(tmp_path_factory.mktemp("plugin") / "site")):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 12 pictures, two of them the same file; three more, one of them broken."""
    place = tmp_path_factory.mktemp("life")
    photos = save_blotches(place / "photos", 11)
    shutil.copy(photos / "0002.png", photos / "copy.png")
    config = BuildConfig(str(photos), encoder="colours")
    build_index(place / "index", config, ONE, encoder=load_encoder("colours"))
    more = save_blotches(place / "more", 2, first=30)
    (more / "bad.png").write_bytes(b"no picture")
    return place


@pytest.fixture
def index(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "index", tmp_path / "index"))


def test_a_life_in_documents(index: Path, place: Path, tmp_path: Path, capsys: Any) -> None:
    added = here(capsys, "index", "add", index, place / "more", "--workers", "1", "--json").json
    same = {"index": str(index), "factory": "Flat"}
    assert added == {
        **same,
        **{"images": 14, "generation": 1, "shards": 2, "added": 2, "duplicates": 0, "known": 0, "rejected": 1},
    }
    found = here(capsys, "index", "duplicates", index, "--threshold", "2", "--json").json
    (group,) = found["groups"]
    assert (found["copies"], found["removed"], group["kept"]["path"]) == (1, 0, "0002.png")
    assert group["copies"] == [{"id": 11, "path": "copy.png", "width": 48, "height": 32, "kind": "exact", "score": 1.0}]
    (tmp_path / "ids").write_text("3\n4\n")
    removed = here(capsys, "index", "remove", index, "--ids", tmp_path / "ids", "--json").json
    assert removed == {**same, "images": 12, "generation": 2, "shards": 2, "removed": 2}
    info = here(capsys, "index", "info", index, "--json").json
    assert (info["images"], info["removed"], info["generation"], info["rejected"]) == (12, 2, 2, 1)
    compacted = here(capsys, "index", "compact", index, "--json").json
    assert compacted["reasons"] == ["2 removed images", "2 parts where 1 suffice", "2 shards where 1 suffice"]
    assert (compacted["images"], compacted["shards"], compacted["retrained"]) == (12, 1, [])
    merged = here(capsys, "index", "merge", index, place / "index", tmp_path / "out", "--json").json
    assert (merged["images"], merged["duplicates"]) == (14, 1)
    verified = here(capsys, "index", "verify", tmp_path / "out", "--json").json
    assert (verified["rows"], verified["whole"]) == (14, True)


def test_a_life_in_words(index: Path, place: Path, capsys: Any) -> None:
    out = here(capsys, "index", "add", index, place / "more", "--workers", "1").out
    assert out == (f"2 images added: 14 in {index}\n1 files could not be read: simat index info {index}\n")
    out = here(capsys, "index", "duplicates", index, "--threshold", "2").out
    assert out.endswith(f"1 copies of 1 images; simat index duplicates {index} --remove\n")
    assert "48×32  copy.png  (same file)" in out
    out = here(capsys, "index", "duplicates", index, "--threshold", "2", "--remove").out
    assert out.endswith("1 copies of 1 images; removed: 13 images left\n")
    assert here(capsys, "index", "duplicates", index, "--threshold", "2").out == "no duplicates\n"
    out = here(capsys, "index", "remove", index, "--where", "path = '0001.png'").out
    assert out == f"1 images removed: 12 left in {index}\n"
    assert here(capsys, "index", "compact", index).out == "12 images in 1 shard(s), Flat\n"
    assert here(capsys, "index", "compact", index).out == "nothing to compact\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["remove"], "say which images to remove in one way; give --where, --ids or --paths"),
        (["remove", "--where", "nothing = 1"], "no such column"),
        (["remove", "--ids", "/nowhere/ids"], "cannot read the list: No such file or directory; got /nowhere/ids"),
        (["add", "/nowhere/photos"], "no such folder of photos; got /nowhere/photos"),
        (["duplicates", "--threshold", "0"], "the threshold must be above 0"),
    ],
)
def test_what_cannot_be_done_is_one_line(index: Path, capsys: Any, arguments: list[str], error: str) -> None:
    before = contents(index)
    command, *rest = arguments
    assert here(capsys, "index", command, index, *rest).error.startswith(error)
    assert {**contents(index), ".lock": b""} == {**before, ".lock": b""}


@pytest.mark.parametrize("command", ["add", "remove", "compact", "duplicates"])
def test_a_second_writer_gets_one_line(index: Path, place: Path, tmp_path: Path, capsys: Any, command: str) -> None:
    (tmp_path / "ids").write_text("3\n")
    more = {"add": [place / "more"], "remove": ["--ids", tmp_path / "ids"], "duplicates": ["--remove"]}
    with locked(index):
        error = here(capsys, "index", command, index, *more.get(command, [])).error
    assert error == f"another process is building here; got {index}; wait for it or stop it"


@pytest.mark.parametrize("command", ["compact", "duplicates", "info"])
def test_no_index_is_one_line(tmp_path: Path, capsys: Any, command: str) -> None:
    assert here(capsys, "index", command, tmp_path).error.startswith("no index here; got ")
