"""Contact sheets: the query, the words, and what came back, on one picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from simat.errors import ImageError, SimatError
from simat.files import atomic
from simat.images import decode, read_bytes
from simat.types import Result

CELL, GAP, LINE, MARGIN = 168, 12, 20, 24
PAPER, INK, FAINT, FRAME = (250, 249, 246), (28, 28, 30), (120, 120, 124), (226, 92, 58)
BLANK = (232, 230, 226)
PER_ROW = 6

Row = tuple[Path | None, str, Sequence[Result]]


def contact_sheet(rows: Sequence[Row], heading: str | None = None) -> Image.Image:
    """Draw one row per query: its image where it has one, its words, and its results with their scores.

    Args:
        rows: (query image or None, words, results).
        heading: a line above everything.
    """
    top = MARGIN + (2 * LINE if heading else 0)
    height = CELL + 2 * LINE + GAP
    width = 2 * MARGIN + (PER_ROW + 1) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, top + max(1, len(rows)) * (height + LINE + GAP) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    if heading:
        draw.text((MARGIN, MARGIN), heading, INK, _font(20))
    for number, (query, words, results) in enumerate(rows):
        _draw_row(sheet, draw, top + number * (height + LINE + GAP), query, words, results)
    return sheet


def comparison_sheet(query: Path | None, words: str, columns: Mapping[str, Sequence[Result]]) -> Image.Image:
    """Draw what several backends answer, side by side: the query's image, then a column for each, one row per result.

    Args:
        query: the image that was asked about.
        words: what was asked, above everything.
        columns: results by the name of who gave them; the tallest column gives the number of rows.
    """
    rows = max([1, *(len(results) for results in columns.values())])
    height = CELL + 2 * LINE + GAP
    width = 2 * MARGIN + (len(columns) + 1) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, MARGIN + 2 * LINE + rows * height + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), fitted(words, width - 2 * MARGIN, 20), INK, _font(20))
    top = MARGIN + 2 * LINE
    _draw_cell(sheet, draw, MARGIN, top, query, "query", query.stem if query else "")
    for number, (name, results) in enumerate(columns.items(), 1):
        left = MARGIN + GAP + number * (CELL + GAP)
        for row, result in enumerate(results):
            source, caption = result.image or result.path, result.caption or (result.path.stem if result.path else "")
            _draw_cell(sheet, draw, left, top + row * height, source, name, caption)
    return sheet


def grid_sheet(cells: Sequence[tuple[Image.Image, str]], columns: int) -> Image.Image:
    """Draw pictures row by row, each with its words below it.

    Args:
        cells: (picture, words); words are wrapped to two lines.
        columns: pictures per row.
    """
    rows, height = -(-len(cells) // columns), CELL + 2 * LINE + GAP
    size = 2 * MARGIN + min(len(cells), columns) * (CELL + GAP) - GAP, 2 * MARGIN + rows * height
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, (picture, words) in enumerate(cells):
        row, column = divmod(number, columns)
        left, top = MARGIN + column * (CELL + GAP), MARGIN + row * height
        sheet.paste(thumbnail(picture), (left, top))
        for n, line in enumerate(textwrap.wrap(words, 28)[:3]):
            draw.text((left, top + CELL + 3 + 13 * n), fitted(line, CELL, 11), FAINT, _font(11))
    return sheet


def save_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet, whole or not at all.

    Raises:
        SimatError: the suffix is no image format, or the folder is missing.
    """
    format_name = Image.registered_extensions().get(path.suffix.lower())
    if format_name not in {"PNG", "JPEG", "WEBP"}:
        raise SimatError("a sheet is a .png, .jpg or .webp file", got=path.name)
    if not path.parent.is_dir():
        raise SimatError("no such folder", got=str(path.parent))
    with atomic(path) as temporary:
        sheet.save(temporary, format_name)


def _draw_row(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int, query: Path | None, words: str, results: Sequence[Result]
) -> None:
    left = MARGIN
    draw.text((left, top), fitted(words, sheet.width - 2 * MARGIN, 17), INK, _font(17))
    top += LINE + GAP // 2
    if query is not None:
        _draw_cell(sheet, draw, left, top, query, "query", query.stem)
        draw.rectangle((left - 3, top - 3, left + CELL + 2, top + CELL + 2), outline=FRAME, width=3)
        left += CELL + 2 * GAP
    for result in results[: PER_ROW if query is not None else PER_ROW + 1]:
        name = result.path.stem if result.path else ""
        _draw_cell(sheet, draw, left, top, result.image or result.path, f"{result.score:.3f}", name)
        left += CELL + GAP


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    left: int,
    top: int,
    source: Image.Image | Path | None,
    first: str,
    second: str,
) -> None:
    sheet.paste(thumbnail(source), (left, top))
    draw.text((left, top + CELL + 4), first, INK, _font(14))
    draw.text((left, top + CELL + 4 + LINE), fitted(second, CELL, 12), FAINT, _font(12))


def thumbnail(source: Image.Image | Path | None) -> Image.Image:
    """A picture whole in a square of ``CELL`` pixels; a blank one where there is none."""
    try:
        picture = decode(read_bytes(source), CELL) if isinstance(source, Path) else source
    except ImageError:  # moved or deleted since the build: the sheet says so instead of failing
        picture = None
    if picture is None:
        blank = Image.new("RGB", (CELL, CELL), BLANK)
        ImageDraw.Draw(blank).text((CELL // 2, CELL // 2), "no file", FAINT, _font(14), anchor="mm")
        return blank
    # Whole: what an edit changes may stand at the very edge of a crop.
    return ImageOps.pad(picture.convert("RGB"), (CELL, CELL), Image.Resampling.LANCZOS, BLANK)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def fitted(text: str, width: int, size: int) -> str:
    """The text, shortened to ``width`` pixels in the sheet's font of ``size``, without what cannot be shown."""
    font = _font(size)
    text = "".join(c if c.isprintable() else "?" for c in text[: width // 2])
    while text and font.getlength(text) > width:
        text = text[:-2].rstrip("…") + "…" if len(text) > 2 else ""
    return text
