"""Parts of an embedding set, written as their rows come: memory does not grow with the part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16

from simat.embeddings import ROW_GROUP, part_options
from simat.files import atomic

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class PartWriter:
    """Writes the rows of one part in whole row groups.

    Args:
        writer: of the file.
        schema: of the part.
        first_id: id of its first row.
    """

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, first_id: int) -> None:
        self._writer, self._schema, self._next_id = writer, schema, first_id
        self._waiting: pa.Table = schema.empty_table()

    def add(self, columns: Mapping[str, pa.Array], vectors: Float16[np.ndarray, "n d"]) -> None:
        """The next rows: every column but ``id``, and their unit vectors."""
        import pyarrow as pa

        count, kind = len(vectors), self._schema.field("embedding").type
        known = {
            **columns,
            "id": pa.array(np.arange(self._next_id, self._next_id + count), pa.int64()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=kind),
        }
        table = pa.table([known[name] for name in self._schema.names], schema=self._schema)
        self._next_id += count
        self._waiting = pa.concat_tables([self._waiting, table])
        self._write(len(self._waiting) // ROW_GROUP * ROW_GROUP)

    def finish(self) -> None:
        """Write the last rows."""
        self._write(len(self._waiting))

    def _write(self, count: int) -> None:
        if count:
            self._writer.write_table(self._waiting.slice(0, count).combine_chunks(), row_group_size=ROW_GROUP)
            self._waiting = self._waiting.slice(count)


@contextmanager
def new_part(path: Path, schema: pa.Schema, first_id: int) -> Iterator[PartWriter]:
    """A part that is whole when the block is left, or not there."""
    import pyarrow.parquet as pq

    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, **part_options(schema.names)) as writer:
        part = PartWriter(writer, schema, first_id)
        yield part
        part.finish()
