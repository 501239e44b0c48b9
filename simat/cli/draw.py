"""``simat draw``: a picture from words, each where a mask wants it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simat.cli import pictures
from simat.cli.answers import DeviceOption, JsonOption, SheetOption
from simat.errors import SimatError

if TYPE_CHECKING:
    from PIL.Image import Image

SEGMENT_HELP = "WORDS=MASK: words of the text and an image file, white where they belong; as often as needed."
BACKEND_HELP = "zestguide, pww, multidiffusion, classifier_guidance; several, separated by commas, side by side."


def draw(
    text: Annotated[str, typer.Argument(help='What to draw: "a dog riding a bicycle on a beach".')],
    segment: Annotated[list[str], typer.Option(help=SEGMENT_HELP)],
    backend: Annotated[str, typer.Option(help=BACKEND_HELP)] = "zestguide",
    image: Annotated[Path | None, typer.Option(help="A picture to draw on; outside of the mask it stays.")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Where to draw on it; where the segments are, if not given.")
    ] = None,
    strength: Annotated[float | None, typer.Option(help="How far to go from that picture, in [0, 1].")] = None,
    model: pictures.ModelOption = "scenes",
    steps: pictures.StepsOption = None,
    settings: pictures.SettingOption = None,
    seed: pictures.SeedOption = None,
    samples: pictures.SamplesOption = None,
    out: pictures.OutOption = None,
    sheet: SheetOption = None,
    json: JsonOption = False,
    device: DeviceOption = "auto",
    dtype: pictures.DtypeOption = "auto",
    slicing: pictures.SlicingOption = False,
    offload: pictures.OffloadOption = False,
) -> None:
    """Draw a text with its words where masks want them."""
    if out is None and sheet is None:
        raise SimatError("nowhere to put the pictures", remedy="give a folder with -o, or a file with --sheet")
    files = segment_files(segment)
    layout = {words: pictures.read_mask(file) for words, file in files.items()}
    region = None if mask is None else pictures.read_mask(mask)
    from simat.cli.comparing import answered
    from simat.overlays import layout_picture
    from simat.studios import Studio
    from simat.types import Query

    where = Query(text=text, layout=layout, image=image, mask=region, strength=strength)
    query = replace(where, seed=seed, samples=samples)
    place = Studio(pictures.model_options(model, device, dtype, slicing, offload, ()))
    names = tuple(dict.fromkeys(name.strip() for name in backend.split(",") if name.strip()))
    if out is not None:
        pictures.check_folder(out)
    made = [*answered(place, names, query, pictures.read_settings(settings, steps))]
    source = image
    if out is not None:
        source = out / "layout.png"
        write_picture(layout_picture(layout), source)
    question = {"text": text, "segments": {words: str(file) for words, file in files.items()}}
    told = {"image": image and str(image), "mask": mask and str(mask), "sheet": sheet and str(sheet)}
    pictures.show(made, {**question, **told}, source, out, sheet, json)


def segment_files(texts: list[str]) -> dict[str, Path]:
    """Mask files by words, from ``WORDS=MASK``.

    Raises:
        SimatError: a text without words, ``=`` or a file; words given twice.
    """
    files: dict[str, Path] = {}
    for text in texts:
        words, equals, file = (part.strip() for part in text.partition("="))
        if not (words and equals and file):
            raise SimatError("a segment is WORDS=MASK", got=repr(text), remedy='for example --segment "dog=dog.png"')
        if words in files:
            raise SimatError("a segment is given twice", got=repr(words), remedy="draw both into one mask")
        files[words] = Path(file)
    return files


def write_picture(picture: Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    from simat.files import atomic

    with atomic(path) as temporary:
        picture.save(temporary, "PNG")
