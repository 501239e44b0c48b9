"""What ``simat index info`` and ``verify`` tell."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from simat.embeddings import EmbeddingSet, split_path
from simat.errors import StorageError
from simat.heads import load_heads
from simat.manifest import HEADS, FileEntry, IndexManifest, of_one_generation
from simat.progress import Progress, Silent
from simat.searcher import open_shards
from simat.tombstones import read_removed
from simat.types import EmbeddingSpace
from simat.where.columns import Columns


def describe(folder: Path) -> dict[str, Any]:
    """Facts of an index, under stable names.

    Raises:
        StorageError: no index, half built, damaged, or of a newer format.
    """
    return of_one_generation(folder, lambda manifest: _described(folder, manifest))


def _described(folder: Path, manifest: IndexManifest) -> dict[str, Any]:
    embeddings = EmbeddingSet.of_index(folder, manifest)
    for entry in _own_files(manifest):
        entry.check_size(folder)
    rejected = embeddings.rejected()
    reasons = Counter(item.reason.split(";")[0] for item in rejected)
    return {
        "index": str(folder),
        "images": manifest.images,
        "removed": manifest.rows - manifest.images,
        "generation": manifest.generation,
        "duplicates": embeddings.manifest.duplicates,
        "root": split_path(str(embeddings.root))[0],
        "encoder": manifest.space.encoder,
        "fingerprint": manifest.space.fingerprint,
        "dim": manifest.space.dim,
        "factory": manifest.factory,
        "shards": len(manifest.shards),
        "parts": len(embeddings.manifest.parts),
        "bytes": sum(entry.bytes for entry in (*_own_files(manifest), *embeddings.files())),
        "search": dict(manifest.search),
        "recall": dict(manifest.recall),
        "rejected": len(rejected),
        "reasons": dict(reasons.most_common()),
        "rejected_files": [{"path": split_path(item.path)[0], "reason": item.reason} for item in rejected],
    }


def columns_of(folder: Path) -> dict[str, str]:
    """The columns of the metadata that a filter may name, with the types of their values.

    Raises:
        StorageError: no index, half built, damaged, or of a newer format.
    """
    types = of_one_generation(folder, lambda manifest: Columns(EmbeddingSet.of_index(folder, manifest)).types)
    return {name: str(kind) for name, kind in types.items()}


def verify_index(folder: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Hash every file, open every shard, and count every row.

    Raises:
        StorageError: the first thing that is not as the manifests say.
    """
    return of_one_generation(folder, lambda manifest: _verified(folder, manifest, progress or Silent()))


def _verified(folder: Path, manifest: IndexManifest, progress: Progress) -> dict[str, Any]:
    embeddings = EmbeddingSet.of_index(folder, manifest)
    manifest.space.require(embeddings.manifest.space)
    files = [(folder, entry) for entry in _own_files(manifest)] + [
        (embeddings.folder, entry) for entry in embeddings.files()
    ]
    size = sum(entry.bytes for _, entry in files)
    progress.start("verify", size, "bytes")
    for where, entry in files:
        entry.check(where)
        progress.advance(entry.bytes)
    if manifest.space.heads is not None and (folder / HEADS).exists():
        _check_heads(folder, manifest.space)
    rows = sum(shard.ntotal for shard in open_shards(folder, manifest))
    if rows != manifest.rows:
        raise _of_another("shards", rows, manifest.rows)
    read_removed(folder, manifest)
    _check_ids(embeddings, manifest.rows)
    return {"index": str(folder), "files": len(files), "bytes": size, "rows": manifest.images, "whole": True}


def _own_files(manifest: IndexManifest) -> list[FileEntry]:
    """The files beside the manifest of an index."""
    return [*manifest.shards, *([manifest.removed] if manifest.removed else [])]


def _check_heads(folder: Path, space: EmbeddingSpace) -> None:
    found = load_heads(folder / HEADS).fingerprint
    if found != space.heads:
        raise StorageError(f"{HEADS} is of another index", got=found[:12], remedy="build the index again")


def _check_ids(embeddings: EmbeddingSet, rows: int) -> None:
    import numpy as np
    import pyarrow.parquet as pq

    first = 0
    for entry in embeddings.manifest.parts:
        ids = pq.read_table(embeddings.folder / entry.name, columns=["id"])["id"].to_numpy()
        if not np.array_equal(ids, np.arange(first, first + entry.rows)):
            raise StorageError(f"the ids of {entry.name} do not run on", got=_run(ids), remedy="build the index again")
        first += entry.rows
    if first != rows:
        raise _of_another("vectors", first, rows)


def _of_another(what: str, got: int, rows: int) -> StorageError:
    return StorageError(f"the {what} are of another index", got=f"{got} for {rows}", remedy="build the index again")


def _run(ids: Any) -> str:
    return f"{ids[0]}..{ids[-1]}" if len(ids) else "none"
