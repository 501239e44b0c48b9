"""The demonstration: scenes drawn, made a corpus, indexed, searched, edited, marked, and put on a sheet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from building import cache_beside, simat
from PIL import Image

from simat.cli.demo import Shown, print_shown
from simat.cli.scene_demo import FIELDS, SLOT, WORDS, Marker, commands
from simat.types import Result

SCENES = 2200


def demo(*arguments: str | Path) -> Any:
    """What the demonstration prints; it runs here, and the commands that it runs in processes of their own."""
    from simat.cli.main import main

    told = io.StringIO()
    with redirect_stdout(told), pytest.raises(SystemExit) as end, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["simat", "demo", *map(str, arguments), "--json"])
        patch.setenv("SIMAT_CACHE", cache_beside())
        main()
    assert not end.value.code
    return json.loads(told.getvalue())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "demo"


@pytest.fixture(scope="module")
def document(place: Path) -> Any:
    return demo("--out", place, "--images", str(SCENES))


@pytest.fixture
def marker(document: Any, place: Path) -> Iterator[Marker]:
    yield Marker(place / "corpus")


def test_demo_renders_indexes_asks_and_draws(document: Any, place: Path) -> None:
    assert document["images"] == pq.read_table(place / "corpus" / "regions.parquet").num_rows
    questions = [answer["command"].split('"')[1] for answer in document["answers"]]
    assert questions[:3] == list(WORDS)
    assert len(questions) == 3 + len(FIELDS) and all("->" in edit for edit in questions[3:])
    with Image.open(document["sheet"]) as sheet:
        assert sheet.format == "PNG" and sheet.width > 1000


def test_demo_marks_its_answers_far_above_chance(document: Any) -> None:
    assert document["questions"] == 300
    assert 0 < document["chance"] < 0.02
    assert document["first_right"] > 10 * document["chance"]


def test_demo_finds_what_its_words_say(document: Any, place: Path) -> None:
    rows = pq.read_table(place / "corpus" / "regions.parquet").to_pylist()
    shown = {row["image"]: (row["subj"], row["rel"], row["obj"]) for row in rows}
    first = Path(document["answers"][0]["results"][0]["path"]).name
    assert shown[first] == ("dog", "riding", "skateboard")


def test_demo_again_keeps_what_is_there(document: Any, place: Path) -> None:
    assert [arguments[:2] for arguments in commands(place, SCENES)] == [["index", "build"]]
    assert [arguments[0] for arguments in commands(place.with_name("other"), SCENES)] == ["data", "data", "index"]


@pytest.mark.parametrize("field", FIELDS)
def test_questions_are_the_corpus_own(marker: Marker, place: Path, field: str) -> None:
    rows = pq.read_table(place / "corpus" / "queries.parquet").to_pylist()
    asked = {(row["region_id"], row["value"], row["target"]) for row in rows if row["field"] == field}
    captions = pq.read_table(place / "corpus" / "triplets.parquet").to_pylist()
    goals = {(int(question.image.stem), question.source, question.target) for question in marker.questions(40, field)}
    assert len(goals) == 40 and goals <= asked
    for question in marker.questions(40, field):
        assert question.goal[SLOT[field]] == question.target
        assert question.goal in {(row["subj"], row["rel"], row["obj"]) for row in captions}
        assert question.image.is_file()


def test_marker_tells_right_from_wrong(marker: Marker, place: Path) -> None:
    rows = pq.read_table(place / "corpus" / "regions.parquet").to_pylist()
    results = [Result(1.0, path=place / "corpus" / "images" / row["image"]) for row in rows[:20]]
    goal = (rows[0]["subj"], rows[0]["rel"], rows[0]["obj"])
    expected = [(row["subj"], row["rel"], row["obj"]) == goal for row in rows[:20]]
    assert marker.right(results, goal) == expected
    assert expected[0] and not all(expected)


def test_demo_takes_photographs_of_ones_own(sample_photos: Path, tmp_path: Path) -> None:
    document = demo("--photos", sample_photos, "--out", tmp_path / "demo")
    assert document["images"] == len(list(sample_photos.iterdir()))
    assert "questions" not in document
    assert Path(document["sheet"]).is_file()


def test_demo_on_a_folder_without_photographs_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = simat("demo", "--out", tmp_path / "demo", "--photos", tmp_path / "empty")
    assert ran.error == f"no image files here; got {tmp_path / 'empty'}"


def test_demo_ends_by_offering_the_server(capsys: Any, colours: Any) -> None:
    print_shown(Shown(colours, [], "", {}, "simat search"), Path("sheet.png"))
    assert capsys.readouterr().out.splitlines()[-1] == f"In a browser:      simat serve {colours.folder}"
