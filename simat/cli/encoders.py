"""``simat encoders``: what is installed, dimensions, licences, sizes, what runs without a network."""

from __future__ import annotations

from typing import Annotated

import typer

from simat.cli.console import console, print_json


def encoders(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    all: Annotated[bool, typer.Option("--all", help="Every model and tag that open_clip knows (slow).")] = False,
) -> None:
    """List the encoders that can be used."""
    from simat.encoders.catalogue import catalogue, open_clip_tags

    entries = catalogue()
    tags = open_clip_tags() if all else []
    if json:
        print_json({"encoders": [entry.as_dict() for entry in entries], "open_clip": tags})
        return
    from rich.table import Column, Table

    table = Table(
        Column("encoder", overflow="fold"), "dim", "weights", "licence", "here", "what", box=None, pad_edge=False
    )
    for entry in entries:
        size = f"{entry.megabytes:,} MB" if entry.megabytes else ""
        table.add_row(entry.spec, str(entry.dim or ""), size, entry.licence, entry.state, entry.description)
    out = console()
    out.print(table)
    for tag in tags:
        out.print(tag, markup=False)
