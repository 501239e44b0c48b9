"""What the tests of import and export share: folders as strangers write them, and what an index holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from helpers import unit_noise

from indexing.exchange.importer import Wanted
from indexing.exchange.importing import import_index
from simat.embeddings import EmbeddingSet, embedding_column
from simat.manifest import read_index_manifest
from simat.tombstones import read_removed

DIM = 12


def halves(seed: int, rows: int, dim: int = DIM) -> np.ndarray:
    """Unit rows as clip-retrieval stores them."""
    return unit_noise(seed, rows, dim).astype(np.float16)


def stranger(folder: Path, sizes: tuple[int, ...] = (5, 7), columns: Any = None, dtype: Any = np.float16) -> np.ndarray:
    """A folder in clip-retrieval's layout of files of so many rows; gives their vectors.

    ``columns(first, count)`` makes the metadata of every file, None no metadata at all.
    """
    vectors = halves(0, sum(sizes)).astype(dtype)
    (folder / "img_emb").mkdir(parents=True)
    first = 0
    for number, size in enumerate(sizes):
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", vectors[first : first + size])
        if columns is not None:
            (folder / "metadata").mkdir(exist_ok=True)
            pq.write_table(pa.table(columns(first, size)), folder / "metadata" / f"metadata_{number}.parquet")
        first += size
    return vectors


def laion(first: int, count: int) -> dict[str, Any]:
    """Metadata with the columns of LAION-400M."""
    rows = range(first, first + count)
    return {
        "image_path": [f"{i:09}" for i in rows],
        "caption": [f"picture {i}" if i % 3 else None for i in rows],
        "NSFW": ["UNLIKELY"] * count,
        "similarity": [0.3 + i / 1000 for i in rows],
        "LICENSE": ["?"] * count,
        "url": [f"https://example.com/{i}.jpg" for i in rows],
        "key": [f"{i:09}" for i in rows],
        "width": [256.0 if i % 2 else None for i in rows],
        "height": [200 + i for i in rows],
        "original_width": [512] * count,
        "exif": ["{}"] * count,
    }


def imported(source: Path, out: Path, part_size: int = 4, **wanted: Any) -> EmbeddingSet:
    """Import with small parts; gives the embedding set."""
    from indexing.config import BuildConfig

    import_index(source, out, Wanted(**wanted), BuildConfig("", part_size=part_size))
    return EmbeddingSet(out / "embeddings")


def content(index: Path) -> pa.Table:
    """Every column of an index's rows, ids numbered anew without the removed ones."""
    manifest = read_index_manifest(index)
    embeddings = EmbeddingSet.of_index(index, manifest)
    parts = [pq.read_table(embeddings.folder / entry.name) for entry in embeddings.manifest.parts]
    table = pa.concat_tables(parts)
    if (removed := read_removed(index, manifest)) is not None:
        table = table.filter(pa.array((~removed).mask()))
    return table.set_column(0, table.schema.field(0), pa.array(np.arange(len(table))))


def stored(embeddings: EmbeddingSet) -> np.ndarray:
    """The vectors of a set, bit by bit."""
    return np.concatenate(list(embeddings.blocks(0, len(embeddings))))


def column(embeddings: EmbeddingSet, name: str) -> list[Any]:
    """One column of a set."""
    parts = [pq.read_table(embeddings.folder / entry.name) for entry in embeddings.manifest.parts]
    if name == "embedding":
        return list(np.concatenate([embedding_column(part) for part in parts]))
    return [value for part in parts for value in part[name].to_pylist()]
