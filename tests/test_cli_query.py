"""``simat search``, ``edit`` and ``encoders``: answers, their JSON, and every way to ask wrongly."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import pytest
from building import cache_beside, colour_environment, colour_plugin, here, plugged_in, simat
from helpers import colour_pictures, save_pictures
from PIL import Image

from indexing.build import build_index
from indexing.config import BuildConfig, Machine
from simat.encoders import load_encoder

RESULT = {"id", "score", "path", "caption"}


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Colour photos, their index, and the encoder ``colours`` registered as a stranger would register it."""
    place = tmp_path_factory.mktemp("query")
    save_pictures(place / "photos", colour_pictures())
    with plugged_in(colour_plugin(place / "site")):
        config = BuildConfig(str(place / "photos"), encoder="colours")
        build_index(place / "index", config, Machine(workers=1), encoder=load_encoder("colours"))
        yield place


def names(results: list[dict[str, Any]]) -> list[str]:
    return [Path(result["path"]).name for result in results]


def test_search_by_words_prints_one_document_of_stable_names(place: Path, capsys: Any) -> None:
    document = here(capsys, "search", place / "index", "red", "-k", "3", "--json").json
    assert set(document) == {"text", "image", "backend", "results", "timings", "sheet"}
    asked = (document["text"], document["image"], document["backend"], document["sheet"])
    assert asked == ("red", None, "retrieve", None)
    assert [set(result) for result in document["results"]] == [RESULT] * 3
    assert names(document["results"])[0] == "red.png"
    assert document["results"][0]["score"] == pytest.approx(1, abs=1e-3)
    scores = [result["score"] for result in document["results"]]
    assert scores == sorted(scores, reverse=True)
    assert set(document["timings"]) == {"compose", "search"}


def test_edit_prints_one_document_of_stable_names(place: Path, capsys: Any) -> None:
    photo = place / "photos" / "red.png"
    document = here(capsys, "edit", place / "index", photo, "red -> blue", "-k", "2", "--json").json
    assert set(document) == {"image", "edits", "scale", "composer", "backend", "results", "timings", "sheet"}
    asked = (document["image"], document["edits"], document["scale"], document["composer"])
    assert asked == (str(photo), "red -> blue", 1.0, "delta")
    assert names(document["results"])[0] == "blue.png"


def test_search_by_image_takes_a_file_or_an_id_and_leaves_it_out(place: Path, capsys: Any) -> None:
    photo = place / "photos" / "green.png"
    by_file = here(capsys, "search", place / "index", "--image", photo, "--json").json["results"]
    everything = here(capsys, "search", place / "index", "--image", photo, "--include-self", "--json").json["results"]
    assert names(everything)[0] == "green.png"
    assert "green.png" not in names(by_file)
    assert names(by_file)[:9] == names(everything)[1:]
    id = str(everything[0]["id"])
    by_id = here(capsys, "search", place / "index", "--image", id, "--json").json["results"]
    assert names(by_id) == names(by_file)


def test_an_edit_may_begin_with_a_minus_sign(place: Path, capsys: Any) -> None:
    photo = place / "photos" / "red_green.png"
    document = here(capsys, "edit", place / "index", photo, "- green", "--scale", "0.5", "--json").json
    assert document["edits"].strip() == "- green"
    assert names(document["results"]) != names(
        here(capsys, "edit", place / "index", photo, "+ green", "--scale", "0.5", "--json").json["results"]
    )


def test_scale_zero_gives_the_neighbours_of_the_image(place: Path, capsys: Any) -> None:
    photo = place / "photos" / "yellow.png"
    edited = here(capsys, "edit", place / "index", photo, "yellow -> blue", "--scale", "0", "--json").json
    found = here(capsys, "search", place / "index", "--image", photo, "--json").json
    assert edited["results"] == found["results"]


def test_search_prints_a_table_for_people(place: Path, capsys: Any) -> None:
    lines = here(capsys, "search", place / "index", "white", "-k", "2").out.splitlines()
    rank, score, _, path = lines[0].split()
    assert (rank, score, path) == ("1", "1.000", str(place / "photos" / "white.png"))
    assert len(lines) == 3
    assert lines[2].startswith("2 of 23 images · compose ")


