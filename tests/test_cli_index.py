"""``simat index build | info | verify``: what is printed, what is refused, and what other programs can read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from building import colour_plugin, contents, here, plugged_in, save_blotches, simat
from hypothesis import given
from hypothesis import strategies as st

from indexing.build import build_index
from indexing.commands import parse_bytes
from indexing.config import BuildConfig, Machine
from simat.encoders import load_encoder
from simat.errors import BuildError


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The encoder ``colours``, registered as a stranger would register it."""
    with plugged_in(colour_plugin(tmp_path_factory.mktemp("plugin") / "site")):
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    photos = save_blotches(tmp_path_factory.mktemp("cli") / "photos", 15)
    (photos / "copy.png").write_bytes((photos / "0003.png").read_bytes())
    for number in range(12):
        (photos / f"bad {number:02}.png").write_bytes(b"bad")
    return photos


@pytest.fixture(scope="module")
def whole(photos: Path) -> Path:
    config = BuildConfig(str(photos), encoder="colours")
    build_index(photos.parent / "index", config, Machine(workers=1), encoder=load_encoder("colours"))
    return photos.parent / "index"


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(whole, tmp_path / "index")
    return tmp_path / "index"


def test_build_prints_one_document_of_stable_names(photos: Path, tmp_path: Path, capsys: Any) -> None:
    ran = here(
        capsys,
        *("index", "build", photos, tmp_path / "index", "--encoder", "colours", "--workers", "1", "--shard-size", "6"),
        *("--factory", "IVF2,Flat", "--recall", "0.9", "--memory", "8M", "--json"),
    )
    document = ran.json
    assert set(document["search"]) == {"nprobe"}
    assert set(document.pop("recall")) == {"recall@10", "queries"}
    assert document == {
        "index": str(tmp_path / "index"),
        "images": 16,
        "duplicates": 1,
        "rejected": 12,
        "encoder": "colours",
        "dim": 49,
        "factory": "IVF2,Flat",
        "shards": 3,
        "search": document["search"],
    }


def test_build_reports_progress_in_json_lines_where_there_is_no_terminal(
    photos: Path, tmp_path: Path, capsys: Any
) -> None:
    ran = here(capsys, "index", "build", photos, tmp_path / "index", "--encoder", "colours", "--json")
    fields = {"stage", "done", "total", "unit", "rate", "seconds_left"}
    lines = [line for line in ran.progress if "note" not in line]
    assert all(set(line) == fields for line in lines)
    assert list(dict.fromkeys(line["stage"] for line in lines)) == ["scan", "embed", "shard", "measure"]
    assert len(ran.progress) == len(ran.err.splitlines())
    last = [line for line in lines if line["stage"] == "embed"][-1]
    assert (last["done"], last["total"], last["unit"], last["seconds_left"]) == (28, 28, "images", 0.0)


def test_build_tells_people_in_a_few_lines(photos: Path, tmp_path: Path, capsys: Any) -> None:
    ran = here(capsys, "index", "build", photos, tmp_path / "index", "--encoder", "colours")
    folder = tmp_path / "index"
    assert ran.out.splitlines() == [
        f"16 images in {folder} · colours, 49-d · Flat in 1 shard(s) · recall@10 1.000",
        "1 files are exact copies of others: embedded once",
        f"12 files could not be read: simat index info {folder}",
    ]


def test_build_again_says_that_it_is_done_and_changes_nothing(index: Path, photos: Path, capsys: Any) -> None:
    before = contents(index)
    ran = here(capsys, "index", "build", photos, index, "--encoder", "colours", "--json")
    assert ran.json["images"] == 16
    assert ran.progress == [{"note": "already built: 16 images"}]
    assert contents(index) == before


