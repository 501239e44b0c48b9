"""``img_emb/*.npy`` and ``metadata/*.parquet``: the folders that clip-retrieval writes and LAION publishes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from indexing.exchange.parquet_files import batches, footer
from indexing.exchange.segments import BLOCK, FLOATS, Blocks, state_of
from simat.errors import StorageError

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = "metadata"
_NUMBER = re.compile(r"(\d+)(?=\.[^.]*$)")


class NumpySegment:
    """One array of vectors with the Parquet file of its metadata.

    Args:
        path: a ``.npy`` file of (n, d) floats.
        metadata: n rows, or None where nothing is known.

    Raises:
        StorageError: no such array, truncated, or of another length than its metadata.
    """

    def __init__(self, path: Path, metadata: Path | None) -> None:
        import pyarrow as pa

        self.name, self._path, self._metadata = path.name, path, metadata
        array = _header(path)
        self.rows, self.dim = array.shape
        self._array = None if array.flags.c_contiguous else array
        self._type, self._offset = array.dtype, int(array.offset)
        self.schema: pa.Schema = pa.schema([])
        self.state = state_of(path) if metadata is None else state_of(path, metadata)
        if metadata is not None:
            known = footer(metadata)
            self.schema = known.schema_arrow.remove_metadata()
            self._require_same_length(known.metadata.num_rows, metadata.name)

    def read(self, start: int, stop: int) -> Blocks:
        """See :meth:`indexing.exchange.segments.Segment.read`."""
        for count, table in self._tables(start, stop):
            yield self._vectors(start, count), table
            start += count

    def _require_same_length(self, rows: int, metadata: str) -> None:
        if rows != self.rows:
            word = "shorter" if rows < self.rows else "longer"
            raise StorageError(
                f"{metadata} is {word} than {self.name}",
                got=f"{rows:,} rows for {self.rows:,} vectors",
                remedy="write the two files again: from the first difference on, no vector has its own row",
            )

    def _tables(self, start: int, stop: int) -> Iterator[tuple[int, pa.Table]]:
        """What is known of the rows, in pieces, and how many rows each piece is of: without columns it cannot tell."""
        import pyarrow as pa

        if self._metadata is not None:
            yield from ((len(table), table) for table in batches(self._metadata, start, stop))
        else:
            yield from ((min(BLOCK, stop - first), pa.table({})) for first in range(start, stop, BLOCK))

    def _vectors(self, start: int, count: int) -> Float[np.ndarray, "n d"]:
        if self._array is not None:  # column by column: mapped, as its rows are spread over the whole file
            return np.ascontiguousarray(self._array[start : start + count])
        offset = self._offset + start * self.dim * self._type.itemsize
        flat = np.fromfile(self._path, self._type, count * self.dim, offset=offset)
        return flat.reshape(count, self.dim)


def numpy_segments(folder: Path, name: str) -> list[NumpySegment]:
    """The segments of ``folder/name/*.npy``, or of ``folder/*.npy``, in the order of their numbers.

    Raises:
        StorageError: a file of vectors without its metadata, or the other way round.
    """
    vectors = by_number((folder / name if (folder / name).is_dir() else folder).glob("*.npy"))
    metadata = by_number((folder / METADATA).glob("*.parquet"))
    if not metadata:
        return [NumpySegment(path, None) for path in vectors.values()]
    lonely = [*(vectors.keys() - metadata.keys()), *(metadata.keys() - vectors.keys())]
    if lonely:
        first = min(lonely)
        path, missing = (vectors[first], METADATA) if first in vectors else (metadata[first], name)
        raise StorageError(
            f"{path.name} has no partner in {missing}/",
            got=str(folder),
            remedy="complete the folder, or remove the file",
        )
    return [NumpySegment(path, metadata[number]) for number, path in vectors.items()]


def by_number(paths: Iterator[Path]) -> dict[int, Path]:
    """Files by the number at the end of their names, in its order.

    Raises:
        StorageError: a name without a number, or two files with the same one.
    """
    found: dict[int, Path] = {}
    for path in sorted(paths):
        number = _NUMBER.search(path.name)
        if number is None:
            raise StorageError("the name of a file of vectors must end in its number", got=path.name)
        other = found.setdefault(int(number[1]), path)
        if other != path:
            raise StorageError(
                "two files have the same number", got=f"{other.name} and {path.name}", remedy="remove the stale one"
            )
    return dict(sorted(found.items()))


def _header(path: Path) -> np.memmap[tuple[int, int], np.dtype[np.floating]]:
    """The array of a file, mapped; NumPy itself compares the size of the file with what the header says."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise StorageError(f"{path.name} is no whole array of numbers", got=str(error).splitlines()[0]) from error
    if not isinstance(array, np.memmap) or array.ndim != 2 or array.dtype.name not in FLOATS:
        raise StorageError(
            f"{path.name} must hold (n, d) floats of 16, 32 or 64 bits",
            got=f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__,
        )
    return array


def is_numpy_folder(folder: Path, names: Sequence[str]) -> bool:
    """Whether there is any ``.npy`` file where this layout has them."""
    return any(any(place.glob("*.npy")) for place in (folder, *(folder / name for name in names)))
