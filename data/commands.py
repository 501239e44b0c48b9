"""``simat data``: make, import and look at corpora."""

from __future__ import annotations

import typer

from data.coco_command import coco
from data.scenes.commands import scenes
from data.show import show
from data.simat.commands import app as simat_app

app = typer.Typer(
    help="Make, import and look at corpora.", add_completion=False, rich_markup_mode=None, no_args_is_help=True
)


@app.callback()
def data() -> None:
    """Make, import and look at corpora."""


app.command()(coco)
app.command()(scenes)
app.command()(show)
app.add_typer(simat_app, name="simat")
