"""``simat search``: images nearest to words, to an image, or to both."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from simat.cli import answers
from simat.cli.answers import (
    CountOption,
    DeviceOption,
    GpusOption,
    IndexArgument,
    JsonOption,
    RootOption,
    SelfOption,
    SheetOption,
    WhereOption,
)

COMPOSER_HELP = "How words and an image are searched for together: weighted, slerp, product or basic."


def search(
    index: IndexArgument,
    text: Annotated[str | None, typer.Argument(help="Words to search for.")] = None,
    image: Annotated[str | None, typer.Option(help="An image file, or an id of the index.")] = None,
    k: CountOption = None,
    composer: Annotated[str | None, typer.Option(help=COMPOSER_HELP)] = None,
    scale: Annotated[float, typer.Option(help="How much the words weigh then; 0: the image alone.")] = 1.0,
    where: WhereOption = None,
    sheet: SheetOption = None,
    json: JsonOption = False,
    root: RootOption = None,
    encoder: Annotated[str | None, typer.Option(help="Encoder spec, if not the index's own.")] = None,
    device: DeviceOption = "auto",
    gpus: GpusOption = "",
    include_self: SelfOption = False,
) -> None:
    """Find the images nearest to words, to an image, or to both."""
    engine = answers.open_engine(index, root, encoder, device, gpus)
    source = None if image is None else answers.image_argument(image)
    answer = engine.search(
        text, image=source, k=k, include_self=include_self, composer=composer, scale=scale, where=where
    )
    title: str = text if text is not None else f"like {image}"
    question: dict[str, Any] = {"text": text, "image": image}
    if composer is not None:
        question.update(composer=composer, scale=scale)
    if where is not None:
        question.update(where=where)
    answers.show(engine, answer, question, title, json, sheet, source)
