"""Sheets of examples: the input, where it was changed, and what each setting made of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.editing.cases import EditCase, LayoutCase, Mask
from eval.editing.summary import Measured
from eval.metrics.masks import dilated, resized
from simat.sheet import CELL, FAINT, GAP, INK, LINE, MARGIN, PAPER, fitted, thumbnail

ROWS = 10
TRUE, FOUND = (34, 136, 51), (226, 92, 58)
TINTS = ((226, 92, 58), (52, 104, 205), (34, 136, 51), (140, 74, 168), (222, 166, 84))


def example_sheet(heading: str, shown: Sequence[Measured], numbers: Sequence[int]) -> Image.Image:
    """One row per case: the input with its true mask or segments outlined, then every setting's answer.

    The mask that a backend found is outlined in its answer.

    Args:
        shown: settings measured on the same cases.
        numbers: which cases.
    """
    chosen, height = list(numbers)[:ROWS], CELL + 3 * LINE + GAP
    sheet = Image.new(
        "RGB",
        (2 * MARGIN + (len(shown) + 1) * (CELL + GAP), MARGIN * 2 + 2 * LINE + max(1, len(chosen)) * height),
        PAPER,
    )
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), fitted(heading, sheet.width - 2 * MARGIN, 18), INK, _font(18))
    for row, number in enumerate(chosen):
        top = MARGIN + 2 * LINE + row * height
        case = shown[0].cases[number]
        draw.text((MARGIN, top), fitted(case.title, sheet.width - 2 * MARGIN, 14), INK, _font(14))
        cells = [(_given(case), "input")]
        cells += [(_answer(one, number), one.setting.label) for one in shown if number < len(one.made)]
        for column, (picture, words) in enumerate(cells):
            left = MARGIN + column * (CELL + GAP)
            sheet.paste(thumbnail(picture), (left, top + LINE + 4))
            draw.text((left, top + LINE + CELL + 8), fitted(words, CELL, 11), FAINT, _font(11))
    return sheet


def successes(measured: Measured, column: str = "success") -> tuple[list[int], list[int]]:
    """Numbers of the cases that a setting solved, and of those that it did not."""
    values = measured.values.get(column, np.empty(0))
    return [int(n) for n in np.flatnonzero(values == 1)], [int(n) for n in np.flatnonzero(values == 0)]


def _given(case: object) -> Image.Image | None:
    if isinstance(case, EditCase):
        picture = case.picture().convert("RGB")
        return picture if case.mask is None else outlined(picture, case.mask, TRUE)
    if isinstance(case, LayoutCase):
        shape = next(iter(case.segments.values())).shape
        plain = np.full((*shape, 3), 232, np.uint8)
        for number, mask in enumerate(case.segments.values()):
            plain[mask] = TINTS[number % len(TINTS)]
        return Image.fromarray(plain)
    return None


def _answer(one: Measured, number: int) -> Image.Image | None:
    made = one.made[number]
    if made.picture is None or made.mask is None or made.mask.all():
        return made.picture
    return outlined(made.picture, made.mask, FOUND)


def outlined(picture: Image.Image, mask: Mask, colour: tuple[int, int, int]) -> Image.Image:
    """A picture with the border of a mask drawn into it."""
    pixels = np.array(picture.convert("RGB"))
    full = resized(mask, (picture.height, picture.width))
    pixels[dilated(full, 1) & ~full] = colour
    return Image.fromarray(pixels)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
