"""The list of what a build reads, on disk; and the image files of a folder in an order of their own.

The list is a Parquet file: ``path``, ``path_bytes``, ``caption``, ``facts`` (JSON). It remembers the types of the
facts' columns, so that every part gets the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexing.items import MOST_COLUMNS, Columns, Item, from_json, sidecars, to_json
from simat.embeddings import join_path, split_path
from simat.errors import BuildError
from simat.files import atomic
from simat.images import SUFFIXES
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    import pyarrow.parquet as pq

CHUNK = 16384
_CAPTION, _FACTS, _COLUMNS = "caption", "facts", "columns"


def walk(root: Path) -> Iterator[str]:
    """Relative paths of files with an image suffix, sorted by name within each folder, folders after files.

    Links to files are followed, links to folders are not: a loop cannot be entered. Memory grows with the largest
    single folder only. A folder below ``root`` that cannot be read is given as if it were a file.

    Raises:
        BuildError: ``root`` is no folder that can be read.
    """
    return (path for path, _ in walk_with_sidecars(root))


def walk_with_sidecars(root: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """As :func:`walk`, each path with those of the files beside it that differ in their suffix only.

    Returns:
        Paths of images, each with the paths of what lies beside it, by suffix (one of ``SIDECARS``).
    """
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            images, inside = _listed(root, folder)
        except OSError as error:
            if not folder:
                raise BuildError(f"cannot read the folder: {error.strerror}", got=error.filename) from error
            images, inside = [(folder.rstrip("/"), {})], []  # the decoder will say what is wrong with it
        yield from images
        folders += reversed(inside)


def _listed(root: Path, prefix: str) -> tuple[list[tuple[str, dict[str, str]]], list[str]]:
    """The images of one folder with what lies beside them, and the folders in it; both sorted."""
    images: list[tuple[str, dict[str, str]]] = []
    folders = []
    with os.scandir(root / prefix) as entries:
        ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    names = {entry.name for entry in ordered}
    for entry in ordered:
        path = prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            folders.append(path + "/")
        elif Path(entry.name).suffix.lower() in SUFFIXES and not _leads_to_folder(entry):
            images.append((path, sidecars(path, lambda beside: beside.rpartition("/")[2] in names)))
    return images, folders


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself: the decoder will say so
        return False


def write_scan(root: Path, path: Path, progress: Progress | None = None) -> int:
    """Write the list of the files of a folder, by name alone, and return its length."""
    return write_paths(walk(root), path, progress)


def write_paths(paths: Iterable[str], path: Path, progress: Progress | None = None) -> int:
    """As :func:`write_scan`, for paths that are known: relative to whatever root they will be read from."""
    return write_items(map(Item, paths), path, progress)


def write_items(items: Iterable[Item], path: Path, progress: Progress | None = None) -> int:
    """Write the list of what a source has and return its length: a resumed build works from the same list."""
    progress = progress or Silent()
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("path", pa.string()), ("path_bytes", pa.binary()), (_CAPTION, pa.string()), (_FACTS, pa.string())]
    )
    rest, count, columns = iter(items), 0, Columns()
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while chunk := list(islice(rest, CHUNK)):
            for item in chunk:
                columns.add(item.facts)
            names = [split_path(item.path) for item in chunk]
            rows = [shown for shown, _ in names], [raw for _, raw in names]
            told = [item.caption for item in chunk], [to_json(item.facts) for item in chunk]
            arrays = [pa.array(values, field.type) for values, field in zip((*rows, *told), schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema), row_group_size=CHUNK)
            count += len(chunk)
            progress.advance(len(chunk))
        writer.add_key_value_metadata({_COLUMNS: json.dumps(columns.types)})
    if columns.too_many:
        progress.note(f"more than {MOST_COLUMNS} columns of facts: those that turned up last are left out")
    return count


def read_scan(path: Path, start: int, stop: int) -> list[str]:
    """The paths [start, stop) of a written list."""
    rows = _read(path, start, stop, ["path", "path_bytes"])
    return [join_path(row["path"], row["path_bytes"]) for row in rows]


def read_items(path: Path, start: int, stop: int) -> list[Item]:
    """What a written list has at [start, stop)."""
    return [
        Item(join_path(row["path"], row["path_bytes"]), row.get(_CAPTION), from_json(row.get(_FACTS)))
        for row in _read(path, start, stop)
    ]


def read_columns(path: Path) -> Columns:
    """The columns that the facts of a written list need."""
    import pyarrow.parquet as pq

    known = pq.read_metadata(path).metadata or {}
    return Columns(json.loads(known.get(_COLUMNS.encode(), b"{}")))


def _read(path: Path, start: int, stop: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    file: pq.ParquetFile = pq.ParquetFile(path)
    groups = range(start // CHUNK, -(-min(stop, file.metadata.num_rows) // CHUNK))
    if not groups:
        return []
    rows = file.read_row_groups(list(groups), columns).slice(start - groups[0] * CHUNK, stop - start)
    return list(rows.to_pylist())
