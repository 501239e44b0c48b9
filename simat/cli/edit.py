"""``simat edit``: images like this one, but with something changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simat.cli import answers
from simat.cli.answers import CountOption, DeviceOption, IndexArgument, JsonOption, RootOption, SelfOption, SheetOption

COMPOSER_HELP = (
    "How the query is made: delta, sentence_delta, image_text_image, edited_caption, text, image, weighted, slerp, "
    "product, pdv or basic."
)
TEXTS_HELP = "Captions, and sentences with a slot {}, one a line, for the composers that need some."


def edit(
    index: IndexArgument,
    image: Annotated[str, typer.Argument(help="An image file, or an id of the index.")],
    edits: Annotated[str, typer.Argument(help='What to change: "dog -> cat", "+ snow", "- person".')],
    scale: Annotated[float, typer.Option(help="λ: how far to go along the delta vector.")] = 1.0,
    k: CountOption = None,
    composer: Annotated[str, typer.Option(help=COMPOSER_HELP)] = "delta",
    texts: Annotated[Path | None, typer.Option(help=TEXTS_HELP)] = None,
    sheet: SheetOption = None,
    json: JsonOption = False,
    root: RootOption = None,
    encoder: Annotated[str | None, typer.Option(help="Encoder spec, if not the index's own.")] = None,
    device: DeviceOption = "auto",
    include_self: SelfOption = False,
) -> None:
    """Find images like this one, but with the edits applied."""
    engine = answers.open_engine(index, root, encoder, device, texts)
    source = answers.image_argument(image)
    answer = engine.edit(source, edits, scale=scale, k=k, composer=composer, include_self=include_self)
    question = {"image": image, "edits": edits, "scale": scale, "composer": composer}
    answers.show(engine, answer, question, edits.strip(), json, sheet, source)
