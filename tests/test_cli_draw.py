"""``simat draw`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import here
from PIL import Image
from tiny_diffusion import SIZE, picture

from simat.cli.draw import segment_files
from simat.errors import SimatError
from simat.overlays import layout_picture


@pytest.fixture
def masks(tmp_path: Path) -> dict[str, Path]:
    """White halves: the upper for the dog, the lower for the bicycle."""
    files = {}
    for number, words in enumerate(("dog", "red bicycle")):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[number * SIZE // 2 : (number + 1) * SIZE // 2] = 255
        files[words] = tmp_path / f"{number}.png"
        Image.fromarray(mask).save(files[words])
    return files


def arguments(tiny_folder: Path, masks: dict[str, Path], *more: str | Path) -> list[str]:
    segments = [part for words, file in masks.items() for part in ("--segment", f"{words}={file}")]
    common = ["--model", str(tiny_folder), "--steps", "2", "--device", "cpu", "--dtype", "float32"]
    return ["draw", "a dog on a red bicycle", *segments, *common, *map(str, more)]


def test_draw_writes_a_picture_per_backend_the_layout_and_a_sheet(
    tiny_folder: Path, masks: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    out, sheet = tmp_path / "out", tmp_path / "sheet.png"
    names = "zestguide,pww,multidiffusion"
    options = ["--backend", names, "--seed", "3", "--set", "pww=0.5", "-o", out, "--sheet", sheet, "--json"]
    ran = here(capsys, *arguments(tiny_folder, masks, *options))
    assert ran.code == 0, ran.err
    document = json.loads(ran.out)
    assert [answer["backend"] for answer in document["answers"]] == names.split(",")
    assert document["segments"] == {words: str(file) for words, file in masks.items()}
    assert document["answers"][0]["config"]["pww"] == 0.5 and document["answers"][0]["seed"] == 3
    pictures = {answer["results"][0]["file"] for answer in document["answers"]}
    assert {path.name for path in out.iterdir()} == {*pictures, "layout.png", "answer.json"}
    assert Image.open(out / "zestguide.png").size == (SIZE, SIZE) and Image.open(sheet).width > 3 * SIZE


def test_draw_on_a_photo_keeps_what_lies_outside(
    tiny_folder: Path, masks: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    photo, out = tmp_path / "photo.png", tmp_path / "out"
    picture().save(photo)
    options = ["--image", photo, "--strength", "0", "-o", out]
    ran = here(capsys, *arguments(tiny_folder, {"dog": masks["dog"]}, *options))
    assert ran.code == 0, ran.err
    assert np.array_equal(Image.open(out / "zestguide.png"), picture())
    mask = np.asarray(Image.open(out / "zestguide-mask.png"))
    assert mask[: SIZE // 2].all() and not mask[SIZE // 2 :].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "nowhere to put the pictures"),
        (["--segment", "dog", "-o", "out"], "a segment is WORDS=MASK; got 'dog'"),
        (["--segment", "a=missing.png", "-o", "out"], "missing.png"),
        (["--backend", "pww", "--set", "tau=1", "-o", "out"], "no setting|have no setting"),
        (["--backend", "nothing", "-o", "out"], "no such backend; got 'nothing'"),
        (["--strength", "0.5", "-o", "out"], "ignore the strength without an image"),
    ],
)
def test_draw_refuses_in_one_line(
    tiny_folder: Path,
    masks: dict[str, Path],
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    import re

    monkeypatch.chdir(tmp_path)
    ran = here(capsys, *arguments(tiny_folder, masks, *options))
    assert ran.code == 2 and re.search(message, ran.err) and ran.err.strip().splitlines()[-1].startswith("error: ")
    assert not [*tmp_path.glob("out/*.png")]


def test_segment_files_are_words_and_masks() -> None:
    assert segment_files(["red bicycle = b.png", "dog=a=b.png"]) == {
        "red bicycle": Path("b.png"),
        "dog": Path("a=b.png"),
    }


@pytest.mark.parametrize("text", ["dog", "=a.png", "dog="])
def test_segment_files_need_both(text: str) -> None:
    with pytest.raises(SimatError, match="a segment is WORDS=MASK"):
        segment_files([text])


def test_segment_files_refuse_words_twice() -> None:
    with pytest.raises(SimatError, match="a segment is given twice; got 'dog'"):
        segment_files(["dog=a.png", "dog=b.png"])


def test_layout_picture_gives_every_segment_a_colour() -> None:
    left, right = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    left[:, 0], right[:, 2] = 1, 1
    drawn = np.asarray(layout_picture({"a": left, "b": right}))
    assert len({tuple(drawn[0, column]) for column in range(3)}) == 3