def test_a_sheet_is_drawn_where_asked(place: Path, tmp_path: Path, capsys: Any) -> None:
    sheet = tmp_path / "sheet.png"
    photo = place / "photos" / "red.png"
    document = here(capsys, "edit", place / "index", photo, "red -> blue", "-k", "3", "--sheet", sheet, "--json").json
    assert document["sheet"] == str(sheet)
    with Image.open(sheet) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(2**20)}
    assert {(220, 30, 30), (30, 40, 220)} <= colours  # the question and its first answer


def test_root_tells_where_the_photos_are_now(place: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(place / "photos", tmp_path / "moved")
    document = here(capsys, "search", place / "index", "red", "--root", tmp_path / "moved", "--json").json
    assert document["results"][0]["path"] == str(tmp_path / "moved" / "red.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "INDEX", "red", "-k", "0"], "k must be at least 1; got 0"),
        (["search", "INDEX", "red", "-k", "-3"], "k must be at least 1; got -3"),
        (["search", "INDEX", "red", "-k", "24"], "k is more than the 23 images of the index; got 24; ask for fewer"),
        (["search", "INDEX"], "search for words or for an image; got neither"),
        (["search", "INDEX", "red", "--image", "0"], "search for words or for an image; got both"),
        (["search", "INDEX", "--image", "23"], "no image with this id; got 23; ids run from 0 to 22"),
        (["search", "INDEX", "--image", "nothing.png"], "cannot read the file: No such file or directory; got "),
        (["search", "INDEX", "red", "--sheet", "a.pdf"], "a sheet is a .png, .jpg or .webp file; got a.pdf"),
        (["search", "INDEX", "red", "--sheet", "/no/a.png"], "no such folder; got /no"),
        (["search", "INDEX", "red", "--encoder", "nobody"], "no such encoder; got 'nobody'; there are: colours, "),
        (["search", "/nothing", "red"], "no index here; got /nothing; make one with 'simat index build"),
        (["edit", "INDEX", "0", "dog -> cat", "--scale", "nan"], "the scale must be a finite number; got nan"),
        (["edit", "INDEX", "0", "dog -> cat", "--scale", "-inf"], "the scale must be a finite number; got -inf"),
        (["edit", "INDEX", "0", "dog"], "this is no edit; got 'dog'; write \"dog -> cat\", "),
        (["edit", "INDEX", "0", "dog -> cat -> bird"], "this is no edit; got 'dog -> cat -> bird'"),
        (["edit", "INDEX", "0", "dog -> cat,"], "this is no edit; got ''"),
        (["edit", "INDEX", "0", ""], "this is no edit; got ''"),
        (["edit", "INDEX", "0", "a\nb"], "this is no edit; got 'a\\nb'"),
        (["edit", "INDEX", "0", "a -> b", "--composer", "magic"], "no such composer; got magic; there are: delta"),
    ],
)
def test_questions_that_make_no_sense_are_one_line(
    place: Path, capsys: Any, arguments: list[str], message: str
) -> None:
    ran = here(capsys, *(str(place / "index") if a == "INDEX" else a for a in arguments))
    assert ran.error.startswith(message)
    assert ran.out == ""


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="faiss-gpu is installed")
@pytest.mark.parametrize("asked", [["search", "INDEX", "red"], ["edit", "INDEX", "0", "red -> blue"]])
def test_gpus_that_are_not_there_are_one_line(place: Path, capsys: Any, asked: list[str]) -> None:
    ran = here(capsys, *(str(place / "index") if a == "INDEX" else a for a in asked), "--gpus", "all")
    assert ran.error.startswith("this faiss knows no GPUs; got faiss ")


def test_gpus_hold_no_index_that_is_not_here(capsys: Any) -> None:
    milvus = here(capsys, "search", "milvus://127.0.0.1:1/photos", "red", "--gpus", "all").error
    assert milvus.startswith("Milvus searches this index, no GPU here; got milvus:/")
    assert milvus.endswith("leave out --gpus")
    none = here(capsys, "edit", "photo.png", "red -> blue", "--gpus", "all", "-o", ".").error
    assert none == "--gpus belongs to an index; name the index before the image"


