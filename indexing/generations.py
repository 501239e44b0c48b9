"""Change an index that others read: everything is written beside what is there, and one rename makes it hold.

Generation g of an index has its new parts in ``embeddings/gGGGGG``, its new shards in ``shards/gGGGGG``, its
embedding manifest and its tombstones in files whose names hold g. Nothing that a manifest names is ever written
again, so that readers of any generation go on undisturbed; what no manifest names any more is deleted after the
rename. A process killed at any moment leaves the old generation or the new one.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from simat.embeddings import EmbeddingSet
from simat.errors import BuildError
from simat.files import locked, remove_leftovers, sync_folder, write_text
from simat.manifest import (
    NAME,
    EmbeddingManifest,
    FileEntry,
    IndexManifest,
    read_embedding_manifest,
    read_index_manifest,
    write_manifest,
)
from simat.selection import Selection
from simat.tombstones import read_removed, write_removed

SHARDS = "shards"
STATE, SCAN = "changing.json", "changing.parquet"  # of a change that takes long: what it is, and its list of files
ADD, COMPACT = "add", "compact"  # changes that take long
_OURS = re.compile(
    r"(part-\d+|rejected(-\d+)?)\.parquet|manifest(-\d+)?\.json|(shard-\d+|trained)\.faiss|removed-\d+\.bits|\.seen\.sqlite"
)
_GENERATION = re.compile(r"g(\d{5,})")


def generation_name(number: int) -> str:
    """The name of the folders of a generation's new files."""
    return f"g{number:05}"


@contextmanager
def changing(folder: Path) -> Iterator[Change]:
    """Change the index in ``folder`` under its lock; leftovers of killed changes are cleared away.

    Raises:
        StorageError: no index, half built, damaged, or of a newer format.
        BuildError: another process builds or changes it, or the disk is full.
    """
    read_index_manifest(folder)
    with locked(folder):
        yield Change(folder)


