"""An index as a folder for others: clip-retrieval's layout, Parquet, or Lance; removed images stay behind.

``clip-retrieval``: ``img_emb/img_emb_{i}.npy`` of float16, ``metadata/metadata_{i}.parquet`` with absolute paths as
``image_path``. ``parquet``: ``part-{i}.parquet`` with a column ``embedding`` of float32 lists, which every reader
takes. ``lance``: one dataset ``vectors.lance`` of float16. Importing any of them gives the very vectors and metadata.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from indexing.exchange.card import CARD, Card
from indexing.exchange.lance_files import SUFFIX, require_lance
from indexing.exchange.stream import RowStream
from indexing.exchange.writers import write_clip_retrieval, write_lance, write_parquet
from simat.embeddings import EmbeddingSet
from simat.errors import BuildError
from simat.files import human, locked, remove_leftovers, sha256_file
from simat.heads import load_heads, save_heads
from simat.manifest import HEADS, NAME, IndexManifest, read_index_manifest
from simat.progress import Progress, Silent
from simat.tombstones import read_removed

ROWS_PER_FILE = 1_000_000  # as many as clip-retrieval writes
LANCE = f"vectors{SUFFIX}"
ROW_BYTES = 200

Writer = Callable[[RowStream, Path, int, Progress], None]
LAYOUTS: dict[str, tuple[Writer, int]] = {  # and the bytes of a number
    "clip-retrieval": (write_clip_retrieval, 2),
    "parquet": (write_parquet, 4),
    "lance": (lambda stream, folder, rows, progress: write_lance(stream, folder / LANCE, rows, progress), 2),
}


@dataclass(frozen=True)
class Exported:
    """A finished export.

    Attributes:
        folder: where it is.
        layout: how it is written.
        rows: vectors in it.
        removed: rows of the index that are not.
    """

    folder: Path
    layout: str
    rows: int
    removed: int


def export_index(
    index: Path, out: Path, layout: str, rows_per_file: int = ROWS_PER_FILE, progress: Progress | None = None
) -> Exported:
    """Write the vectors and the metadata of an index for other programs; a killed export goes on at its last file.

    Args:
        index: stays as it is.
        out: new, empty, or of an earlier run with the same arguments.
        layout: one of ``LAYOUTS``.
        rows_per_file: of every file but the last.

    Raises:
        BuildError: no such layout, ``out`` holds something else, nothing to export, or the disk is too full.
        StorageError: no index, or a damaged one; Lance is not installed.
    """
    if layout not in LAYOUTS:
        raise BuildError("no such layout", got=repr(layout), remedy=f"there are: {', '.join(LAYOUTS)}")
    if rows_per_file < 1:
        raise BuildError("a file must have at least 1 row", got=rows_per_file)
    if layout == "lance":
        require_lance()
    progress, manifest = progress or Silent(), read_index_manifest(index)
    embeddings, removed = EmbeddingSet.of_index(index, manifest), read_removed(index, manifest)
    stream = RowStream(embeddings, removed)
    if not len(stream):
        raise BuildError("every image of the index is removed", got=str(index))
    card = _card(index, manifest, embeddings, stream, layout, rows_per_file)
    _enter(out)
    with locked(out):
        if not _begun(out, card):
            _require_room(out, stream, LAYOUTS[layout][1])
            card.write(out)
        if manifest.space.heads is not None:
            save_heads(out / HEADS, load_heads(index / HEADS))
        progress.start("export", len(stream), "vectors")
        LAYOUTS[layout][0](stream, out, rows_per_file, progress)
        replace(card, finished=True).write(out)
    (out / ".lock").unlink(missing_ok=True)
    return Exported(out, layout, len(stream), manifest.rows - len(stream))


def _card(
    index: Path, manifest: IndexManifest, embeddings: EmbeddingSet, stream: RowStream, layout: str, rows_per_file: int
) -> Card:
    known = embeddings.manifest
    folders, source = dict(known.folders), sha256_file(index / NAME)
    return Card(manifest.space, known.root, layout, len(stream), rows_per_file, source, False, folders)


def _enter(out: Path) -> None:
    """Make the folder, or accept one that is empty or of an export."""
    if out.exists() and not out.is_dir():
        raise BuildError("the export must be a folder", got=str(out))
    out.mkdir(parents=True, exist_ok=True)
    if any(path.name != ".lock" for path in out.iterdir()) and not (out / CARD).is_file():
        raise BuildError("the folder holds something else", got=str(out), remedy="give a new or empty folder")
    remove_leftovers(out)


def _begun(out: Path, card: Card) -> bool:
    """Whether an earlier run began the very same export."""
    known = Card.read(out)
    if known is None:
        return False
    if replace(known, finished=False) != card:
        raise BuildError(f"{out} was begun from another index or with other settings", remedy="give a new folder")
    return True


def _require_room(out: Path, stream: RowStream, number_bytes: int) -> None:
    size = len(stream) * (ROW_BYTES + stream.dim * number_bytes)
    free = shutil.disk_usage(out).free
    if size > free:
        raise BuildError("the disk is too full for this export", got=f"{human(free)} free, {human(size)} needed")
