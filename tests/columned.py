"""Embedding sets with any columns, made for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from building import vector_set

from simat.embeddings import ROW_GROUP, EmbeddingSet
from simat.manifest import EmbeddingManifest, FileEntry, write_manifest


def table_set(
    folder: Path,
    columns: Mapping[str, Sequence[Any]],
    part_size: int = 1000,
    vectors: np.ndarray | None = None,
    absent: Mapping[int, Sequence[str]] | None = None,
) -> EmbeddingSet:
    """An embedding set with the given values in its columns, and further columns where it has none of the name.

    Args:
        folder: where it goes.
        columns: values by column.
        part_size: rows per part.
        vectors: of the rows; unit vectors along the axes where None.
        absent: by part, the columns that it has not.
    """
    rows = len(next(iter(columns.values())))
    if vectors is None:
        vectors = np.eye(4, dtype=np.float32)[np.arange(rows) % 4]
    made = vector_set(folder, vectors, part_size)
    entries = []
    for number, entry in enumerate(made.manifest.parts):
        path, first = folder / entry.name, number * part_size
        table = pq.read_table(path)
        for name in columns:
            if name in (absent or {}).get(number, ()):
                continue
            values = columns[name][first : first + entry.rows]
            known = table.schema.field(name) if name in table.column_names else None
            column = pa.array(values, known and known.type)
            if known is None:
                table = table.append_column(name, column)
            else:
                table = table.set_column(table.column_names.index(name), known, column)
        pq.write_table(table, path, row_group_size=ROW_GROUP)
        entries.append(FileEntry.of(folder, entry.name, entry.rows))
    manifest = made.manifest
    write_manifest(folder, EmbeddingManifest(manifest.space, manifest.root, tuple(entries), manifest.rows))
    return EmbeddingSet(folder)
