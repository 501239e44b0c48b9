"""``simat index build | project | info | verify``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from indexing.exchange_commands import export_vectors, import_vectors
from indexing.life_commands import add, compact, duplicates, merge, remove
from indexing.push_commands import push
from indexing.tune_commands import tune
from simat.cli.console import console, print_json, progress
from simat.files import human

if TYPE_CHECKING:
    from indexing.build import Built

app = typer.Typer(
    help="Build and look after indexes.", add_completion=False, rich_markup_mode=None, no_args_is_help=True
)
IndexArgument = Annotated[Path, typer.Argument(help="Folder of the index.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
app.command("import")(import_vectors)
app.command("export")(export_vectors)
for command in (add, remove, compact, merge, duplicates, tune, push):
    app.command()(command)


@app.command()
def build(
    photos: Annotated[list[str], typer.Argument(help="Folders, tars, Parquet files, hf:DATASET.", show_default=False)],
    index: IndexArgument,
    encoder: Annotated[str | None, typer.Option(help="See 'simat encoders'.", show_default="offline")] = None,
    heads: Annotated[Path | None, typer.Option(help="Adapter heads after the encoder: a folder.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoder processes.", show_default="one per core")] = None,
    shard_size: Annotated[int | None, typer.Option(help="Vectors per shard.", show_default="1000000")] = None,
    factory: Annotated[str | None, typer.Option(help="A FAISS factory string.", show_default="auto")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory for searching, e.g. 8G.", show_default="4G")] = None,
    build_memory: Annotated[str | None, typer.Option(help="Memory for making shards.", show_default="4G")] = None,
    recall: Annotated[float | None, typer.Option(help="recall@10 to tune for.", show_default="0.95")] = None,
    precision: Annotated[str | None, typer.Option(help="f32 or bf16.", show_default="f32")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or torch.")] = "auto",
    engine: Annotated[str, typer.Option(help="Who embeds: local, or ray for the machines of a cluster.")] = "local",
    address: Annotated[str | None, typer.Option(help="Of the Ray cluster: HOST:PORT, or auto.")] = None,
    gpus: Annotated[str, typer.Option(help="GPUs that help FAISS: all, or 0,1.", show_default="none")] = "",
    image_column: Annotated[str | None, typer.Option(help="Of a table of images.", show_default="found")] = None,
    caption_column: Annotated[str | None, typer.Option(help="Of a table.", show_default="caption or text")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings; flags go before it.")] = None,
    json: JsonOption = False,
) -> None:
    """Index images. Run it again after any interruption: it goes on where it was.

    A folder is read with all below it; tars (WebDataset, {00000..00012}.tar), Parquet and Arrow files and data sets of
    Hugging Face (hf:FOLDER of save_to_disk, hf:NAME:SPLIT) are read where they are, without unpacking. Captions and
    columns come along: .txt and .json beside an image, the other columns of a table.
    """
    from indexing.build import build_index
    from indexing.config import BuildConfig, Machine
    from indexing.sources import absolute

    flags = {
        "photos": absolute(photos),
        "encoder": encoder,
        "heads": str(heads.absolute()) if heads else None,
        "precision": precision,
        "shard_size": shard_size,
        "factory": factory,
        "memory": parse_bytes(memory) if memory else None,
        "build_memory": parse_bytes(build_memory) if build_memory else None,
        "target_recall": recall,
        "image_column": image_column,
        "caption_column": caption_column,
    }
    settings = BuildConfig.read(config, flags)
    with progress() as bars:
        built = build_index(index, settings, Machine(workers, device, None, engine, address, gpus), bars)
    if json:
        print_json(built_document(built))
    else:
        print_built(built)


@app.command()
def project(
    index: IndexArgument,
    heads: Annotated[Path, typer.Argument(help="Folder of the heads.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder of the new index.", show_default=False)],
    json: JsonOption = False,
) -> None:
    """Put heads after a finished index without encoding an image again."""
    from indexing.project import project_index

    with progress() as bars:
        built = project_index(index, heads, out, progress=bars)
    if json:
        print_json(built_document(built))
    else:
        print_built(built)


@app.command()
def info(
    index: IndexArgument,
    rejected: Annotated[bool, typer.Option("--rejected", help="List every file that could not be read.")] = False,
    columns: Annotated[bool, typer.Option("--columns", help="List what a filter (--where) may name.")] = False,
    json: JsonOption = False,
) -> None:
    """Show what an index holds, how well it finds, and which files it could not read."""
    from indexing.inspect import columns_of, describe

    facts = describe(index) | ({"columns": columns_of(index)} if columns else {})
    if json:
        print_json(facts)
        return
    out = console()
    for name, value in facts.items():
        if name != "rejected_files":
            out.print(f"{name.replace('_', ' '):<14} {_shown(value)}", markup=False)
    files = facts["rejected_files"]
    for item in files if rejected else files[:10]:
        out.print(f"  {item['path']!r}: {item['reason']}", markup=False)
    if len(files) > 10 and not rejected:
        out.print(f"  … and {len(files) - 10} more: simat index info {index} --rejected", markup=False)


@app.command()
def verify(index: IndexArgument, json: JsonOption = False) -> None:
    """Read every byte of an index and check it against its manifest."""
    from indexing.inspect import verify_index

    with progress() as bars:
        facts = verify_index(index, bars)
    if json:
        print_json(facts)
    else:
        console().print(f"all {facts['files']} files are whole: {facts['rows']:,} images, {human(facts['bytes'])}")


def parse_bytes(text: str) -> int:
    """``8G``, ``512M`` or a number of bytes.

    Raises:
        BuildError: anything else.
    """
    from simat.errors import BuildError

    units = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in units else (text, "")
    try:
        return int(float(number) * units.get(unit, 1))
    except (ValueError, OverflowError) as error:
        raise BuildError("not a number of bytes", got=repr(text), remedy="write for example 8G or 512M") from error


def built_document(built: Built) -> dict[str, Any]:
    """The stable JSON form of a finished build."""
    manifest = built.manifest
    return {
        "index": str(built.folder),
        "images": manifest.rows,
        "duplicates": built.duplicates,
        "rejected": len(built.rejected),
        "encoder": manifest.space.encoder,
        "dim": manifest.space.dim,
        "factory": manifest.factory,
        "shards": len(manifest.shards),
        "search": dict(manifest.search),
        "recall": dict(manifest.recall),
    }


def print_built(built: Built) -> None:
    """A finished build in a few lines, for people."""
    facts = built_document(built)
    out = console()
    out.print(
        f"{facts['images']:,} images in {facts['index']} · {facts['encoder']}, {facts['dim']}-d · {facts['factory']}"
        f" in {facts['shards']} shard(s) · recall@10 {facts['recall']['recall@10']:.3f}",
        markup=False,
    )
    if facts["duplicates"]:
        out.print(f"{facts['duplicates']:,} files are exact copies of others: embedded once", markup=False)
    if facts["rejected"]:
        out.print(f"{facts['rejected']:,} files could not be read: simat index info {facts['index']}", markup=False)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items()) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
