"""``simat search``: images nearest to words, or to an image."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from simat.cli import answers
from simat.cli.answers import CountOption, DeviceOption, IndexArgument, JsonOption, RootOption, SelfOption, SheetOption


def search(
    index: IndexArgument,
    text: Annotated[str | None, typer.Argument(help="Words to search for.")] = None,
    image: Annotated[str | None, typer.Option(help="An image file, or an id of the index.")] = None,
    k: CountOption = None,
    sheet: SheetOption = None,
    json: JsonOption = False,
    root: RootOption = None,
    encoder: Annotated[str | None, typer.Option(help="Encoder spec, if not the index's own.")] = None,
    device: DeviceOption = "auto",
    include_self: SelfOption = False,
) -> None:
    """Find the images nearest to words, or to an image."""
    engine = answers.open_engine(index, root, encoder, device)
    source = None if image is None else answers.image_argument(image)
    answer = engine.search(text, image=source, k=k, include_self=include_self)
    title: str = text if text is not None else f"like {image}"
    question: dict[str, Any] = {"text": text, "image": image}
    answers.show(engine, answer, question, title, json, sheet, source)
