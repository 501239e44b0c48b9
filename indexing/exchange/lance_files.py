"""A Lance dataset as a source of vectors; needs the extra ``lance``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexing.exchange.parquet_files import column_dim, list_vectors
from indexing.exchange.segments import BLOCK, Blocks
from simat.errors import StorageError
from simat.plugins import required

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIX = ".lance"


class LanceSegment:
    """A dataset with a column of vectors.

    Args:
        path: of the dataset.
        column: lists of floats.

    Raises:
        StorageError: no dataset, or no such column in it.
    """

    def __init__(self, path: Path, column: str) -> None:
        self.name, self._column, self._dataset = path.name, column, opened(path)
        self.rows = int(self._dataset.count_rows())
        schema = self._dataset.schema.remove_metadata()
        # Lance refuses an unknown column as soon as it is asked: it is not, before ours has been looked for.
        first = (batch.column(0) for some in [self._dataset] for batch in some.to_batches(columns=[column], limit=64))
        self.dim = column_dim(schema, column, path.name, first) if self.rows else 0
        self.schema: pa.Schema = schema.remove(schema.get_field_index(column)) if self.rows else schema
        self.state = f"{path.name} {self._dataset.version} {self.rows}"

    def read(self, start: int, stop: int) -> Blocks:
        """See :meth:`indexing.exchange.segments.Segment.read`."""
        for first in range(start, stop, BLOCK):
            wanted = min(BLOCK, stop - first)
            table = self._table(first, wanted)
            yield list_vectors(table[self._column], self.dim, self.name, first), table.drop_columns([self._column])

    def _table(self, first: int, rows: int) -> pa.Table:
        try:
            return self._dataset.to_table(offset=first, limit=rows)
        except (OSError, ValueError, RuntimeError) as error:
            raise StorageError(f"{self.name} is damaged", got=str(error).partition("\n")[0]) from error


def opened(path: Path) -> Any:
    """A dataset of the library ``lance``.

    Raises:
        StorageError: the library is not installed, or this is no dataset.
    """
    lance = require_lance()
    try:
        return lance.dataset(str(path))
    except (OSError, ValueError) as error:
        raise StorageError(f"{path.name} is no Lance dataset", got=str(error).splitlines()[0]) from error


def require_lance() -> Any:
    """The module ``lance``.

    Raises:
        StorageError: it is not installed.
    """
    return required("lance", StorageError, "pip install 'simat[lance]'")


def lance_segments(folder: Path, column: str) -> list[LanceSegment]:
    """The dataset that a folder is, or those in it in the order of their names."""
    paths = [folder] if folder.suffix == SUFFIX else sorted(folder.glob(f"*{SUFFIX}"))
    return [LanceSegment(path, column) for path in paths]
