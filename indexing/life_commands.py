"""``simat index add | remove | compact | merge | duplicates``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from simat.cli.console import console, print_json, progress

Index = Annotated[Path, typer.Argument(help="Folder of the index.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Workers = Annotated[int | None, typer.Option(help="Decoder processes.", show_default="one per core")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or torch.")]


def add(
    index: Index,
    more: Annotated[list[str], typer.Argument(help="Folders, tars, Parquet files, hf:DATASET.", show_default=False)],
    workers: Workers = None,
    device: Device = "auto",
    drop: Annotated[bool, typer.Option("--drop", help="Forget an interrupted addition of other images.")] = False,
    json: Json = False,
) -> None:
    """Add images to an index; files that are in it already are left alone. Interrupted, it goes on where it was."""
    from indexing.add import add_images
    from indexing.config import Machine
    from indexing.sources import absolute

    with progress() as bars:
        added = add_images(index, absolute(more), Machine(workers, device), bars, drop=drop)
    facts = {
        **_facts(index, added.manifest),
        "added": added.images,
        "duplicates": added.duplicates,
        "known": added.known,
        "rejected": len(added.rejected),
    }
    if json:
        print_json(facts)
        return
    _say(f"{added.images:,} images added: {facts['images']:,} in {index}")
    if added.duplicates:
        _say(f"{added.duplicates:,} of them are exact copies of others: simat index duplicates {index}")
    if added.rejected:
        _say(f"{len(added.rejected):,} files could not be read: simat index info {index}")


def remove(
    index: Index,
    where: Annotated[str | None, typer.Option(help="An expression: \"width < 64 or caption like '%logo%'\".")] = None,
    ids: Annotated[Path | None, typer.Option(help="A file of ids, one a line.")] = None,
    paths: Annotated[Path | None, typer.Option(help="A file of paths, one a line.")] = None,
    json: Json = False,
) -> None:
    """Remove images at once; what they take on disk is free after 'simat index compact'."""
    from indexing.remove import read_ids, read_paths, remove_images

    removed = remove_images(
        index,
        where=where,
        ids=None if ids is None else read_ids(ids),
        paths=None if paths is None else read_paths(paths),
    )
    facts = {**_facts(index, removed.manifest), "removed": removed.count}
    if json:
        print_json(facts)
    else:
        _say(f"{removed.count:,} images removed: {facts['images']:,} left in {index}")


def compact(
    index: Index,
    retrain: Annotated[bool | None, typer.Option(help="Train the shards anew.", show_default="if they drifted")] = None,
    json: Json = False,
) -> None:
    """Drop what was removed and even out small parts and shards; ids change."""
    from indexing.compact import compact_index

    with progress() as bars:
        compacted = compact_index(index, progress=bars, retrain=retrain)
    facts = {
        **_facts(index, compacted.manifest),
        "reasons": list(compacted.reasons),
        "retrained": list(compacted.retrained),
    }
    if json:
        print_json(facts)
    elif compacted.reasons or compacted.retrained:
        _say(f"{facts['images']:,} images in {facts['shards']} shard(s), {facts['factory']}")
    else:
        _say("nothing to compact")


def merge(
    indexes: Annotated[list[Path], typer.Argument(help="Folders of the indexes.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder of the new index.", show_default=False)],
    json: Json = False,
) -> None:
    """Make one index of several in the same space; ids are given anew."""
    from indexing.commands import built_document, print_built
    from indexing.merge import merge_indexes

    with progress() as bars:
        built = merge_indexes(indexes, out, progress=bars)
    if json:
        print_json(built_document(built))
    else:
        print_built(built)


def duplicates(
    index: Index,
    threshold: Annotated[float, typer.Option(help="Least cosine of near copies; 2 finds exact ones only.")] = 0.95,
    remove: Annotated[bool, typer.Option("--remove", help="Remove all but the largest of each group.")] = False,
    json: Json = False,
) -> None:
    """Find images that are there more than once: the same file, or nearly the same picture."""
    from indexing.duplicates import find_duplicates, remove_duplicates
    from simat.opened import open_index

    with progress() as bars:
        gone = None
        if remove:
            groups, gone = remove_duplicates(index, threshold, bars)
            opened = open_index(index)
        else:
            opened = open_index(index)
            groups = find_duplicates(opened, threshold, bars)
    count = sum(len(group.copies) for group in groups)
    if json:
        shown = [_group(opened, group) for group in groups]
        print_json({"index": str(index), "groups": shown, "copies": count, "removed": gone.count if gone else 0})
        return
    for group in groups:
        _say("\n".join(_lines(_group(opened, group))))
    end = f"removed: {gone.manifest.images:,} images left" if gone else f"simat index duplicates {index} --remove"
    _say(f"{count:,} copies of {len(groups):,} images; {end}" if count else "no duplicates")


def _group(opened: Any, group: Any) -> dict[str, Any]:
    import numpy as np

    from simat.embeddings import split_path

    ids = [group.kept, *(copy.id for copy in group.copies)]
    rows = opened.embeddings.rows(np.array(ids))
    told = [
        {"id": id, "path": split_path(row.path)[0], "width": row.width, "height": row.height}
        for id, row in zip(ids, rows, strict=True)
    ]
    copies = [
        {**about, "kind": copy.kind, "score": round(copy.score, 4)}
        for about, copy in zip(told[1:], group.copies, strict=True)
    ]
    return {"kept": told[0], "copies": copies}


def _lines(group: dict[str, Any]) -> list[str]:
    kept = group["kept"]
    lines = [f"{kept['id']:>9}  {kept['width']}×{kept['height']}  {kept['path']}"]
    for copy in group["copies"]:
        how = "same file" if copy["kind"] == "exact" else f"{copy['score']:.3f}"
        lines.append(f"  = {copy['id']:>9}  {copy['width']}×{copy['height']}  {copy['path']}  ({how})")
    return lines


def _facts(index: Path, manifest: Any) -> dict[str, Any]:
    return {
        "index": str(index),
        "images": manifest.images,
        "generation": manifest.generation,
        "factory": manifest.factory,
        "shards": len(manifest.shards),
    }


def _say(text: str) -> None:
    console().print(text, markup=False)
