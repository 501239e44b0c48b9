"""The rows of an index that are not removed, in order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from simat.embeddings import ROW_GROUP, EmbeddingSet
from simat.selection import Selection

if TYPE_CHECKING:
    import pyarrow as pa

GROUPS = 32  # row groups read at once: 8,192 rows


class RowStream:
    """Reads an embedding set without its removed rows, which do not count.

    Args:
        embeddings: the set.
        removed: rows to leave out.
    """

    def __init__(self, embeddings: EmbeddingSet, removed: Selection | None) -> None:
        self.embeddings, self.dim = embeddings, embeddings.manifest.space.dim
        self._parts = embeddings.manifest.parts
        self._keep = None if removed is None else ~removed
        self._firsts = [0, *accumulate(entry.rows for entry in self._parts)]
        kept = [self._kept(a, b) for a, b in pairwise(self._firsts)]
        self._before = [0, *accumulate(kept)]  # rows that are not removed, before every part
        self.schema: pa.Schema = self._schema()

    def __len__(self) -> int:
        return self._before[-1]

    def read(self, start: int, stop: int) -> Iterator[pa.Table]:
        """Rows [start, stop) of those that are not removed, in tables of some thousands with all columns."""
        for number, entry in enumerate(self._parts):
            if self._before[number] < stop and self._before[number + 1] > start:
                place = self._before[number]
                for table in self._part(entry.name, self._firsts[number]):
                    low, high = max(start - place, 0), min(stop - place, len(table))
                    place += len(table)
                    if low < high:
                        yield table.slice(low, high - low)

    def _part(self, name: str, first: int) -> Iterator[pa.Table]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.embeddings.folder / name) as file:
            for group in range(0, file.metadata.num_row_groups, GROUPS):
                groups = [*range(group, min(group + GROUPS, file.metadata.num_row_groups))]
                table: pa.Table = file.read_row_groups(groups)
                begin = first + group * ROW_GROUP
                if self._keep is not None:
                    table = table.filter(pa.array(self._keep.slice(begin, begin + len(table)).mask()))
                yield _widened(table, self.schema)

    def _kept(self, start: int, stop: int) -> int:
        return stop - start if self._keep is None else self._keep.slice(start, stop).count

    def _schema(self) -> pa.Schema:
        """All columns that any part has: later ones may bring some that the first had not."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schemas = [pq.read_schema(self.embeddings.folder / entry.name).remove_metadata() for entry in self._parts]
        return pa.unify_schemas(schemas, promote_options="permissive")


def _widened(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    names = table.column_names
    columns = [table[f.name].cast(f.type) if f.name in names else pa.nulls(len(table), f.type) for f in schema]
    return pa.table(columns, schema=schema)


def file_ranges(rows: int, rows_per_file: int) -> list[tuple[int, int]]:
    """The rows [start, stop) of every file."""
    bounds = [*np.arange(0, rows, rows_per_file).tolist(), rows]
    return [*pairwise(bounds)]
