"""A contact sheet of a corpus: a random sample of its images with what it says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from jaxtyping import Int64
from PIL import Image, ImageDraw, ImageFont

from data.corpus import Corpus, CorpusError
from simat.sheet import CELL, FAINT, GAP, INK, LINE, MARGIN, PAPER, fitted, thumbnail

if TYPE_CHECKING:
    import pyarrow as pa

IMAGE_COLUMNS = ("image", "file", "path", "file_name")
PAIRS = 3  # image and example, side by side, in one row of the sheet
TEXT_COLUMNS = ("captions", "caption", "text", "query", "label")


@dataclass(frozen=True)
class Card:
    """One image of a sheet.

    Attributes:
        image: the image that is shown.
        words: what the corpus says about it: its caption, or the query.
        caption: of the image, where the words are a query.
        example: an image of what the query asks for, with its caption; None where there is no query.
    """

    image: Path
    words: str
    caption: str = ""
    example: tuple[Path, str] | None = None


def sample_cards(corpus: Corpus, count: int, rng: np.random.Generator) -> list[Card]:
    """A random sample of what a corpus shows, the same for the same seed.

    A SIMAT corpus gives queries with an image of the target triplet where one is there; another gives images with their
    captions.

    Raises:
        CorpusError: no image in the corpus.
    """
    tables = {Path(entry.name).stem for entry in corpus.manifest.tables}
    cards = _queries(corpus, count, rng) if {"queries", "regions", "triplets"} <= tables else []
    cards = cards or _images(corpus, count, rng)
    if not cards:
        raise CorpusError("the corpus has no images to show", got=str(corpus.folder))
    return cards


def draw_sheet(corpus: Corpus, cards: Sequence[Card]) -> Image.Image:
    """The sheet of some cards: each an image, an example of its target beside it, and its words below."""
    columns = PAIRS if any(card.example for card in cards) else 2 * PAIRS
    across, down = CELL + GAP, CELL + 2 * LINE + 2 * GAP
    if columns == PAIRS:
        across = 2 * across + 2 * GAP  # what belongs together stands together
    rows = -(-len(cards) // columns)
    sheet = Image.new("RGB", (2 * MARGIN + columns * across, 2 * MARGIN + 2 * LINE + rows * down), PAPER)
    draw = ImageDraw.Draw(sheet)
    heading = f"{corpus.folder.name}: {', '.join(_figures(corpus))}"
    draw.text((MARGIN, MARGIN), fitted(heading, sheet.width - 2 * MARGIN, 18), INK, ImageFont.load_default(18))
    for number, card in enumerate(cards):
        left, top = MARGIN + number % columns * across, MARGIN + 2 * LINE + number // columns * down
        _draw_card(sheet, draw, card, (left, top), across - GAP)
    return sheet


def _draw_card(sheet: Image.Image, draw: ImageDraw.ImageDraw, card: Card, corner: tuple[int, int], width: int) -> None:
    left, top = corner
    draw.text((left, top + CELL + 4), fitted(card.words, width, 13), INK, ImageFont.load_default(13))
    cells = [(card.image, card.caption), *([card.example] if card.example else [])]
    for number, (path, caption) in enumerate(cells):
        x = left + number * (CELL + GAP)
        sheet.paste(thumbnail(path), (x, top))
        draw.text((x, top + CELL + 4 + LINE), fitted(caption, CELL, 11), FAINT, ImageFont.load_default(11))


def _figures(corpus: Corpus) -> list[str]:
    shown = [(name, n) for name, n in corpus.manifest.counts.items() if isinstance(n, int) and " " not in name]
    return [f"{n:,} {name}" for name, n in shown[:5]]


def _queries(corpus: Corpus, count: int, rng: np.random.Generator) -> list[Card]:
    import pyarrow.compute as pc

    regions, queries = corpus.table("regions"), corpus.table("queries")
    captions = corpus.table("triplets")["caption"].to_pylist()
    shown = regions.filter(pc.is_valid(regions["image"])).select(["region_id", "caption_id", "image"]).to_pylist()
    files = {row["region_id"]: row["image"] for row in shown}
    examples: dict[int, list[Mapping[str, Any]]] = {}
    for row in shown:
        examples.setdefault(row["caption_id"], []).append(row)
    usable = queries.filter(pc.is_in(queries["region_id"], regions["region_id"].filter(pc.is_valid(regions["image"]))))
    cards = []
    for query in usable.take(_sample(len(usable), count, rng)).to_pylist():
        pool = examples.get(query["target_ids"], [])
        example = pool[int(rng.integers(len(pool)))] if pool else None
        found = example and (corpus.images / example["image"], captions[query["target_ids"]])
        image, words = corpus.images / files[query["region_id"]], f"{query['value']} -> {query['target']}"
        cards.append(Card(image, words, captions[query["query_ids"]], found or None))
    return cards


def _images(corpus: Corpus, count: int, rng: np.random.Generator) -> list[Card]:
    tables = [corpus.table(Path(entry.name).stem) for entry in corpus.manifest.tables]
    for table in tables:
        image = _first(IMAGE_COLUMNS, table)
        if image is None or "reason" in table.column_names:  # a list of what was left out
            continue
        shown = table.filter(table[image].is_valid())
        rows = shown.take(_sample(len(shown), count, rng)).to_pylist()
        if rows:
            return [Card(corpus.images / row[image], _words(row, image, tables)) for row in rows]
    return []


def _words(row: Mapping[str, Any], image: str, tables: Sequence[pa.Table]) -> str:
    """The text beside an image in its own table, or the first for its ``image_id`` in another."""
    import pyarrow.compute as pc

    found = next((row[name] for name in TEXT_COLUMNS if row.get(name)), None)
    for table in tables:
        text = _first(TEXT_COLUMNS, table)
        if found is None and text is not None and "image_id" in table.column_names and "image_id" in row:
            mine = table.filter(pc.equal(table["image_id"], row["image_id"]))
            found = next(iter(mine[text].to_pylist()), None)
    return _text(row[image] if found is None else found)


def _first(names: Sequence[str], table: pa.Table) -> str | None:
    return next((name for name in names if name in table.column_names), None)


def _text(value: Any) -> str:
    return " · ".join(map(str, value)) if isinstance(value, list) else str(value)


def _sample(total: int, count: int, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    return np.sort(rng.choice(total, min(total, count), replace=False))


def show(
    corpus: Annotated[Path, typer.Argument(help="Folder of the corpus.", show_default=False)],
    sheet: Annotated[Path, typer.Option(help="Where the sheet goes: PNG, JPEG or WebP.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100, help="How many images or queries.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Draw a contact sheet of a corpus: images with their captions or queries."""
    from simat.cli.console import console, print_json
    from simat.sheet import save_sheet

    opened = Corpus(corpus)
    cards = sample_cards(opened, count, np.random.default_rng(seed))
    save_sheet(draw_sheet(opened, cards), sheet)
    if json:
        print_json({"corpus": str(corpus), "sheet": str(sheet), "shown": len(cards)})
    else:
        console().print(f"contact sheet: {sheet}", markup=False)
