"""An embedding set: a folder of Parquet parts that any Arrow tool opens, and a manifest.

Columns of a part: ``id`` int64, running through the parts in order; ``path`` string, relative to the manifest's
``root``; ``path_bytes`` binary, only where the name is not valid UTF-8 (``path`` then shows U+FFFD); ``sha256``
string (hex) of the file; ``width``, ``height`` int32, upright; ``caption`` string or null; ``embedding``
fixed_size_list<float16>[d], a unit row. Before ``embedding`` there may be more columns, which the source of the images
brought along; all parts have the same.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, Float32, Int

from simat.errors import QueryError, StorageError
from simat.files import atomic, file_state
from simat.manifest import NAME, EmbeddingManifest, FileEntry, IndexManifest, read_embedding_manifest
from simat.mapping import MappedFile
from simat.vectors import to_half

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP = 256  # rows read to fetch one: small enough for queries, large enough for scans
OPEN_PARTS = 256
HELD_PARTS = 8192  # mapped, as those of VectorStore are: a process may have 65,530 maps, a reload takes them twice
METADATA = ["path", "path_bytes", "sha256", "width", "height", "caption"]
FIXED = frozenset({"id", *METADATA, "embedding"})
REMEMBERED_GROUPS = 1024  # row groups whose metadata is kept: some 40 MB


@dataclass(frozen=True)
class ImageRow:
    """What the set knows of one image; ``path`` is relative to the set's root and keeps any bytes of the name."""

    path: str
    sha256: str
    width: int
    height: int
    caption: str | None = None


@dataclass(frozen=True)
class Rejected:
    """A file that is not in the set, and why."""

    path: str
    reason: str


def schema(dim: int) -> pa.Schema:
    """The Arrow schema of a part with ``dim``-d embeddings."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("path_bytes", pa.binary()),
            pa.field("sha256", pa.string(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("caption", pa.string()),
            pa.field("embedding", pa.list_(pa.field("element", pa.float16(), nullable=False), dim), nullable=False),
        ]
    )


def write_part(
    path: Path,
    first_id: int,
    rows: Sequence[ImageRow],
    vectors: Float32[np.ndarray, "n d"],
    more: pa.Table | None = None,
) -> None:
    """Write one part, whole or not at all; ids run from ``first_id``.

    Args:
        path: of the part.
        first_id: of the first row.
        rows: what is known of every image.
        vectors: unit rows.
        more: n rows of further columns, none of them named as a fixed one.
    """
    import pyarrow as pa

    dim = vectors.shape[1]
    names = [split_path(row.path) for row in rows]
    table = pa.table(
        [
            pa.array(range(first_id, first_id + len(rows)), pa.int64()),
            pa.array([shown for shown, _ in names], pa.string()),
            pa.array([raw for _, raw in names], pa.binary()),
            pa.array([row.sha256 for row in rows], pa.string()),
            pa.array([row.width for row in rows], pa.int32()),
            pa.array([row.height for row in rows], pa.int32()),
            pa.array([row.caption for row in rows], pa.string()),
            pa.FixedSizeListArray.from_arrays(pa.array(to_half(vectors).ravel()), type=schema(dim).field(7).type),
        ],
        schema=schema(dim),
    )
    _write(path, table if more is None else _with_columns(table, more))


def write_projected(path: Path, table: pa.Table, vectors: Float32[np.ndarray, "n d"]) -> None:
    """Write a part with the rows of another and new vectors, whole or not at all."""
    import pyarrow as pa

    kind = schema(vectors.shape[1])
    column = pa.FixedSizeListArray.from_arrays(pa.array(to_half(vectors).ravel()), type=kind.field("embedding").type)
    place = table.column_names.index("embedding")
    fixed = table.set_column(place, kind.field("embedding"), column).select(kind.names).cast(kind)
    _write(path, _with_columns(fixed, table.drop_columns(kind.names)))


def _with_columns(table: pa.Table, more: pa.Table) -> pa.Table:
    """The further columns put before the embedding."""
    import pyarrow as pa

    for name in more.column_names:
        table = table.add_column(table.num_columns - 1, pa.field(name, more.schema.field(name).type), more[name])
    return table


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    with atomic(path) as temporary:
        pq.write_table(table, temporary, row_group_size=ROW_GROUP, **part_options(table.column_names))


def part_options(columns: Sequence[str]) -> dict[str, Any]:
    """How pyarrow writes a part: vectors as they are, side by side, so that they can be mapped."""
    return {
        "use_dictionary": False,
        "write_statistics": False,
        "compression": {name: "NONE" if name == "embedding" else "ZSTD" for name in columns},
    }


def write_rejected(path: Path, rejected: Sequence[Rejected]) -> None:
    """Write the list of unreadable files: ``path``, ``path_bytes``, ``reason``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [split_path(item.path) for item in rejected]
    table = pa.table(
        {
            "path": pa.array([shown for shown, _ in names], pa.string()),
            "path_bytes": pa.array([raw for _, raw in names], pa.binary()),
            "reason": pa.array([split_path(item.reason)[0] for item in rejected], pa.string()),
        }
    )
    with atomic(path) as temporary:
        pq.write_table(table, temporary)


