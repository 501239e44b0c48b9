"""Shards on disk. FAISS files are untrusted native input: one is read only if its SHA-256 is the manifest's.

Where FAISS has a limit for what a file may claim, it is set as well.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from simat.errors import StorageError
from simat.files import cache_folder, write_text
from simat.manifest import FileEntry, IndexManifest
from simat.plugins import required

_LIMIT = threading.Lock()
VERIFIED = "verified.json"  # in the cache folder: which shards have been hashed, in which state


def open_shards(folder: Path, manifest: IndexManifest) -> list[Any]:
    """Map the shards of an index into memory, after checking them against the manifest.

    Raises:
        StorageError: a shard is missing, truncated, altered, or not what the manifest says.
    """
    require_faiss()
    _check_once(folder, manifest.shards)
    with _believing_at_most(max((entry.bytes for entry in manifest.shards), default=1)):
        return [_read_shard(folder, entry, manifest.space.dim) for entry in manifest.shards]


@contextlib.contextmanager
def _believing_at_most(size: int) -> Iterator[None]:
    """FAISS's limit for one vector in a file; it is the whole process's, so it is put back."""
    import faiss

    if not hasattr(faiss, "set_deserialization_vector_byte_limit"):  # the newest wheels for GPUs are older
        yield
        return
    with _LIMIT:
        before = faiss.get_deserialization_vector_byte_limit()
        faiss.set_deserialization_vector_byte_limit(max(size, 1))
        try:
            yield
        finally:
            faiss.set_deserialization_vector_byte_limit(before)


def require_faiss() -> Any:
    """The module ``faiss``, which comes with one of two exclusive extras.

    Raises:
        StorageError: it is not installed.
    """
    return required("faiss", StorageError, "pip install 'simat[cpu]' or 'simat[gpu]'")


def faiss_reason(error: RuntimeError) -> str:
    """Why FAISS failed: "Error in FUNCTION at FILE:LINE: Error: 'CONDITION' failed: REASON" without the rest."""
    return str(error).strip().splitlines()[-1].rpartition(" failed: ")[2]


def _read_shard(folder: Path, entry: FileEntry, dim: int) -> Any:
    import faiss

    try:
        shard = faiss.read_index(str(folder / entry.name), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError as error:
        raise StorageError(
            f"FAISS cannot read {entry.name}", got=faiss_reason(error), remedy="build the index again"
        ) from error
    if (shard.ntotal, shard.d) != (entry.rows, dim):
        raise StorageError(
            f"{entry.name} is not the shard of this index",
            got=f"{shard.ntotal} × {shard.d} vectors instead of {entry.rows} × {dim}",
            remedy="build the index again",
        )
    return shard


def _check_once(folder: Path, entries: Sequence[FileEntry]) -> None:
    """Hash a shard when it is first opened or has changed since; hashing 100 GB at every start would take minutes."""
    try:
        known: dict[str, Any] = dict(json.loads((cache_folder() / VERIFIED).read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    fresh = {path: state for path, state in known.items() if Path(path).exists()}
    for entry in entries:
        path = entry.check_size(folder)
        status = path.stat()
        state = [entry.sha256, status.st_size, status.st_mtime_ns, status.st_ino]
        if known.get(str(path.resolve())) != state:
            entry.check(folder)
            fresh[str(path.resolve())] = state
    if fresh != known:
        with contextlib.suppress(OSError):  # without a record, the next opening takes longer
            write_text(cache_folder() / VERIFIED, json.dumps(fresh))
