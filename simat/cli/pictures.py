"""How commands that make pictures read masks, show progress, and write what they made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli.console import console, print_json, progress
from simat.errors import SimatError

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from simat.generators.options import ModelOptions
    from simat.types import Answer, OnStep, Result, Step

ModelOption = Annotated[str, typer.Option(help="scenes, the folder of a diffusers pipeline, or a hub id.")]
DtypeOption = Annotated[str, typer.Option(help="Of the denoising network: auto, float32, bfloat16 or float16.")]
SlicingOption = Annotated[bool, typer.Option("--slicing", help="Attend in slices: less memory, more time.")]
OffloadOption = Annotated[bool, typer.Option("--offload", help="Keep on the GPU only the network that runs.")]
SettingOption = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE: a setting of the backend.")]
StepsOption = Annotated[int | None, typer.Option(help="How many steps the backend takes.")]
SeedOption = Annotated[int | None, typer.Option(help="Random seed of the first sample.")]
SamplesOption = Annotated[int | None, typer.Option(help="How many pictures to make.")]
OutOption = Annotated[Path | None, typer.Option("-o", "--out", help="Folder for the pictures and answer.json.")]


def model_options(
    model: str, device: str, dtype: str, slicing: bool, offload: bool, networks: tuple[str, ...]
) -> ModelOptions:
    """How the generative model runs; ``torch`` is the CPU without OpenVINO."""
    from simat.generators.options import ModelOptions

    runtime = "torch" if device == "torch" else "auto"
    return ModelOptions(model, "cpu" if device == "torch" else device, dtype, slicing, offload, networks, runtime)


def read_mask(path: Path) -> np.ndarray:
    """A mask from an image file: white is 1, to be edited; [height, width] in [0, 1].

    Raises:
        ImageError: it cannot be read.
    """
    from simat.images import load_image, mask_of

    return mask_of(load_image(path))


def read_settings(texts: Sequence[str] | None, steps: int | None) -> dict[str, str]:
    """Settings by name from ``NAME=VALUE``, and the number of steps where it is given.

    Raises:
        SimatError: a text without a name or ``=``.
    """
    settings: dict[str, str] = {} if steps is None else {"steps": str(steps)}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (equals and name.strip()):
            raise SimatError("a setting is NAME=VALUE", got=repr(text))
        settings[name.strip()] = value.strip()
    return settings


@contextmanager
def steps_shown(backend: str) -> Iterator[OnStep]:
    """Draw the steps of one answer as bars, one per stage."""
    with progress() as shown:
        stage = ""

        def on_step(step: Step) -> None:
            nonlocal stage
            if step.step == 1 or step.stage != stage:
                stage = step.stage
                shown.start(f"{backend} {stage}", step.total, "steps")
            shown.advance(1)

        yield on_step


@dataclass(frozen=True)
class Written:
    """One file to be."""

    name: str
    picture: Image


def check_folder(folder: Path) -> None:
    """Make the folder that pictures go to, before the work begins.

    Raises:
        SimatError: a file stands there.
    """
    if folder.exists() and not folder.is_dir():
        raise SimatError("the output is a folder", got=str(folder))
    folder.mkdir(parents=True, exist_ok=True)


def write_answers(folder: Path, question: Mapping[str, Any], answers: Sequence[Answer]) -> dict[str, Any]:
    """Write the pictures and masks of finished answers, then ``answer.json``, each file whole or not at all.

    Returns:
        What ``answer.json`` holds: the question, and per backend ``results`` (file, caption, or those of retrieval),
        ``masks``, ``timings``, ``seed``, ``config``, ``models``.
    """
    from simat.files import atomic, write_text

    documents = []
    for answer in answers:
        results, masks = _pictures(answer), _masks(answer)
        for written in (*results, *masks):
            with atomic(folder / written.name) as temporary:
                written.picture.save(temporary, "PNG")
        documents.append(_document(answer, [w.name for w in results], [w.name for w in masks]))
    document = {**question, "answers": documents}
    write_text(folder / "answer.json", json.dumps(document, ensure_ascii=False, indent=1, default=str) + "\n")
    return document


def show(
    made: Sequence[Answer],
    question: Mapping[str, Any],
    source: Path | None,
    out: Path | None,
    sheet: Path | None,
    as_json: bool,
) -> None:
    """Write finished answers where they are to go, and tell what was written.

    Args:
        made: one answer per backend.
        question: what was asked, for ``answer.json``.
        source: the picture it was asked of.
        out: folder for the pictures.
        sheet: file for all of them side by side.
        as_json: print the document of ``answer.json`` instead of a table.
    """
    document: dict[str, Any] = {**question, "answers": [_document(answer, (), ()) for answer in made]}
    if out is not None:
        document = write_answers(out, question, made)
    if sheet is not None:
        from simat.sheet import comparison_sheet, save_sheet

        save_sheet(comparison_sheet(source, str(question.get("edits") or question.get("text")), columns(made)), sheet)
    if as_json:
        print_json(document)
        return
    shown = console()
    for answer in made:
        spent = " · ".join(f"{name} {seconds:.2f} s" for name, seconds in answer.timings.items())
        shown.print(f"{answer.backend:<12} {len(answer)} pictures · {spent}", markup=False)
    for place in (out, sheet):
        if place is not None:
            shown.print(str(place), markup=False)


def _document(answer: Answer, files: Sequence[str | None], masks: Sequence[str]) -> dict[str, Any]:
    from simat.documents import as_document

    told = {name: answer.extras[name] for name in ("seed", "config", "models") if name in answer.extras}
    words = {name: answer.extras[name] for name in ("reference", "target") if name in answer.extras}
    if any(result.image is None for result in answer.results):
        return as_document(answer)
    if not files:
        files = [None] * len(answer)
    results = [{"file": file, "caption": result.caption} for file, result in zip(files, answer.results, strict=True)]
    timings = {name: round(seconds, 4) for name, seconds in answer.timings.items()}
    return {"backend": answer.backend, "results": results, "masks": list(masks), **words, "timings": timings, **told}


def _pictures(answer: Answer) -> list[Written]:
    made = [result.image for result in answer.results if result.image is not None]
    return [Written(_name(answer, number, len(made)), image) for number, image in enumerate(made, 1)]


def _masks(answer: Answer) -> list[Written]:
    from simat.overlays import mask_picture

    masks = answer.extras.get("mask")
    if masks is None or not len(answer.results) or answer.results[0].image is None:
        return []
    return [
        Written(_name(answer, number, len(masks), "-mask"), mask_picture(mask, answer.results[0].image.size))
        for number, mask in enumerate(masks, 1)
    ]


def _name(answer: Answer, number: int, of: int, what: str = "") -> str:
    return f"{answer.backend}{what}.png" if of == 1 else f"{answer.backend}-{number}{what}.png"


def columns(answers: Sequence[Answer]) -> dict[str, Sequence[Result]]:
    """What a comparison shows side by side: the results of every backend, before them where it edited."""
    from simat.overlays import edited_places
    from simat.types import Result

    shown: dict[str, Sequence[Result]] = {}
    for answer in answers:
        masked = [Result(0.0, image=place) for place in edited_places(answer)]
        if masked:
            shown[f"{answer.backend}: where"] = masked
        shown[answer.backend] = answer.results
    return shown