def test_another_encoder_is_refused_with_both_names_and_the_remedy(place: Path, capsys: Any) -> None:
    error = here(capsys, "search", place / "index", "red", "--encoder", "offline").error
    assert error.startswith("the index holds vectors of colours (49-d, c0104e); got an encoder of offline (384-d, ")
    assert "open it with --encoder colours, or build a new index with offline" in error


@pytest.mark.parametrize("how", ["missing", "truncated", "altered", "newer", "half built"])
def test_a_damaged_index_is_one_line(place: Path, tmp_path: Path, capsys: Any, how: str) -> None:
    index = tmp_path / "index"
    shutil.copytree(place / "index", index)
    shard, manifest = index / "shards" / "shard-00000.faiss", index / "manifest.json"
    data = shard.read_bytes()
    expected = {
        "missing": "shards/shard-00000.faiss is missing; got ",
        "truncated": "shards/shard-00000.faiss was truncated or altered; got ",
        "altered": "shards/shard-00000.faiss was altered; got another SHA-256 than its manifest's; build the index",
        "newer": "format version 99 is newer than 2, the newest this simat reads; got ",
        "half built": "the index is half built; got ",
    }[how]
    if how in {"missing", "half built"}:
        (shard if how == "missing" else manifest).unlink()
        (index / "building.json").write_text("{}")
    elif how == "newer":
        manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "version": 99}))
    else:
        shard.write_bytes(data[:-7] if how == "truncated" else data[:-7] + bytes(7))
    assert here(capsys, "search", index, "red").error.startswith(expected)


def test_a_reader_that_goes_away_is_no_traceback(place: Path) -> None:
    command = [sys.executable, "-m", "simat.cli.main", "search", str(place / "index"), "red", "-k", "20"]
    environment = {**os.environ, **colour_environment(place / "site"), "SIMAT_CACHE": cache_beside()}
    for more in ([], ["--json"]):
        read, write = os.pipe()
        os.close(read)
        ran = subprocess.run(
            [*command, *more], stdout=write, stderr=subprocess.PIPE, env=environment, timeout=60, check=False
        )
        os.close(write)
        assert ran.stderr == b""
        assert ran.returncode in (0, 1)


def test_a_full_output_is_one_line(place: Path) -> None:
    command = [sys.executable, "-m", "simat.cli.main", "encoders", "--json"]
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert ran.returncode != 0
    assert b"Traceback" not in ran.stderr
    assert b"No space left on device" in ran.stderr


def test_encoders_lists_what_is_installed(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    document = here(capsys, "encoders", "--json").json
    entries = {entry["spec"]: entry for entry in document["encoders"]}
    fields = {"spec", "reads", "dim", "megabytes", "licence", "state", "description"}
    assert all(set(entry) == fields for entry in entries.values())
    assert entries["offline"]["dim"] == 384
    assert entries["offline"]["state"] == "ready"
    assert entries["colours"]["description"] == "plugin colours_plugin:load"
    monkeypatch.setenv("COLUMNS", "200")
    assert all(spec in here(capsys, "encoders").out for spec in entries)
    monkeypatch.setenv("COLUMNS", "80")
    assert "…" not in here(capsys, "encoders").out  # a spec that is cut short cannot be used


def test_the_offline_encoder_answers_in_a_process_of_its_own(sample_photos: Path, tmp_path: Path) -> None:
    built = simat("index", "build", sample_photos, tmp_path / "index", "--json").json
    assert (built["images"], built["encoder"], built["dim"]) == (30, "offline", 384)
    found = simat("search", tmp_path / "index", "a cup of coffee", "-k", "3", "--json").json["results"]
    assert "coffee.jpg" in names(found)
    edited = simat("edit", tmp_path / "index", sample_photos / "coffee.jpg", "- coffee", "-k", "30", "--json").json
    assert "coffee.jpg" not in names(edited["results"])
    assert len(edited["results"]) == 29
