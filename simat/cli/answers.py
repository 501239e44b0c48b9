"""How the query commands open an index and show an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli.console import console, print_json

if TYPE_CHECKING:
    from simat.engine import Engine
    from simat.generators.options import ModelOptions
    from simat.studios import Studio
    from simat.types import Answer

INDEX_HELP = "Folder made by 'simat index build', or milvus://HOST:PORT/COLLECTION."
IndexArgument = Annotated[Path, typer.Argument(help=INDEX_HELP, show_default=False)]
CountOption = Annotated[int | None, typer.Option("-k", help="How many images.", show_default="10")]
SheetOption = Annotated[Path | None, typer.Option(help="Write a contact sheet (PNG or JPEG).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
RootOption = Annotated[Path | None, typer.Option(help="Where the photos are now, if they moved.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or torch.")]
GpusOption = Annotated[str, typer.Option(help="GPUs that hold the index: all, or 0,1.", show_default="none")]
WhereOption = Annotated[
    str | None, typer.Option(help="Only images for which this is true: \"width >= 640 and caption like '%beach%'\".")
]
SelfOption = Annotated[bool, typer.Option("--include-self", help="Let the query image be among the answers.")]


def open_engine(
    index: Path,
    root: Path | None,
    encoder: str | None,
    device: str,
    gpus: str = "",
    texts: Path | None = None,
    model: ModelOptions | None = None,
) -> Engine:
    """Open an index for one query."""
    from simat.encoders.runtime import RuntimeOptions
    from simat.engine import open_engine as open_index

    options = RuntimeOptions(device=device, gpus=gpus)  # type: ignore[arg-type]
    return open_index(index, encoder, root, options, texts, model)


def image_argument(text: str) -> str | int:
    """An id of the index where the text is a number and no file of that name is there; else a path."""
    return int(text) if text.isascii() and text.isdigit() and not Path(text).exists() else text


def show(
    engine: Engine,
    answer: Answer,
    question: dict[str, Any],
    title: str,
    as_json: bool,
    sheet: Path | None,
    source: str | int | None,
) -> None:
    """Print an answer as a table or as JSON, and draw its contact sheet where one is asked for."""
    if sheet is not None:
        from simat.sheet import contact_sheet, save_sheet

        save_sheet(contact_sheet([(file_of(engine, source), title, answer.results)]), sheet)
    from simat.documents import as_document, shown

    if as_json:
        print_json({**question, **as_document(answer), "sheet": sheet and str(sheet)})
        return
    out = console()
    for rank, result in enumerate(answer, 1):
        out.print(f"{rank:3}  {result.score:6.3f}  {result.id:>8}  {shown(result.path)}", markup=False)
    spent = " · ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in answer.timings.items())
    out.print(f"{len(answer)} of {len(engine):,} images · {spent}", style="dim", markup=False)
    if sheet is not None:
        out.print(f"contact sheet: {sheet}", markup=False)


def file_of(place: Engine | Studio, source: str | int | None) -> Path | None:
    """The file of an image that is named by its path or by its id in an index."""
    if isinstance(source, int):
        import numpy as np

        from simat.engine import Engine

        assert isinstance(place, Engine)
        return place.embeddings.resolve(place.rows(np.array([source]))[0])
    return None if source is None else Path(source)