def test_build_takes_a_relative_folder_for_the_same_one(
    index: Path, photos: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    assert here(capsys, "index", "build", "photos", index, "--encoder", "colours", "--json").json["images"] == 16


def test_flags_go_before_the_file_of_settings(photos: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('encoder = "colours"\nshard_size = 3\npart_size = 4\n')
    ran = here(capsys, "index", "build", photos, tmp_path / "index", "--config", file, "--shard-size", "8", "--json")
    assert ran.json["shards"] == 2
    assert here(capsys, "index", "info", tmp_path / "index", "--json").json["parts"] == 7


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--shard-size", "9"], "index was begun with other settings; got shard_size 1000000 -> 9; repeat"),
        (["--factory", "SQ8"], "index was begun with other settings; got factory 'auto' -> 'SQ8'; repeat"),
        (["--factory", "Nonsense"], "FAISS cannot make a 49-d index of this factory string; got 'Nonsense'"),
        (["--shard-size", "0"], "shard_size must be at least 1; got 0"),
        (["--memory", "much"], "not a number of bytes; got 'much'; write for example 8G or 512M"),
        (["--recall", "nan"], "target_recall must lie in (0, 1]; got nan"),
        (["--workers", "0"], "workers must be at least 1; got 0"),
        (["--config", "/nothing.toml"], "cannot read the configuration; got /nothing.toml: "),
    ],
)
def test_build_refuses_in_one_line(index: Path, photos: Path, capsys: Any, flags: list[str], message: str) -> None:
    before = contents(index)
    ran = here(capsys, "index", "build", photos, index, "--encoder", "colours", *flags)
    assert message in ran.error
    assert ran.out == ""
    assert contents(index) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing", "index"], "no such folder of photos; got "),
        (["photos", "photos"], "the folder holds something else; got "),
        (["photos", "index", "--encoder", "nobody"], "no such encoder; got 'nobody'; there are: colours, combined"),
        (["photos", "index", "--encoder", "offline:x"], "the offline encoder takes no argument; got 'x'"),
        (["empty", "index"], "no image files here; got "),
    ],
)
def test_build_refuses_what_it_cannot_begin(tmp_path: Path, capsys: Any, arguments: list[str], message: str) -> None:
    save_blotches(tmp_path / "photos", 2)
    (tmp_path / "empty").mkdir()
    flags = [] if "--encoder" in arguments else ["--encoder", "colours"]
    paths = [tmp_path / name for name in arguments[:2]]
    assert here(capsys, "index", "build", *paths, *arguments[2:], *flags).error.startswith(message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "photos"]
    assert len(list((tmp_path / "photos").iterdir())) == 2


@pytest.mark.parametrize(("flag", "value"), [("--device", "toaster"), ("--precision", "f7")])
def test_an_unknown_device_or_precision_is_one_line(tmp_path: Path, flag: str, value: str) -> None:
    save_blotches(tmp_path / "photos", 1)
    ran = simat("index", "build", tmp_path / "photos", tmp_path / "index", flag, value)
    assert ran.error.startswith(f"unknown runtime option; got {value}; use ")
    assert not (tmp_path / "index").exists()


def test_info_tells_people_the_facts_and_ten_bad_files(index: Path, capsys: Any) -> None:
    lines = here(capsys, "index", "info", index).out.splitlines()
    assert "images         16" in lines
    assert "encoder        colours" in lines
    assert "reasons        not an image in a format we read 12" in lines
    bad = [line.partition(";")[0] for line in lines if line.startswith("  'bad ")]
    assert bad == [f"  'bad {number:02}.png': not an image in a format we read" for number in range(10)]
    assert lines[-1] == f"  … and 2 more: simat index info {index} --rejected"


def test_info_lists_every_bad_file_when_asked(index: Path, capsys: Any) -> None:
    lines = here(capsys, "index", "info", index, "--rejected").out.splitlines()
    assert sum(line.startswith("  'bad ") for line in lines) == 12
    assert "more" not in lines[-1]


def test_verify_says_that_all_is_whole(index: Path, capsys: Any) -> None:
    assert here(capsys, "index", "verify", index).out.startswith("all 3 files are whole: 16 images, ")
    document = here(capsys, "index", "verify", index, "--json").json
    assert set(document) == {"index", "files", "bytes", "rows", "whole"}
    assert (document["files"], document["rows"], document["whole"]) == (3, 16, True)


@pytest.mark.parametrize("command", ["info", "verify"])
def test_damage_is_one_line(index: Path, capsys: Any, command: str) -> None:
    (index / "shards" / "shard-00000.faiss").write_bytes(b"short")
    assert here(capsys, "index", command, index).error.startswith("shards/shard-00000.faiss was truncated or altered")
    shutil.rmtree(index)
    assert here(capsys, "index", command, index).error.startswith("no index here; got ")


@given(number=st.integers(0, 10**6), unit=st.sampled_from(["", "K", "M", "G", "T", "k", "g"]))
def test_parse_bytes_multiplies_by_powers_of_1024(number: int, unit: str) -> None:
    assert parse_bytes(f"{number}{unit}") == number * 1024 ** (" KMGT".index(unit.upper()) if unit else 0)


def test_parse_bytes_takes_fractions() -> None:
    assert parse_bytes("1.5G") == 3 * 2**29


@pytest.mark.parametrize("text", ["", "G", "8X", "inf", "nan", "1e999", "eight"])
def test_parse_bytes_refuses_what_is_no_number(text: str) -> None:
    with pytest.raises(BuildError, match="not a number of bytes; got"):
        parse_bytes(text)
