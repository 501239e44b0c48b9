"""``simat index push``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simat.cli.console import console, print_json, progress

ADDRESS_HELP = "milvus://HOST:PORT/COLLECTION or milvus:FILE.db/COLLECTION."
PARAMETERS_HELP = "Parameters as NAME=NUMBER"


def push(
    index: Annotated[Path, typer.Argument(help="Folder of the index.", show_default=False)],
    address: Annotated[str, typer.Argument(help=ADDRESS_HELP, show_default=False)],
    kind: Annotated[str, typer.Option("--index-type", help="Of Milvus: FLAT, HNSW, IVF_FLAT, …")] = "auto",
    build: Annotated[list[str] | None, typer.Option(help=f"{PARAMETERS_HELP} for building it.")] = None,
    search: Annotated[list[str] | None, typer.Option(help=f"{PARAMETERS_HELP} for searching it.")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Drop the index that the collection holds.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Copy an index into Milvus. Run it again after any interruption: it goes on where it was.

    What opens it then is the address: simat search milvus://HOST:PORT/COLLECTION "a beach". Where the server wants a
    password, SIMAT_MILVUS_TOKEN holds user:password.
    """
    from simat.milvus.address import Address
    from simat.milvus.push import push_index

    target = Address.parse(address)
    with progress() as bars:
        done = push_index(index, target, kind, numbers(build or []), numbers(search or []), replace, bars)
    if json:
        facts = {"collection": str(target), "images": done.rows, "kept": done.kept}
        print_json({**facts, "cut_texts": done.cut.texts, "unknown_numbers": done.cut.numbers})
        return
    out = console()
    out.print(f"{done.rows:,} images in {target}", markup=False)
    if done.cut.texts:
        out.print(f"{done.cut.texts:,} texts were longer than Milvus takes: cut", markup=False)
    if done.cut.numbers:
        out.print(f"{done.cut.numbers:,} numbers were not finite: unknown there", markup=False)


def numbers(words: list[str]) -> dict[str, Any]:
    """``["M=16", "ef=64"]`` as a mapping.

    Raises:
        BuildError: anything else.
    """
    from simat.errors import BuildError

    found: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        try:
            found[name] = int(value) if value.lstrip("-").isdigit() else float(value)
        except ValueError as error:
            raise BuildError("not a parameter", got=repr(word), remedy="write for example M=16") from error
        if not name or not sign:
            raise BuildError("not a parameter", got=repr(word), remedy="write for example M=16")
    return found
