"""Sheets of examples: what delta vectors found where they succeed and where they fail (thesis, Figure 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from PIL import Image, ImageDraw, ImageFont

from eval.features import image_files
from eval.methods import METHODS, Setting
from eval.simat_score import SUCCESS, Task
from simat.sheet import CELL, FAINT, FRAME, GAP, INK, LINE, MARGIN, PAPER, fitted, thumbnail

FOUND, DRAWN = 5, 2000  # images per query; queries among which examples are looked for
RIGHT = (46, 125, 50)


@dataclass(frozen=True)
class Example:
    """A query and what was found.

    Attributes:
        source: region of the query image.
        edit: (word, the word to put there).
        found: regions, best first.
        right: which of them show the target.
    """

    source: int
    edit: tuple[str, str]
    found: tuple[int, ...]
    right: tuple[bool, ...]


def examples(
    setting: Setting, task: Task, count: int, success: bool, scale: float = 1.0, method: str = "delta"
) -> list[Example]:
    """Queries drawn at random, by their weights, among those that succeed or fail at n = 1; no image twice."""
    rng = setting.bench.rng()
    order = (
        rng.permutation(len(task)) if len(task) <= 2000 else rng.choice(len(task), 2000, replace=False, p=task.weights)
    )
    drawn = _rows(task, order)
    found = METHODS[method].find(setting, drawn, [scale], min(FOUND, len(setting.images) - 1))[0]
    goals = np.repeat(drawn.goals, found.shape[1])
    right = (setting.bench.oracle.judge(found.ravel(), goals) > SUCCESS).reshape(found.shape)
    chosen: dict[int, Example] = {}
    for number in np.flatnonzero(right[:, 0] == success):
        source = int(drawn.sources[number])
        if source not in chosen and len(chosen) < count:
            shown = tuple(map(bool, right[number]))
            chosen[source] = Example(source, drawn.edits[int(number)], tuple(map(int, found[number])), shown)
    return [*chosen.values()]


def example_sheet(setting: Setting, shown: Sequence[Example], heading: str) -> Image.Image:
    """One row per example: the query image, its edit, and the images found, those that show the target in green."""
    files, down = image_files(setting.bench.corpus), CELL + 3 * LINE + GAP
    width = 2 * MARGIN + (FOUND + 1) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + 2 * LINE + max(1, len(shown)) * down), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), fitted(_drawable(heading), width - 2 * MARGIN, 18), INK, ImageFont.load_default(18))
    for number, example in enumerate(shown):
        top = MARGIN + 2 * LINE + number * down
        words = f"{example.edit[0]} -> {example.edit[1]}"
        cells = [(example.source, words, FRAME), *((r, "", RIGHT if ok else None) for r, ok in _found(example))]
        for place, (region, title, frame) in enumerate(cells):
            left = MARGIN + place * (CELL + GAP) + (GAP if place else 0)
            sheet.paste(thumbnail(setting.bench.corpus.images / files[region]), (left, top))
            if frame:
                draw.rectangle((left - 3, top - 3, left + CELL + 2, top + CELL + 2), outline=frame, width=3)
            caption = setting.bench.captions[setting.bench.shown[region]]
            draw.text((left, top + CELL + 5), fitted(title or f"{place}", CELL, 13), INK, ImageFont.load_default(13))
            draw.text((left, top + CELL + 5 + LINE), fitted(caption, CELL, 11), FAINT, ImageFont.load_default(11))
    return sheet


def _drawable(text: str) -> str:
    """The text in letters that Pillow's own font has."""
    return text.replace("λ", "scale").replace("τ", "tau")


def _found(example: Example) -> list[tuple[int, bool]]:
    return list(zip(example.found, example.right, strict=True))


def _rows(task: Task, rows: Int64[np.ndarray, " n"]) -> Task:
    edits = [task.edits[row] for row in rows.tolist()]
    return Task(task.sources[rows], task.goals[rows], task.weights[rows], task.fields[rows], edits)
