"""Which rows of an index are removed: one bit per row, in a file beside the manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from simat.errors import QueryError, StorageError
from simat.files import atomic
from simat.manifest import FileEntry, IndexManifest
from simat.selection import Selection


def write_removed(folder: Path, name: str, removed: Selection) -> FileEntry:
    """Write ``removed`` as ``folder/name``: its bits alone."""
    with atomic(folder / name) as temporary:
        temporary.write_bytes(removed.bits.tobytes())
    return FileEntry.of(folder, name, removed.count)


def read_removed(folder: Path, manifest: IndexManifest) -> Selection | None:
    """The removed rows of the index in ``folder``; None where none are.

    Raises:
        StorageError: the file is missing or altered, or is of another index.
    """
    if manifest.removed is None:
        return None
    path = manifest.removed.check(folder)
    try:
        removed = Selection(np.frombuffer(path.read_bytes(), np.uint8), manifest.rows)
    except QueryError as error:
        raise StorageError(f"{path.name} is of another index", got=error.got, remedy="build the index again") from error
    if removed.count != manifest.removed.rows:
        got = f"{removed.count} removed rows instead of {manifest.removed.rows}"
        raise StorageError(f"{path.name} is of another index", got=got, remedy="build the index again")
    return removed
