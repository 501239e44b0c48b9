"""``simat edit``: pictures like this one, but with something changed; found in an index, or made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli import answers, pictures
from simat.cli.answers import (
    CountOption,
    DeviceOption,
    GpusOption,
    JsonOption,
    RootOption,
    SelfOption,
    SheetOption,
    WhereOption,
)
from simat.errors import SimatError

if TYPE_CHECKING:
    from simat.engine import Engine
    from simat.generators.options import ModelOptions
    from simat.studios import Studio

COMPOSER_HELP = (
    "How the query is made: delta, sentence_delta, image_text_image, edited_caption, text, image, weighted, slerp, "
    "product, pdv or basic."
)
TEXTS_HELP = "Captions, and sentences with a slot {}, one a line, for the composers that need some."
ASKED_HELP = 'An index where there is one, an image file (or an id), and what to change: "dog -> cat", "+ snow".'
BACKEND_HELP = "retrieve, diffedit, flexit, sdedit, …; several, separated by commas, side by side."
NETWORKS_HELP = "open_clip networks, separated by commas, for the backends that use some."


def edit(
    asked: Annotated[list[str], typer.Argument(metavar="[INDEX] IMAGE EDITS", help=ASKED_HELP, show_default=False)],
    backend: Annotated[str | None, typer.Option(help=BACKEND_HELP, show_default="retrieve, or diffedit")] = None,
    scale: Annotated[float, typer.Option(help="λ: how far to go along the delta vector.")] = 1.0,
    k: CountOption = None,
    composer: Annotated[str, typer.Option(help=COMPOSER_HELP)] = "delta",
    where: WhereOption = None,
    texts: Annotated[Path | None, typer.Option(help=TEXTS_HELP)] = None,
    model: pictures.ModelOption = "scenes",
    strength: Annotated[float | None, typer.Option(help="How far to go from the picture, in [0, 1].")] = None,
    reference: Annotated[str | None, typer.Option(help="What the picture shows, in words.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Where to edit: an image file, white = edit.")] = None,
    steps: pictures.StepsOption = None,
    settings: pictures.SettingOption = None,
    seed: pictures.SeedOption = None,
    samples: pictures.SamplesOption = None,
    out: pictures.OutOption = None,
    sheet: SheetOption = None,
    json: JsonOption = False,
    root: RootOption = None,
    encoder: Annotated[str | None, typer.Option(help="Encoder spec, if not the index's own.")] = None,
    device: DeviceOption = "auto",
    gpus: GpusOption = "",
    dtype: pictures.DtypeOption = "auto",
    networks: Annotated[str | None, typer.Option(help=NETWORKS_HELP)] = None,
    slicing: pictures.SlicingOption = False,
    offload: pictures.OffloadOption = False,
    include_self: SelfOption = False,
) -> None:
    """Find images like this one, but with the edits applied; or make them."""
    index, image, edits = _asked(asked)
    names = _split(backend or ("diffedit" if index is None else "retrieve"))
    options = pictures.model_options(model, device, dtype, slicing, offload, _split(networks or ""))
    place = _place(index, root, encoder, device, gpus, texts, options, names)
    from simat.types import Query

    source = image if index is None else answers.image_argument(image)
    region = None if mask is None else pictures.read_mask(mask)
    query = Query(image=source, edits=edits, reference=reference, mask=region, seed=seed, samples=samples, where=where)
    query = replace(query, scale=scale, k=k, composer=composer, include_self=include_self, strength=strength)
    found = names == ("retrieve",)
    if out is None and sheet is None and not found:
        raise SimatError("nowhere to put the pictures", remedy="give a folder with -o, or a file with --sheet")
    if out is not None:
        pictures.check_folder(out)
    from simat.cli.comparing import answered

    made = [*answered(place, names, query, pictures.read_settings(settings, steps))]
    question = {"image": image, "edits": edits, "scale": scale, "composer": composer}
    if where is not None:
        question.update(where=where)
    if found and out is None:
        answers.show(place, made[0], question, edits.strip(), json, sheet, source)  # type: ignore[arg-type]
    else:
        told = {"strength": strength, "reference": reference, "mask": mask and str(mask), "sheet": sheet and str(sheet)}
        pictures.show(made, {**question, **told}, answers.file_of(place, source), out, sheet, json)


def _asked(words: list[str]) -> tuple[Path | None, str, str]:
    if len(words) not in {2, 3}:
        got = f"{len(words)} arguments"
        raise SimatError("what to edit is not clear", got=got, remedy='write simat edit [INDEX] photo.jpg "dog -> cat"')
    return (Path(words[0]) if len(words) == 3 else None), words[-2], words[-1]


def _split(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _place(
    index: Path | None,
    root: Path | None,
    encoder: str | None,
    device: str,
    gpus: str,
    texts: Path | None,
    options: ModelOptions,
    names: tuple[str, ...],
) -> Studio | Engine:
    if index is not None:
        return answers.open_engine(index, root, encoder, device, gpus, texts, options)
    given: dict[str, Any] = {"--root": root, "--encoder": encoder, "--texts": texts, "--gpus": gpus or None}
    surplus = [name for name, value in given.items() if value is not None]
    if surplus:
        raise SimatError(f"{', '.join(surplus)} belongs to an index", remedy="name the index before the image")
    from simat.studios import Studio

    studio = Studio(options)
    for name in names:
        studio.backend(name)  # one that needs an index says so before anything is read
    return studio
