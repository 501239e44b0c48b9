"""``simat heads import | info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simat.cli.console import console, print_json

if TYPE_CHECKING:
    from simat.heads import Heads

app = typer.Typer(help="Import and look at heads.", add_completion=False, rich_markup_mode=None, no_args_is_help=True)
HeadsArgument = Annotated[Path, typer.Argument(help="Folder of the heads.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def heads() -> None:
    """Import and look at heads."""


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="Released heads, e.g. head_clip_t=0.1.pt.", show_default=False)],
    heads: HeadsArgument,
    tau: Annotated[float | None, typer.Option(help="Temperature.", show_default="from the file's name")] = None,
    encoder: Annotated[str | None, typer.Option(help="The encoder they follow.", show_default="CLIP ViT-B/32")] = None,
    norm: Annotated[
        float,
        typer.Option(
            help="Length of the vectors they were trained on. The biases are divided by it: encoders give unit vectors "
            "here, CLIP's own are about 10 long. 1 leaves the biases as released."
        ),
    ] = 10.0,
    json: JsonOption = False,
) -> None:
    """Convert released heads; nothing that their pickle says is run."""
    from finetune.importing import ENCODER, import_heads

    imported = import_heads(file, heads, tau, encoder or ENCODER, norm)
    _show(described(heads, imported), json)


@app.command()
def info(heads: HeadsArgument, json: JsonOption = False) -> None:
    """Show what heads map, at which temperature they were trained, and how well they find."""
    from simat.heads import load_heads

    _show(described(heads, load_heads(heads)), json)


def described(folder: Path, heads: Heads) -> dict[str, Any]:
    """The stable JSON form of heads."""
    return {
        "heads": str(folder),
        "kind": heads.kind,
        "tau": heads.tau,
        "dim": heads.dim,
        "image_space": str(heads.image_space),
        "text_space": str(heads.text_space),
        "image_layers": [list(layer.weight.shape) for layer in heads.image.layers],
        "text_layers": [list(layer.weight.shape) for layer in heads.text.layers],
        "fingerprint": heads.fingerprint,
        "details": dict(heads.details),
    }


def _show(facts: dict[str, Any], json: bool) -> None:
    if json:
        print_json(facts)
        return
    out = console()
    for name, value in facts.items():
        if name != "details":
            out.print(f"{name.replace('_', ' '):<12} {value}", markup=False)
    for name, value in facts["details"].items():
        if name != "curve":
            out.print(f"{name:<12} {value}", markup=False)
    if facts["details"].get("curve"):
        out.print(f"{'last epoch':<12} {facts['details']['curve'][-1]}", markup=False)
