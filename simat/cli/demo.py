"""``simat demo``: pictures in, answers out, in a minute and without a network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli.console import console, print_json
from simat.cli.scene_demo import FIELDS, SCENES, Marker, commands
from simat.cli.scene_demo import WORDS as SCENE_WORDS

if TYPE_CHECKING:
    from simat.engine import Engine
    from simat.types import Answer

WORDS = (
    "a pet that barks", "a place to pray", "something to drink", "a vehicle with wheels", "a launch into space",
    "a cat that purrs", "an espresso",
)  # fmt: skip
EDITS = (
    ("dog", "cat"), ("cat", "dog"), ("bird", "fish"), ("car", "boat"), ("chair", "bed"), ("horse", "zebra"),
    ("truck", "train"), ("bottle", "cup"), ("church", "castle"), ("cat", "flower"), ("coffee", "cat"),
    ("motorcycle", "rocket"), ("flower", "temple"),
)  # fmt: skip
SHOWN = 3  # searches and edits each
CLEAR = 0.55  # the score from which a word names what an image shows, in the offline encoder's space
MARKED = 300  # questions that the demonstration's own mark is made from


def demo(
    photos: Annotated[Path | None, typer.Option(help="Your photos; without, a world of drawn scenes.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the index and the contact sheet.")] = Path("demo"),
    images: Annotated[int, typer.Option(min=2200, help="Scenes to draw; two of each triplet at least.")] = SCENES,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Index pictures, search them in words, edit queries, and draw a contact sheet."""
    out.mkdir(parents=True, exist_ok=True)
    shown = of_scenes(out, images, json) if photos is None else of_photos(out, photos, json)
    from simat.sheet import contact_sheet, save_sheet

    sheet = out / "sheet.png"
    rows = [(item.image, item.title, item.answer.results) for item in shown.asked]
    save_sheet(contact_sheet(rows, shown.heading), sheet)
    if json:
        from simat.documents import as_document

        answers = [{"command": item.command, **as_document(item.answer)} for item in shown.asked]
        figures = {"images": len(shown.engine), "index": str(shown.engine.folder), "sheet": str(sheet), **shown.figures}
        print_json({**figures, "answers": answers})
    else:
        print_shown(shown, sheet)


@dataclass(frozen=True)
class Asked:
    """A command, what it asks in words, the query image where there is one, and the answer."""

    command: str
    title: str
    image: Path | None
    answer: Answer


@dataclass(frozen=True)
class Shown:
    """What the demonstration shows, with figures and the command to go on with."""

    engine: Engine
    asked: list[Asked]
    heading: str
    figures: dict[str, Any]
    next: str


def of_scenes(out: Path, images: int, quiet: bool) -> Shown:
    """Render, build the corpus, index, ask; the questions are drawn at random, and every answer is marked."""
    from simat.engine import open_engine

    for arguments in commands(out, images):
        run_shown(arguments, quiet)
    engine, marker = open_engine(out / "index"), Marker(out / "corpus")
    asked = [searched(engine, words) for words in SCENE_WORDS]
    for question in [marker.questions(1, field)[0] for field in FIELDS]:
        answer = engine.edit(question.image, question.edit, k=6)
        right = sum(marker.right(answer.results, question.goal))
        command = f'simat edit {engine.folder} {question.image} "{question.edit}"'
        title = f"{question.edit}   (asked for: {' '.join(question.goal)}; right: {right} of {len(answer)})"
        asked.append(Asked(command, title, question.image, answer))
    questions = marker.questions(MARKED)
    figures = {"questions": len(questions), "first_right": marker.share_right(engine, questions),
               "chance": marker.chance(questions)}  # fmt: skip
    heading = f"{len(engine):,} drawn scenes, searched and edited with words"
    return Shown(engine, asked, heading, figures, f'simat search {engine.folder} "a cat in a boat" --sheet answer.png')


def of_photos(out: Path, photos: Path, quiet: bool) -> Shown:
    """Index photographs and ask what this collection can answer."""
    from simat.engine import open_engine

    index = out / f"index-{photos.absolute().name}"
    run_shown(["index", "build", str(photos), str(index)], quiet)
    engine = open_engine(index)
    heading = f"{len(engine):,} photographs, searched and edited with words"
    going_on = f'simat edit {index} PHOTO "dog -> cat" --sheet answer.png'
    return Shown(engine, [*searches(engine), *edits(engine)], heading, {}, going_on)


def searched(engine: Engine, words: str) -> Asked:
    """A search in words."""
    return Asked(f'simat search {engine.folder} "{words}"', words, None, engine.search(words, k=min(7, len(engine))))


def searches(engine: Engine) -> list[Asked]:
    """The searches of ``WORDS`` that this collection answers best."""
    asked = [searched(engine, words) for words in WORDS]
    return sorted(asked, key=lambda item: -item.answer[0].score)[:SHOWN]


def edits(engine: Engine) -> list[Asked]:
    """The first edits of ``EDITS`` whose source and target this collection clearly shows, each on its best image."""
    asked: list[Asked] = []
    used: set[int | None] = set()
    for source, target in EDITS:
        image, other = engine.search(source, k=1)[0], engine.search(target, k=1)[0]
        if min(image.score, other.score) < CLEAR or image.id == other.id or image.id in used:
            continue
        answer = engine.edit(image.id, f"{source} -> {target}", k=min(6, len(engine)))
        command = f'simat edit {engine.folder} {image.id} "{source} -> {target}"'
        asked.append(Asked(command, f"{source} -> {target}", image.path, answer))
        used.add(image.id)
    return asked[:SHOWN]


def run_shown(arguments: Sequence[str], quiet: bool) -> None:
    """Run a ``simat`` command as a person would, and show it."""
    if not quiet:
        console().print(f"$ simat {' '.join(arguments)}", style="bold", markup=False)
    command = [sys.executable, "-m", "simat.cli.main", *arguments]
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL if quiet else None).returncode
    if code:
        raise SystemExit(code)


def print_shown(shown: Shown, sheet: Path) -> None:
    """Print every command with the first names of its answer, the figures, and what to try next."""
    out = console()
    for item in shown.asked:
        out.print(f"$ {item.command}", style="bold", markup=False)
        if item.image is not None:
            out.print(f"  from {item.image.name}", style="dim", markup=False)
        names = [f"{r.path.name} {r.score:.2f}" for r in item.answer.results[:4] if r.path]
        out.print("  " + "   ".join(names), markup=False)
    if shown.figures:
        questions, right, chance = shown.figures["questions"], shown.figures["first_right"], shown.figures["chance"]
        out.print(
            f"\nOf {questions} edits of this corpus drawn at random, the first answer shows exactly what was asked for "
            f"in {right:.0%}; by chance, {chance:.1%}.",
            markup=False,
        )
    out.print(f"\nThe contact sheet: {sheet.absolute()}", markup=False)
    out.print(f"Your turn:         {shown.next}", markup=False)
    out.print(f"In a browser:      simat serve {shown.engine.folder}", markup=False)
