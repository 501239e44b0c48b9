"""Recognise a folder of vectors by what lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from indexing.exchange.card import Card
from indexing.exchange.lance_files import SUFFIX, lance_segments
from indexing.exchange.numpy_files import is_numpy_folder, numpy_segments
from indexing.exchange.parquet_files import parquet_segments
from indexing.exchange.segments import Segment, Vectors
from simat.errors import BuildError, StorageError
from simat.manifest import NAME, read_embedding_manifest, read_index_manifest

FOLDERS = {"image": "img_emb", "text": "text_emb"}
LAYOUTS = "img_emb/*.npy with metadata/*.parquet, *.parquet with a column of vectors, or *.lance"


@dataclass(frozen=True)
class Source:
    """Vectors to import.

    Attributes:
        folder: that they are in, absolute.
        vectors: their rows.
        card: what an export says of itself, None for a stranger's.
    """

    folder: Path
    vectors: Vectors
    card: Card | None


def open_source(path: Path, column: str = "embedding", modality: str = "image") -> Source:
    """Find the vectors in a folder, and check what can be checked before any is read.

    Args:
        path: a folder, or one Parquet file.
        column: holds the vectors of Parquet and Lance files.
        modality: ``image`` or ``text``: which of the two folders of clip-retrieval.

    Raises:
        BuildError: nothing here that is known.
        StorageError: files that are damaged, or do not fit together, or of an index that has been changed.
    """
    if modality not in FOLDERS:
        raise BuildError("no such modality", got=modality, remedy=f"there are: {', '.join(FOLDERS)}")
    if not path.exists():
        raise BuildError("no such folder of vectors", got=str(path))
    folder = path.absolute() if path.is_dir() else path.absolute().parent
    _refuse_changed(folder)
    card = Card.read(folder)
    if card is not None and not card.finished:
        raise StorageError(
            "the export is not finished", got=str(folder), remedy="run the same 'simat index export' again"
        )
    vectors = Vectors(_segments(path, column, modality), str(path))
    if card is not None and path.is_dir() and len(vectors) != card.rows:
        raise StorageError(
            "files of the export are missing or foreign",
            got=f"{len(vectors):,} vectors instead of {card.rows:,}",
            remedy="export the index again",
        )
    return Source(folder, vectors, card)


def _refuse_changed(folder: Path) -> None:
    """The vectors of an index that grew lie in several folders, and those of removed images are still among them."""
    try:
        index = read_index_manifest(folder.parent)
    except StorageError:
        return
    if index.generation and folder.parent / index.embeddings == folder:
        remedy = f"import what 'simat index export {folder.parent} OUT' writes"
        raise StorageError("the index around these vectors has been changed", got=str(folder), remedy=remedy)


def _segments(path: Path, column: str, modality: str) -> Sequence[Segment]:
    if path.is_file():
        return parquet_segments(path, column)
    if is_numpy_folder(path, [FOLDERS[modality]]):
        return numpy_segments(path, FOLDERS[modality])
    if path.suffix == SUFFIX or any(path.glob(f"*{SUFFIX}")):
        return lance_segments(path, column)
    if any(path.glob("*.parquet")):
        known = read_embedding_manifest(path) if (path / NAME).is_file() else None
        return parquet_segments(path, column, [entry.name for entry in known.parts] if known else None)
    raise BuildError("no vectors that simat knows in this folder", got=str(path), remedy=f"it reads {LAYOUTS}")
