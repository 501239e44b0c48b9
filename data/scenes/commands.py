"""``simat data scenes``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simat.cli.console import console, print_json, progress


def scenes(
    out: Annotated[Path, typer.Argument(help="Folder of the new corpus.", show_default=False)],
    images: Annotated[int, typer.Option(help="How many pictures.")] = 20_000,
    size: Annotated[int, typer.Option(help="Their edge in pixels, 64 to 512.")] = 128,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="one per core")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Render the picture-book world, with ground truth, in Visual Genome's and COCO's formats."""
    from data.scenes.build import SceneOptions, build_scenes

    options = SceneOptions(images, size, seed)
    with progress() as bars:
        counts = build_scenes(out, options, workers, bars)
    if json:
        print_json({"corpus": str(out), **counts})
    else:
        console().print(f"{counts['images']:,} scenes of {counts['triplets']:,} triplets in {out}", markup=False)
