"""``simat data coco``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli.console import console, print_json, progress
from simat.errors import SimatError

if TYPE_CHECKING:
    from data.coco import Split


def coco(
    captions: Annotated[Path, typer.Argument(help="A captions file of COCO, or a folder of them.", show_default=False)],
    images: Annotated[Path, typer.Argument(help="Folder of the images; they stay there.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder of the new corpus.", show_default=False)],
    split: Annotated[
        str | None, typer.Option(help="karpathy or official.", show_default="karpathy where his file is given")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Make a corpus of captioned images from COCO."""
    from data.coco_corpus import build_captions

    with progress() as bars:
        counts = build_captions(captions, images, out, _split(split), bars)
    if json:
        print_json({"corpus": str(out), **counts})
    else:
        _print(out, counts)


def _split(name: str | None) -> Split | None:
    known: dict[str | None, Split | None] = {None: None, "karpathy": "karpathy", "official": "official"}
    if name not in known:
        raise SimatError("--split is karpathy or official", got=repr(name))
    return known[name]


def _print(out: Path, counts: dict[str, Any]) -> None:
    splits = ", ".join(f"{name} {count:,}" for name, count in counts["splits"].items())
    lines = [f"{counts['images']:,} images with {counts['captions']:,} captions in {out} · {splits}"]
    notes = {name: count for name, count in counts.items() if name not in {"images", "captions", "splits"} and count}
    lines += [f"{name.replace('_', ' ')}: {count:,}" for name, count in notes.items()]
    if counts["images_missing"] or counts["images_unreadable"]:
        lines.append("the images that were left out are listed in left_out.parquet")
    for line in lines:
        console().print(line, markup=False)
