"""Find the image files of a folder, in an order that does not depend on the file system."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from simat.embeddings import join_path, split_path
from simat.errors import BuildError
from simat.files import atomic
from simat.images import SUFFIXES
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    import pyarrow.parquet as pq

CHUNK = 16384


def walk(root: Path) -> Iterator[str]:
    """Relative paths of files with an image suffix, sorted by name within each folder, folders after files.

    Links to files are followed, links to folders are not: a loop cannot be entered. Memory grows with the largest
    single folder only. A folder below ``root`` that may not be read is given as if it were a file.

    Raises:
        BuildError: ``root`` is no folder that can be read.
    """
    try:
        yield from _walk(os.fspath(root), "")
    except OSError as error:
        raise BuildError(f"cannot read the folder: {error.strerror}", got=error.filename) from error


def _walk(root: str, prefix: str) -> Iterator[str]:
    folders = []
    with os.scandir(Path(root, prefix)) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in ordered:
        path = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            folders.append(path + "/")
        elif Path(entry.name).suffix.lower() in SUFFIXES and not _leads_to_folder(entry):
            yield path
    for folder in folders:
        try:
            yield from _walk(root, folder)
        except PermissionError:  # listed with what cannot be read: the decoder will say so
            yield folder.rstrip("/")


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: the decoder will say so
        return False


def write_scan(root: Path, path: Path, progress: Progress | None = None) -> int:
    """Write the list of files to a Parquet file and return its length: a resumed build works from the same list."""
    return write_paths(walk(root), path, progress)


def write_paths(paths: Iterable[str], path: Path, progress: Progress | None = None) -> int:
    """As :func:`write_scan`, for paths that are known: relative to whatever root they will be read from."""
    progress = progress or Silent()
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("path", pa.string()), ("path_bytes", pa.binary())])
    files, count = iter(paths), 0
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while chunk := list(islice(files, CHUNK)):
            names = [split_path(name) for name in chunk]
            columns = [pa.array([a for a, _ in names], pa.string()), pa.array([b for _, b in names], pa.binary())]
            writer.write_table(pa.table(columns, schema=schema), row_group_size=CHUNK)
            count += len(chunk)
            progress.advance(len(chunk))
    return count


def read_scan(path: Path, start: int, stop: int) -> list[str]:
    """The paths [start, stop) of a written list."""
    import pyarrow.parquet as pq

    file: pq.ParquetFile = pq.ParquetFile(path)
    groups = range(start // CHUNK, -(-min(stop, file.metadata.num_rows) // CHUNK))
    if not groups:
        return []
    table = file.read_row_groups(list(groups)).slice(start - groups[0] * CHUNK, stop - start)
    return [join_path(row["path"], row["path_bytes"]) for row in table.to_pylist()]