class Change:
    """The next generation of one index, while its lock is held.

    Attributes:
        folder: the index.
        manifest: as it is now.
        generation: the number of the generation that a commit makes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: IndexManifest = read_index_manifest(folder)
        self.generation = self.manifest.generation + 1
        self._tidy()

    @property
    def state(self) -> dict[str, Any] | None:
        """What an interrupted change has left to go on from; None where there is none."""
        with suppress(OSError, ValueError, TypeError):
            return dict(json.loads((self.folder / STATE).read_bytes()))
        return None

    def embeddings(self) -> EmbeddingSet:
        """The embedding set as it is now."""
        return EmbeddingSet.of_index(self.folder, self.manifest)

    def removed(self) -> Selection:
        """The rows that are removed now."""
        return read_removed(self.folder, self.manifest) or Selection.none(self.manifest.rows)

    def is_begun(self, what: Mapping[str, Any]) -> bool:
        """Whether an interrupted change is this very one."""
        known = self.state
        return known is not None and {name: known.get(name) for name in what} == dict(what)

    def begin(self, what: Mapping[str, Any]) -> bool:
        """Take up an interrupted change, or begin one; tells whether it is taken up.

        Args:
            what: whatever makes the change; one that was begun otherwise is thrown away.
        """
        if self.is_begun(what):
            return True
        self.abandon()
        write_text(self.folder / STATE, json.dumps({**what, "folder": generation_name(self.generation)}, indent=1))
        return False

    def remember(self, more: Mapping[str, Any]) -> None:
        """Add to what an interrupted change leaves to go on from."""
        write_text(self.folder / STATE, json.dumps({**(self.state or {}), **more}, indent=1))

    def abandon(self) -> None:
        """Throw away what an interrupted change has left."""
        for name in (STATE, SCAN):
            (self.folder / name).unlink(missing_ok=True)
        self._sweep()

    def new_folder(self, above: str) -> Path:
        """The folder of new files below ``above`` in the index: of the interrupted change that is taken up, or new."""
        state = self.state
        name = state["folder"] if state else generation_name(self.generation)
        path = self.folder / above / str(name)
        path.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent)
        return path

    def save_embeddings(self, embeddings: EmbeddingManifest) -> str:
        """Write the embedding set's manifest of this generation, which holds with the commit; gives its name."""
        name = f"manifest-{self.generation:05}.json"
        write_manifest(self.folder / self.manifest.embeddings, embeddings, name)
        return name

    def commit(self, manifest: IndexManifest, removed: Selection | None = None) -> IndexManifest:
        """Make the new generation hold, and delete what only the old one needed.

        Args:
            manifest: what the index is to be, but for its generation.
            removed: the rows that are removed from now on; None keeps what ``manifest`` says.

        Returns:
            The manifest as it was written.
        """
        if removed is not None:
            name = f"removed-{self.generation:05}.bits"
            entry = write_removed(self.folder, name, removed) if removed.count else None
            manifest = replace(manifest, removed=entry)
        manifest = replace(manifest, generation=self.generation)
        write_manifest(self.folder, manifest)
        self.manifest, self.generation = manifest, self.generation + 1
        self._tidy()
        return manifest

    def _tidy(self) -> None:
        """Clear away the state of a change that was committed, and files that nothing names."""
        state = self.state
        if state is None or self._holds(str(state.get("folder", ""))):
            self.abandon()
        # Else it may go on: its files stay.

    def _holds(self, name: str) -> bool:
        return any(f"{name}/" in f"/{entry.name}" for entry in self.manifest.shards)

    def _sweep(self) -> None:
        named = set(_named(self.folder, self.manifest))
        for above in [self.folder, self.folder / SHARDS, *self._own_embeddings()]:
            remove_leftovers(above)
            for path in [*above.iterdir()] if above.is_dir() else []:
                if _GENERATION.fullmatch(path.name) and path.is_dir():
                    _sweep_folder(path, named)
                elif _OURS.fullmatch(path.name) and path not in named:
                    path.unlink(missing_ok=True)

    def _own_embeddings(self) -> list[Path]:
        """The folder of the embedding set, if it lies in the index: nobody else's set is touched."""
        path = self.folder / self.manifest.embeddings
        return [path] if path.parent == self.folder else []


def refuse_unfinished(change: Change) -> None:
    """Raise :class:`BuildError` where images are half added: their ids would not fit any more."""
    state = change.state
    if state is not None and state.get("change") == ADD:
        raise BuildError(
            "images were being added here",
            got=str(state.get("source")),
            remedy="run that 'simat index add' again to its end, or drop it with --drop",
        )


def require_own_embeddings(change: Change) -> None:
    """Raise :class:`BuildError` unless the embedding set lies in the index itself, and is its alone to change."""
    path = change.folder / change.manifest.embeddings
    if path.parent != change.folder:
        raise BuildError(
            "the vectors of this index lie in another folder, which others may use",
            got=change.manifest.embeddings,
            remedy="make an index of its own with 'simat index merge INDEX OUT'",
        )


def prefixed(entry: FileEntry, folder: str) -> FileEntry:
    """The entry as seen from the folder above ``folder``."""
    return replace(entry, name=f"{folder}/{entry.name}")


def _named(folder: Path, manifest: IndexManifest) -> Iterator[Path]:
    """Every file that the generation needs."""
    yield folder / NAME
    yield from (folder / entry.name for entry in manifest.shards)
    if manifest.removed is not None:
        yield folder / manifest.removed.name
    below = folder / manifest.embeddings
    yield below / manifest.embedding_manifest
    known = read_embedding_manifest(below, manifest.embedding_manifest)
    yield from (below / entry.name for entry in known.parts)
    if known.rejected is not None:
        yield below / known.rejected.name


def _sweep_folder(folder: Path, named: set[Path]) -> None:
    """Remove what nothing names from a generation's folder, and the folder itself where nothing stays."""
    if not any(path.parent == folder for path in named):
        shutil.rmtree(folder, ignore_errors=True)
        return
    for path in [*folder.iterdir()]:
        if path not in named:
            with suppress(OSError):
                path.unlink()
