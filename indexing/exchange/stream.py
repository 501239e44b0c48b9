"""The rows of an index that are not removed, in order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from indexing.columns import common_schema, conformed
from simat.embeddings import ROW_GROUP, EmbeddingSet
from simat.errors import StorageError
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
        self.schema: pa.Schema = common_schema([embeddings])

    def __len__(self) -> int:
        return self._before[-1]

    def read(self, start: int, stop: int) -> Iterator[pa.Table]:
        """Rows [start, stop) of those that are not removed, in tables of some thousands with all columns.

        Raises:
            StorageError: a part is gone: the index was changed in the meantime.
        """
        for number, (before, end) in enumerate(pairwise(self._before)):
            if before < stop and end > start:
                yield from self._part(number, start - before, stop - before)

    def _part(self, number: int, start: int, stop: int) -> Iterator[pa.Table]:
        """Rows [start, stop) of a part; row groups that hold none of them are not read."""
        import pyarrow as pa

        first, end = self._firsts[number : number + 2]
        with self._opened(number) as file:
            place = 0
            for group in range(0, file.metadata.num_row_groups, GROUPS):
                begin = first + group * ROW_GROUP
                close = min(begin + GROUPS * ROW_GROUP, end)
                low, high = max(start - place, 0), min(stop - place, self._kept(begin, close))
                place += self._kept(begin, close)
                if low < high:
                    groups = range(group, min(group + GROUPS, file.metadata.num_row_groups))
                    table: pa.Table = file.read_row_groups([*groups])
                    if self._keep is not None:
                        table = table.filter(pa.array(self._keep.slice(begin, close).mask()))
                    yield conformed(table.slice(low, high - low), self.schema)

    def _opened(self, number: int) -> Any:
        import pyarrow.parquet as pq

        name = self._parts[number].name
        try:
            return pq.ParquetFile(self.embeddings.folder / name)
        except OSError as error:
            remedy = "export it again, into a new folder"
            raise StorageError("the index has changed on disk", got=name, remedy=remedy) from error

    def _kept(self, start: int, stop: int) -> int:
        return stop - start if self._keep is None else self._keep.slice(start, stop).count


def file_ranges(rows: int, rows_per_file: int) -> list[tuple[int, int]]:
    """The rows [start, stop) of every file."""
    bounds = [*np.arange(0, rows, rows_per_file).tolist(), rows]
    return [*pairwise(bounds)]
