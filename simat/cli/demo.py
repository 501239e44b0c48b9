"""``simat demo``: photographs in, answers out, in a minute and without a network."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli.answers import as_document
from simat.cli.console import console, print_json
from simat.errors import SimatError

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
# Photographs that come inside packages: scikit-image's test images, scikit-learn's two samples.
PACKAGED = {
    "skimage": (
        "data/astronaut.png", "data/camera.png", "data/chelsea.png", "data/coffee.png", "data/coins.png",
        "data/hubble_deep_field.jpg", "data/motorcycle_left.png", "data/rocket.jpg",
    ),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}  # fmt: skip


def demo(
    photos: Annotated[Path | None, typer.Option(help="Your photos; without, a few that come in a package.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the index and the contact sheet.")] = Path("demo"),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Index photographs, search them in words, edit queries, and draw a contact sheet."""
    out.mkdir(parents=True, exist_ok=True)
    folder = photos if photos is not None else packaged_photos(out / "photos")
    index = out / (f"index-{photos.absolute().name}" if photos is not None else "index")
    run_shown(["index", "build", str(folder), str(index)], quiet=json)
    from simat.engine import open_engine
    from simat.sheet import contact_sheet, save_sheet

    engine = open_engine(index)
    asked = [*searches(engine), *edits(engine)]
    sheet = out / "sheet.png"
    rows = [(source, title, answer.results) for _, title, source, answer in asked]
    save_sheet(contact_sheet(rows, f"{len(engine):,} photographs, searched and edited with words"), sheet)
    if json:
        answers = [{"command": command, **as_document(answer)} for command, _, _, answer in asked]
        print_json({"images": len(engine), "index": str(index), "sheet": str(sheet), "answers": answers})
    else:
        print_asked(asked, index, sheet)


Asked = tuple[str, str, Path | None, "Answer"]  # the command, the words, the query image, the answer


def searches(engine: Engine) -> list[Asked]:
    """The searches of ``WORDS`` that this collection answers best."""
    answers = [(words, engine.search(words, k=min(7, len(engine)))) for words in WORDS]
    answers.sort(key=lambda pair: -pair[1][0].score)
    return [(f'simat search {engine.folder} "{words}"', words, None, answer) for words, answer in answers[:SHOWN]]


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
        asked.append((command, f"{source} -> {target}", image.path, answer))
        used.add(image.id)
    return asked[:SHOWN]


def packaged_photos(folder: Path) -> Path:
    """Copy the photographs that come inside installed packages to ``folder``.

    Raises:
        SimatError: none of the packages is installed.
    """
    folder.mkdir(exist_ok=True)
    for package, names in PACKAGED.items():
        spec = importlib.util.find_spec(package)
        for name in names if spec and spec.origin else ():
            assert spec is not None and spec.origin is not None
            source, target = Path(spec.origin).parent / name, folder / Path(name).name
            if source.is_file() and not target.exists():
                shutil.copyfile(source, target)
    if not any(folder.iterdir()):
        raise SimatError("no photographs to show", remedy="give --photos DIR, or pip install scikit-image")
    return folder


def run_shown(arguments: Sequence[str], quiet: bool) -> None:
    """Run a ``simat`` command as a person would, and show it."""
    if not quiet:
        console().print(f"$ simat {' '.join(arguments)}", style="bold", markup=False)
    command = [sys.executable, "-m", "simat.cli.main", *arguments]
    code = subprocess.run(command, check=False, stdout=subprocess.DEVNULL if quiet else None).returncode
    if code:
        raise SystemExit(code)


def print_asked(asked: Sequence[Asked], index: Path, sheet: Path) -> None:
    """Print every command with the first names of its answer, and what to try next."""
    out = console()
    for command, _, path, answer in asked:
        out.print(f"$ {command}", style="bold", markup=False)
        if path is not None:
            out.print(f"  from {path.name}", style="dim", markup=False)
        names: list[Any] = [f"{r.path.name} {r.score:.2f}" for r in answer.results[:4] if r.path]
        out.print("  " + "   ".join(names), markup=False)
    out.print(f"\nThe contact sheet: {sheet.absolute()}", markup=False)
    out.print(f'Your turn:         simat edit {index} PHOTO "dog -> cat" --sheet answer.png', markup=False)
