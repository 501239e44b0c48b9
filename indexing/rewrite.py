"""Rows of finished embedding sets into new parts of an even size, vectors and metadata unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexing.columns import common_schema, conformed
from indexing.known import content_keys
from simat.embeddings import ROW_GROUP, EmbeddingSet, PartReader, join_path, part_options, split_path
from simat.files import atomic, remove_leftovers
from simat.manifest import FileEntry
from simat.progress import Progress
from simat.selection import Selection

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Kept:
    """Rows of an embedding set that go into the new parts.

    Attributes:
        embeddings: the set.
        rows: which of them.
        rename: gives the new path for an old one; None where they stay as they are.
    """

    embeddings: EmbeddingSet
    rows: Selection
    rename: Callable[[str], str] | None = None


def write_parts(kept: Sequence[Kept], folder: Path, part_size: int, progress: Progress) -> list[FileEntry]:
    """Write the rows one after another in parts of ``part_size``; parts that are there already are kept.

    Args:
        kept: of sets of one dimension; their columns need not be the same.
        folder: where ``part-*.parquet`` go.
        part_size: rows per part; the last one may have fewer.
        progress: told of every row.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    schema = common_schema([one.embeddings for one in kept])
    tables = (conformed(table, schema) for one in kept for table in _rows(one))
    progress.start("rewrite", sum(one.rows.count for one in kept), "images")
    entries: list[FileEntry] = []
    first = 0
    for number, table in enumerate(_evened(tables, part_size)):
        path = folder / f"part-{number:06}.parquet"
        if not path.exists():
            write_table(path, first, table)
        entries.append(FileEntry.of(folder, path.name, len(table)))
        first += len(table)
        progress.advance(len(table))
    return entries


def write_table(path: Path, first_id: int, table: pa.Table) -> None:
    """Write a part with the rows of others, whole or not at all; ids run from ``first_id``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = table.column_names.index("id")
    ids = pa.array(np.arange(first_id, first_id + len(table), dtype=np.int64))
    table = table.set_column(place, table.schema.field(place), ids)
    with atomic(path) as temporary:
        pq.write_table(table, temporary, row_group_size=ROW_GROUP, **part_options(table.column_names))


def count_duplicates(parts: PartReader) -> int:
    """How many rows share the bytes of their file with an earlier one."""
    keys = [content_keys(table["sha256"])[1] for table in parts.tables(["sha256"])]
    found = np.concatenate([np.empty(0, np.uint64), *keys])
    return len(found) - len(np.unique(found))


def _rows(kept: Kept) -> Iterator[pa.Table]:
    import pyarrow as pa

    first = 0
    for table in kept.embeddings.tables():
        mask = kept.rows.slice(first, first + len(table)).mask()
        first += len(table)
        rows = table if mask.all() else table.filter(pa.array(mask))
        yield rows if kept.rename is None else _renamed(rows, kept.rename)


def _renamed(table: pa.Table, rename: Callable[[str], str]) -> pa.Table:
    import pyarrow as pa

    old = zip(table["path"].to_pylist(), table["path_bytes"].to_pylist(), strict=True)
    names = [split_path(rename(join_path(shown, raw))) for shown, raw in old]
    columns = {"path": [shown for shown, _ in names], "path_bytes": [raw for _, raw in names]}
    for name, values in columns.items():
        place = table.column_names.index(name)
        field = table.schema.field(place)
        table = table.set_column(place, field, pa.array(values, field.type))
    return table


def _evened(tables: Iterable[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of ``size`` rows."""
    import pyarrow as pa

    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) >= size:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, size)
            waiting = [joined.slice(size)]
    if any(map(len, waiting)):
        yield pa.concat_tables(waiting)