def read_rejected(path: Path) -> list[Rejected]:
    """Read what :func:`write_rejected` wrote."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path).to_pylist()
    return [Rejected(join_path(row["path"], row["path_bytes"]), row["reason"]) for row in rows]


def split_path(path: str) -> tuple[str, bytes | None]:
    """A name as valid Unicode, and its bytes where Unicode cannot hold them."""
    raw = os.fsencode(path)
    shown = raw.decode("utf-8", "replace")
    return shown, None if shown.encode() == raw else raw


def join_path(shown: str, raw: bytes | None) -> str:
    """The inverse of :func:`split_path`."""
    return shown if raw is None else os.fsdecode(raw)


class PartReader:
    """Rows and vectors of a run of parts, by id. Safe to share between threads.

    Args:
        folder: where the parts are.
        entries: the parts in the order of their ids, which begin at 0.
    """

    def __init__(self, folder: Path, entries: Sequence[FileEntry]) -> None:
        self._paths = [folder / entry.name for entry in entries]
        self._ends = np.cumsum([entry.rows for entry in entries], dtype=np.int64)
        self._bounds = [int(end) for end in self._ends]  # the same as plain numbers: quicker, one at a time
        self._counts = [entry.rows for entry in entries]
        self._lock = threading.Lock()
        self._held: dict[Path, MappedFile] = {}
        self._states = {path: file_state(path) for path in self._paths}
        self._open = lru_cache(maxsize=OPEN_PARTS)(self._open_part)
        self._metadata = lru_cache(maxsize=REMEMBERED_GROUPS)(self._read_metadata)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def rows(self, ids: Int[np.ndarray, " n"]) -> list[ImageRow]:
        """Metadata of the images ``ids``, in that order."""
        return [self._row(int(i)) for i in ids]

    def vectors(self, ids: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        """Stored vectors of the images ``ids`` (at least one), in that order."""
        for i in ids[(ids < 0) | (ids >= len(self))]:
            self._place(int(i))  # raises
        parts = np.searchsorted(self._ends, ids, side="right")
        rows = ids - (self._ends - np.array(self._counts))[parts]
        found: list[Float16[np.ndarray, "m d"]] = []
        order = np.lexsort((rows, parts))
        cuts = np.flatnonzero(np.diff(parts[order]) | np.diff(rows[order] // ROW_GROUP)) + 1
        for places in np.split(order, cuts):  # every row group is read once
            path, group = self._paths[parts[places[0]]], int(rows[places[0]]) // ROW_GROUP
            with self._lock:
                block = embedding_column(self._open(path).read_row_group(group, ["embedding"]))
            found.append(block[rows[places] % ROW_GROUP])
        vectors = np.concatenate(found).astype(np.float32)
        vectors[order] = vectors.copy()
        return vectors

    def blocks(self, start: int, stop: int) -> Iterator[Float16[np.ndarray, "n d"]]:
        """The vectors of ids [start, stop), in blocks of at most one row group."""
        for path, end, count in zip(self._paths, self._ends, self._counts, strict=True):
            first = int(end) - count
            for group in range(-(-count // ROW_GROUP)):
                low = first + group * ROW_GROUP
                high = min(low + ROW_GROUP, int(end))
                if low < stop and high > start:
                    with self._lock:
                        block = embedding_column(self._open(path).read_row_group(group, ["embedding"]))
                    yield block[max(start - low, 0) : min(stop, high) - low]

    def captions(self) -> Iterator[str | None]:
        """The captions of all images, in the order of their ids."""
        for path in self._paths:
            with self._lock:
                column = self._open(path).read(["caption"])["caption"]
            yield from column.to_pylist()

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The columns (None: all) of every part, in the order of the ids."""
        for path in self._paths:
            with self._lock:
                table = self._open(path).read(None if columns is None else list(columns))
            yield table

    @property
    def counts(self) -> list[int]:
        """The rows of every part."""
        return self._counts

    def part_schema(self, part: int) -> pa.Schema:
        """The columns of a part, those that its source brought along too."""
        with self._lock:
            return self._open(self._paths[part]).schema_arrow

    def part_columns(self, part: int, names: Sequence[str]) -> pa.Table:
        """Those of the named columns that a part has."""
        with self._lock:
            return self._open(self._paths[part]).read([*names], use_threads=False)

    def hold(self) -> None:
        """Map the first ``HELD_PARTS`` parts: whatever becomes of the folder, these go on being read as they are."""
        for path in self._paths[:HELD_PARTS]:
            with self._lock:
                self._held[path] = self._held.get(path) or self._mapped(path)

    def _open_part(self, path: Path) -> pq.ParquetFile:
        import pyarrow as pa
        import pyarrow.parquet as pq

        held = self._held.get(path) or self._mapped(path)
        return pq.ParquetFile(pa.BufferReader(pa.py_buffer(held.bytes)))

    def _mapped(self, path: Path) -> MappedFile:
        if file_state(path) != self._states[path]:
            raise StorageError(
                "the index has changed on disk", got=path.name, remedy="open it again; a server: POST …/reload"
            )
        return MappedFile(path)

    def _place(self, id: int) -> tuple[int, int, int]:
        """Part, row group and row in it of an image."""
        if not 0 <= id < len(self):
            raise QueryError("no image with this id", got=id, remedy=f"ids run from 0 to {len(self) - 1}")
        part = bisect_right(self._bounds, id)
        row = id - (self._bounds[part] - self._counts[part])
        return part, row // ROW_GROUP, row % ROW_GROUP

    def _row(self, id: int) -> ImageRow:
        part, group, row = self._place(id)
        path, raw, *others = (column[row].as_py() for column in self._metadata(part, group))
        return ImageRow(join_path(path, raw), *others)

    def _read_metadata(self, part: int, group: int) -> list[pa.Array]:
        with self._lock:
            table = self._open(self._paths[part]).read_row_group(group, METADATA)
        return [column.combine_chunks() for column in table.columns]


