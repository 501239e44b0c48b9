"""``simat edit`` with backends that make pictures: what is written, beside retrieval, wrong questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import colour_plugin, here, plugged_in
from helpers import colour_pictures, save_pictures
from making import made, studio_of
from PIL import Image
from tiny_diffusion import SIZE, loaded, picture

import simat
from indexing.build import build_index
from indexing.config import BuildConfig, Machine
from simat.encoders import load_encoder
from simat.errors import QueryError, SimatError
from simat.generators import model as models
from simat.sheet import CELL, comparison_sheet
from simat.studios import Studio
from simat.types import Query, Result

pytestmark = pytest.mark.usefixtures("one_thread")

FEW = ("--steps", "3", "--set", "noises=1", "--device", "cpu", "--dtype", "float32")


@pytest.fixture(autouse=True)
def model(tiny: Any, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model, loaded once for all tests."""
    monkeypatch.setattr(models, "load", lambda options: tiny)
    return tiny_folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    picture(1).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An index of colour pictures, its encoder registered as a stranger would register it."""
    place = tmp_path_factory.mktemp("query")
    save_pictures(place / "photos", colour_pictures())
    with plugged_in(colour_plugin(place / "site")):
        config = BuildConfig(str(place / "photos"), encoder="colours")
        build_index(place / "index", config, Machine(workers=1), encoder=load_encoder("colours"))
        yield place / "index"


def test_edit_writes_pictures_masks_and_a_document(photo: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "new" / "out"
    asked = ("dog -> cat", "--reference", "a dog on the beach", "--seed", "3", "--samples", "2", "--strength", "0.7")
    document = here(capsys, "edit", photo, *asked, "--model", model, *FEW, "-o", out, "--json").json
    names = {path.name for path in out.iterdir()}
    pictures = {f"diffedit-{n}{what}.png" for n in (1, 2) for what in ("", "-mask")}
    assert names == {"answer.json", *pictures}
    assert json.loads((out / "answer.json").read_text()) == document
    (answer,) = document["answers"]
    assert [result["file"] for result in answer["results"]] == ["diffedit-1.png", "diffedit-2.png"]
    assert answer["masks"] == ["diffedit-1-mask.png", "diffedit-2-mask.png"]
    assert (answer["target"], answer["seed"]) == ("a cat on the beach", 3)
    assert (answer["config"]["steps"], answer["config"]["noises"], answer["config"]["strength"]) == (3, 1, 0.7)
    assert {"unet", "total"} < set(answer["timings"])
    assert Image.open(out / "diffedit-2-mask.png").size == (SIZE, SIZE)


def test_edit_writes_the_pixels_that_python_gives(photo: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    asked = (
        "dog -> cat",
        "--reference",
        "a dog on the beach",
        "--steps",
        "5",
        "--set",
        "noises=2",
        "--set",
        "guidance=3",
    )
    here(capsys, "edit", photo, *asked, "--model", model, "-o", tmp_path / "out")
    expected = made(studio_of(loaded(model)))[0].image
    assert Image.open(tmp_path / "out" / "diffedit.png").tobytes() == expected.tobytes()


def test_a_black_mask_gives_the_photo_back(photo: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    Image.new("L", (SIZE, SIZE), 0).save(tmp_path / "mask.png")
    mask = ("--mask", tmp_path / "mask.png")
    here(capsys, "edit", photo, "dog -> cat", *mask, "--model", model, *FEW, "-o", tmp_path / "out")
    assert Image.open(tmp_path / "out" / "diffedit.png").tobytes() == picture(1).tobytes()


def test_backends_answer_side_by_side(photo: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    sheet = tmp_path / "sheet.png"
    asked = ("dog -> cat", "--backend", "diffedit, sdedit,copy", "--strength", "0.7")
    ran = here(capsys, "edit", photo, *asked, "--model", model, *FEW, "--sheet", sheet, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert [line.split()[0] for line in ran.out.splitlines()[:3]] == ["diffedit", "sdedit", "copy"]
    stages = {record["stage"] for record in ran.progress}
    assert {"diffedit mask", "diffedit invert", "diffedit decode", "sdedit decode"} <= stages
    assert Image.open(sheet).width > 5 * CELL  # the query, where DiffEdit edits, and three answers


def test_an_index_answers_beside_generators(index: Path, model: Path, tmp_path: Path, capsys: Any) -> None:
    asked = (index, "1", "red -> blue", "--backend", "retrieve,encode_decode", "-k", "2", "--strength", "0.5")
    out = ("-o", tmp_path / "out", "--sheet", tmp_path / "sheet.png", "--json")
    document = here(capsys, "edit", *asked, "--model", model, "--steps", "3", *out).json
    found, edited = document["answers"]
    assert [found["backend"], edited["backend"]] == ["retrieve", "encode_decode"]
    assert [Path(result["path"]).is_file() for result in found["results"]] == [True, True]
    assert edited["config"]["strength"] == 0.5
    assert (tmp_path / "out" / "encode_decode.png").is_file()


def test_an_engine_makes_pictures_of_its_images(index: Path, tiny: Any) -> None:
    engine = simat.open(index)
    engine.studio.__dict__["_diffusion"] = tiny
    query = Query(image=2, edits="red -> blue")
    answer = engine.answer(query, "diffedit", settings={"steps": 2, "noises": 1})
    path = engine.embeddings.resolve(engine.embeddings.rows(np.array([2]))[0])
    by_file = engine.answer(Query(image=path, edits="red -> blue"), "diffedit", settings={"steps": 2, "noises": 1})
    assert answer[0].image.tobytes() == by_file[0].image.tobytes()
    with pytest.raises(QueryError, match="'retrieve' takes no settings; got steps"):
        engine.answer(query, settings={"steps": 2})


def test_a_studio_finds_nothing_without_an_index() -> None:
    with pytest.raises(QueryError, match="'retrieve' needs an index"):
        simat.studio().answer(Query(image=picture(1), edits="dog -> cat"), "retrieve")
    with pytest.raises(SimatError, match=r"no such backend.*diffedit.*retrieve"):
        Studio().backend("paint")


def test_a_studio_keeps_its_options_and_loads_nothing_before_it_must() -> None:
    studio = simat.studio("owner/name", device="cpu", slicing=True)
    assert (studio.options.model, studio.options.device, studio.options.slicing) == ("owner/name", "cpu", True)
    assert "_diffusion" not in studio.__dict__


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (["dog -> cat"], "nowhere to put the pictures"),
        (["dog -> dragon", "-o", "out"], "does not know a word; got 'dragon'"),
        (["dog -> cat", "-o", "out", "--set", "noise=3"], "no setting noise; they take batch, clamp, fill, grow"),
        (["dog -> cat", "-o", "out", "--set", "noises"], "a setting is NAME=VALUE; got 'noises'"),
        (["dog -> cat", "-o", "out", "--set", "noises=0"], "'noises' must be at least 1; got 0"),
        (["dog -> cat", "-o", "out", "--steps", "1000"], "between 1 and 999; got 1000"),
        (["dog -> cat", "-o", "out", "--strength", "nan"], "strength must lie in [0, 1]"),
        (["dog -> cat", "-o", "out", "--backend", "retrieve"], "'retrieve' needs an index"),
        (["dog -> cat", "-o", "out", "--backend", "paint"], "no such backend; got 'paint'"),
        (["dog -> cat", "-o", "out", "--scale", "2"], "would all ignore scale; they take edits, image"),
        (["dog -> cat", "-o", "out", "--reference", "a bird"], "'dog' is not in the reference"),
        (["dog -> cat", "-o", "out", "--mask", "nowhere.png"], "cannot read the file"),
        (["dog -> cat", "-o", "out", "--mask", "small.png"], "another size than the picture; got 5 × 3"),
        (["dog -> cat", "-o", "photo.png"], "the output is a folder; got photo.png"),
        (["dog -> cat", "-o", "out", "--root", "x"], "--root belongs to an index"),
        (["dog -> cat", "-o", "out", "--dtype", "int8"], "unknown option of a generative model; got int8"),
        (["dog", "dog", "dog -> cat", "-o", "out"], "simat edit [INDEX] photo.jpg"),
    ],
)
def test_wrong_questions_are_one_line_and_leave_no_file(
    photo: Path, model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, asked: list[str], error: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("L", (5, 3), 255).save("small.png")
    assert error in here(capsys, "edit", photo, *asked, "--model", model).error
    assert not [*(tmp_path / "out").glob("*")]


def test_an_interrupted_edit_leaves_no_file(
    photo: Path, model: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(models.Diffusion, "pictures", interrupted)
    ran = here(capsys, "edit", photo, "dog -> cat", "--model", model, *FEW, "-o", tmp_path / "out")
    assert ran.code == 130
    assert [*(tmp_path / "out").iterdir()] == []


def test_comparison_has_a_column_for_each_and_a_row_per_result(photo: Path) -> None:
    shown = [Result(0.0, image=Image.new("RGB", (8, 8), colour)) for colour in ("red", "lime", "blue")]
    sheet = comparison_sheet(photo, "dog -> cat", {"a": shown[:1], "b": shown[1:]})
    single = comparison_sheet(photo, "dog -> cat", {"a": shown[:1]})
    assert sheet.width - single.width > CELL
    assert sheet.height - single.height > CELL
    pixels = np.asarray(sheet).reshape(-1, 3).tolist()
    assert all(pixels.count([*colour]) >= CELL * CELL for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
