"""``simat train-scenes``: make the small models of the scene world again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from simat.cli.console import console, print_json, progress

app = typer.Typer(
    help="Train the small models of the scene world.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)
OutOption = Annotated[Path, typer.Option(help="Folder of the models and their checkpoints.")]
SmokeOption = Annotated[bool, typer.Option("--smoke", help="Seconds instead of minutes: the layout, not the quality.")]
StepsOption = Annotated[int | None, typer.Option(help="Steps in all.", show_default="the shipped model's")]
SeedOption = Annotated[int, typer.Option(help="The same seed draws the same scenes.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def train_scenes() -> None:
    """Train the small models of the scene world."""


@app.command()
def dual(
    out: OutOption = Path("scene-models"),
    smoke: SmokeOption = False,
    steps: StepsOption = None,
    seed: SeedOption = 0,
    json: JsonOption = False,
) -> None:
    """Train the dual encoder. Run it again after any interruption: it goes on from its last checkpoint."""
    from finetune.scenes.card import describe
    from finetune.scenes.dual import DualOptions, train_dual

    options = DualOptions.smoke(seed) if smoke else DualOptions(seed=seed)
    options = options if steps is None else replace(options, steps=steps)
    with progress() as bars:
        run = train_dual(out, options, bars)
        facts = describe(run, options, gallery=80 if smoke else 400)
    if json:
        print_json(facts)
    else:
        console().print(f"{run.folder}: R@1 {facts['whole']['found']:.3f} after {run.step} steps", markup=False)
