"""Contact sheets: what is on them, and that nothing on disk can spoil them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import COLOURS, plain
from PIL import Image

from simat.errors import SimatError
from simat.sheet import BLANK, CELL, FRAME, GAP, LINE, MARGIN, PAPER, PER_ROW, contact_sheet, save_sheet, thumbnail
from simat.types import Result

FIRST_ROW = MARGIN + LINE + GAP // 2
MIDDLE = CELL // 2


@pytest.fixture
def results(tmp_path: Path) -> list[Result]:
    found = []
    for rank, colour in enumerate(COLOURS):
        path = tmp_path / f"{colour}.png"
        plain(colour, (40, 90)).save(path)
        found.append(Result(0.9 - rank / 10, rank, path))
    return found


def colour_at(sheet: Image.Image, column: int, row: int = 0, query: bool = False) -> tuple[int, ...]:
    left = MARGIN + column * (CELL + GAP) + (GAP if query and column else 0)
    top = FIRST_ROW + row * (CELL + 3 * LINE + 2 * GAP)
    return sheet.getpixel((left + MIDDLE, top + MIDDLE))


def test_sheet_shows_the_results_in_their_order(results: list[Result]) -> None:
    sheet = contact_sheet([(None, "colours", results)])
    assert [colour_at(sheet, column) for column in range(6)] == [*COLOURS.values()]


def test_sheet_shows_the_query_first_in_a_frame(results: list[Result], tmp_path: Path) -> None:
    sheet = contact_sheet([(tmp_path / "blue.png", "blue -> red", results)])
    shown = [colour_at(sheet, column, query=True) for column in range(1 + len(results))]
    assert shown == [COLOURS["blue"], *COLOURS.values()]
    assert sheet.getpixel((MARGIN - 2, FIRST_ROW + MIDDLE)) == FRAME


def test_sheet_has_one_row_per_query(results: list[Result]) -> None:
    sheet = contact_sheet([(None, "one", results[:2]), (None, "two", results[2:4])])
    assert [colour_at(sheet, 0, 1), colour_at(sheet, 1, 1)] == [COLOURS["blue"], COLOURS["yellow"]]
    assert colour_at(sheet, 2, 1) == PAPER


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_sheet_grows_with_its_rows_and_heading(results: list[Result], rows: int) -> None:
    sheets = [contact_sheet([(None, "x", results)] * rows, heading) for heading in (None, "a heading")]
    assert sheets[1].height - sheets[0].height == 2 * LINE
    assert sheets[0].width == 2 * MARGIN + (PER_ROW + 1) * (CELL + GAP) + GAP
    assert sheets[0].height == 2 * MARGIN + max(1, rows) * (CELL + 3 * LINE + 2 * GAP)


def test_sheet_draws_no_more_than_fits(results: list[Result]) -> None:
    many = results * 3
    assert np.array_equal(contact_sheet([(None, "x", many)]), contact_sheet([(None, "x", many[: PER_ROW + 1])]))


def test_sheet_shows_made_pictures(results: list[Result]) -> None:
    made = Result(1.0, image=plain("green"))
    assert colour_at(contact_sheet([(None, "x", [made])]), 0) == COLOURS["green"]


def test_sheet_outlives_files_that_are_gone_or_broken(results: list[Result], tmp_path: Path) -> None:
    (tmp_path / "red.png").unlink()
    (tmp_path / "green.png").write_bytes(b"not any more")
    sheet = contact_sheet([(tmp_path / "red.png", "x", results)])
    blank = contact_sheet([(None, "x", [Result(0.5)])]).getpixel((MARGIN + 3, FIRST_ROW + 3))
    for column, expected in ((0, blank), (1, blank), (2, blank), (3, COLOURS["blue"])):
        left = MARGIN + column * (CELL + GAP) + (GAP if column else 0)
        assert sheet.getpixel((left + CELL // 2, FIRST_ROW + CELL // 2 + 12)) == expected


@pytest.mark.parametrize("words", ["", "dog -> cat\n\x00", "λ = 1 → 名前", "very long " * 60, "\ud800", "x" * 900])
def test_sheet_takes_any_words(results: list[Result], words: str) -> None:
    plain_sheet, sheet = contact_sheet([(None, "", results)]), contact_sheet([(None, words, results)])
    assert sheet.size == plain_sheet.size
    below = slice(FIRST_ROW, None)
    assert np.array_equal(np.asarray(sheet)[below], np.asarray(plain_sheet)[below])
    assert np.array_equal(np.asarray(sheet)[:, -MARGIN:], np.asarray(plain_sheet)[:, -MARGIN:])


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".jpeg", ".webp"])
def test_save_sheet_writes_the_format_of_the_suffix(results: list[Result], tmp_path: Path, suffix: str) -> None:
    sheet = contact_sheet([(None, "x", results)])
    save_sheet(sheet, tmp_path / f"sheet{suffix}")
    with Image.open(tmp_path / f"sheet{suffix}") as written:
        assert written.size == sheet.size
        assert np.abs(np.asarray(written).astype(int) - np.asarray(sheet)).mean() < 3


@pytest.mark.parametrize("name", ["sheet", "sheet.txt", "sheet.pdf", "sheet.gif"])
def test_save_sheet_refuses_other_formats(tmp_path: Path, name: str) -> None:
    with pytest.raises(SimatError, match=f"a sheet is a .png, .jpg or .webp file; got {name}"):
        save_sheet(plain("red"), tmp_path / name)
    assert not (tmp_path / name).exists()


def test_save_sheet_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SimatError, match=r"no such folder; got .*nowhere"):
        save_sheet(plain("red"), tmp_path / "nowhere" / "sheet.png")


def test_thumbnail_shows_the_whole_picture() -> None:
    strip = Image.new("RGB", (300, 100), (0, 0, 255))
    strip.paste((255, 0, 0), (0, 0, 30, 100))
    small = thumbnail(strip)
    assert small.size == (CELL, CELL)
    assert small.getpixel((2, CELL // 2)) == (255, 0, 0)
    assert small.getpixel((CELL - 3, CELL // 2)) == (0, 0, 255)
    assert small.getpixel((CELL // 2, 5)) == small.getpixel((CELL // 2, CELL - 5)) == BLANK