class EmbeddingSet(PartReader):
    """A finished embedding set, opened for reading.

    Args:
        folder: holds the manifest.
        root: where the images are now, if they moved since the build.
        name: of the manifest.

    Raises:
        StorageError: the folder is no embedding set, or a part is missing or truncated.
    """

    def __init__(self, folder: Path, root: Path | None = None, name: str = NAME) -> None:
        self.folder = folder
        self.manifest: EmbeddingManifest = read_embedding_manifest(folder, name)
        self.root = root or Path(self.manifest.root)
        for entry in self.files():
            entry.check_size(folder)
        super().__init__(folder, self.manifest.parts)

    @classmethod
    def of_index(cls, folder: Path, index: IndexManifest, root: Path | None = None) -> EmbeddingSet:
        """The set that an index in ``folder`` is over, in the state that the index's manifest names."""
        return cls(folder / index.embeddings, root, index.embedding_manifest)

    def resolve(self, row: ImageRow) -> Path:
        """Where the image's file should be."""
        first, _, rest = row.path.partition("/")
        known = self.manifest.folders.get(first)
        return self.root / row.path if known is None else Path(known, rest)

    def rejected(self) -> list[Rejected]:
        """The files that could not be read, and why."""
        entry = self.manifest.rejected
        return read_rejected(self.folder / entry.name) if entry else []

    def files(self) -> Iterator[FileEntry]:
        """Every file the manifest vouches for."""
        yield from self.manifest.parts
        if self.manifest.rejected:
            yield self.manifest.rejected


def embedding_column(table: pa.Table) -> Float16[np.ndarray, "n d"]:
    """The ``embedding`` column of a table as an array."""
    column = table["embedding"].combine_chunks()
    flat: Float16[np.ndarray, " m"] = column.flatten().to_numpy()
    return flat.reshape(-1, column.type.list_size)
