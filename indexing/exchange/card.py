"""``simat.json``: what an export says of itself, so that importing it restores the very index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from simat.errors import StorageError
from simat.files import write_text
from simat.manifest import read_embedding_manifest
from simat.types import EmbeddingSpace

CARD, FORMAT, VERSION = "simat.json", "simat/export", 1


@dataclass(frozen=True)
class Card:
    """What an export holds.

    Attributes:
        space: where its vectors live.
        root: folder that the pictures lie in.
        layout: of the export, see :mod:`indexing.exchange.exporting`.
        rows: vectors.
        rows_per_file: of every file but the last.
        source: SHA-256 that names the state of the index it came from.
        finished: whether it is whole.
        folders: where pictures outside of ``root`` lie, by the first component of their paths.
    """

    space: EmbeddingSpace
    root: str
    layout: str
    rows: int
    rows_per_file: int = 0
    source: str = ""
    finished: bool = True
    folders: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``folder/simat.json``."""
        write_text(folder / CARD, json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Card | None:
        """The card of a folder; that of an embedding set is its manifest; None for a stranger's vectors.

        Raises:
            StorageError: a card that is damaged, or of a newer version.
        """
        if not (folder / CARD).is_file():
            return _of_embedding_set(folder)
        try:
            values = json.loads((folder / CARD).read_bytes())
            kind, version = values.pop("format"), values.pop("version")
            if kind == FORMAT and version <= VERSION:
                return cls(**{**values, "space": EmbeddingSpace(**values["space"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(f"{CARD} is damaged", got=str(folder), remedy="export the index again") from error
        raise StorageError(
            f"{CARD} is of another format than {FORMAT} {VERSION}", got=f"{kind} {version}", remedy="upgrade simat"
        )


def _of_embedding_set(folder: Path) -> Card | None:
    try:
        manifest = read_embedding_manifest(folder)
    except StorageError:
        return None
    return Card(manifest.space, manifest.root, "parquet", manifest.rows, folders=dict(manifest.folders))
