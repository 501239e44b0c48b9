"""``simat encoders``: what is installed, dimensions, licences, sizes, what runs without a network."""

from __future__ import annotations

from typing import Annotated

import typer

from simat.cli.console import console, print_json

_READS = {"both": "images and texts", "images": "images only", "texts": "texts only"}


def encoders(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Every model and tag that open_clip knows (slow).")] = False,
) -> None:
    """List the encoders that can be used."""
    from rich.markup import escape

    from simat.encoders.catalogue import catalogue, open_clip_tags

    entries = catalogue()
    tags = open_clip_tags() if all else []
    if json:
        print_json({"encoders": [entry.as_dict() for entry in entries], "open_clip": tags})
        return
    out = console()
    for entry in entries:
        out.print(f"[bold]{escape(entry.spec)}[/bold]  {entry.state}", highlight=False)
        size = f"{entry.megabytes:,} MB" if entry.megabytes else ""
        facts = (_READS.get(entry.reads, ""), f"{entry.dim}-d" if entry.dim else "", size, entry.licence)
        out.print(
            "    " + ", ".join(fact for fact in (*facts, entry.description) if fact), markup=False, highlight=False
        )
    for tag in tags:
        out.print(tag, markup=False)
