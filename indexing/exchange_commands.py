"""``simat index import | export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simat.cli.console import console, print_json, progress


def import_vectors(
    embeddings: Annotated[Path, typer.Argument(help="Folder of vectors, or a Parquet file.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder of the new index.", show_default=False)],
    encoder: Annotated[str | None, typer.Option(help="What made them.", show_default="unknown")] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the pictures; each is read once.")] = None,
    column: Annotated[str, typer.Option(help="Of the vectors in Parquet and Lance files.")] = "embedding",
    modality: Annotated[str, typer.Option(help="image or text: img_emb/ or text_emb/.")] = "image",
    normalise: Annotated[bool, typer.Option("--normalise", help="Give all rows the length 1.")] = False,
    factory: Annotated[str | None, typer.Option(help="A FAISS factory string.", show_default="auto")] = None,
    shard_size: Annotated[int | None, typer.Option(help="Vectors per shard.", show_default="1000000")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory for searching, e.g. 8G.", show_default="4G")] = None,
    build_memory: Annotated[str | None, typer.Option(help="Memory for making shards.", show_default="4G")] = None,
    recall: Annotated[float | None, typer.Option(help="recall@10 to tune for.", show_default="0.95")] = None,
    config: Annotated[Path | None, typer.Option(help="A TOML file of settings; flags go before it.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Index vectors that are ready: of clip-retrieval and LAION (img_emb/, metadata/), Parquet, or Lance."""
    from indexing.commands import built_document, parse_bytes, print_built
    from indexing.config import BuildConfig
    from indexing.exchange.importer import Wanted
    from indexing.exchange.importing import PART_ROWS, import_index

    flags = {
        "photos": str(embeddings.absolute()),
        "factory": factory,
        "shard_size": shard_size,
        "memory": parse_bytes(memory) if memory else None,
        "build_memory": parse_bytes(build_memory) if build_memory else None,
        "target_recall": recall,
    }
    defaults = {"part_size": PART_ROWS} if config is None else {}
    settings = BuildConfig.read(config, {**defaults, **flags})
    with progress() as bars:
        wanted = Wanted(encoder, root, column, modality, normalise)
        built = import_index(embeddings, out, wanted, settings, progress=bars)
    if json:
        print_json(built_document(built))
    else:
        print_built(built)


def export_vectors(
    index: Annotated[Path, typer.Argument(help="Folder of the index.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="New folder.", show_default=False)],
    layout: Annotated[str, typer.Option(help="clip-retrieval, parquet or lance.")] = "clip-retrieval",
    rows_per_file: Annotated[int, typer.Option(help="Vectors per file.")] = 1_000_000,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Write the vectors and metadata of an index for other programs; removed images stay behind."""
    from indexing.exchange.exporting import export_index

    with progress() as bars:
        done = export_index(index, out, layout, rows_per_file, bars)
    if json:
        print_json({"folder": str(out), "layout": done.layout, "images": done.rows, "removed": done.removed})
    else:
        left = f"; {done.removed:,} removed ones stayed behind" if done.removed else ""
        console().print(f"{done.rows:,} images in {out} · {done.layout}{left}", markup=False)
