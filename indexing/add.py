"""Add images to a finished index, without touching what is in it; a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16

from indexing.build import EMBEDDINGS, SHARDS
from indexing.columns import KnownColumns
from indexing.compact import config_of
from indexing.config import BuildConfig, Machine
from indexing.drift import trained_index, training_record
from indexing.embed import Embedded, Embedder, SeenFiles
from indexing.generations import (
    ADD,
    SCAN,
    Change,
    changing,
    prefixed,
    refuse_unfinished,
    require_own_embeddings,
)
from indexing.items import Item
from indexing.known import KnownContents, rows_at
from indexing.places import Places
from indexing.plan import plan_build
from indexing.room import require_room
from indexing.scan import read_scan, write_items
from indexing.shards import explained, write_index
from indexing.sources import Source, open_source, other_source
from simat.embeddings import EmbeddingSet, ImageRow, PartReader, Rejected, read_rejected, write_rejected
from simat.encoders import load_image_encoder
from simat.encoders.combined import moved_heads
from simat.errors import BuildError, SimatError
from simat.files import remove_leftovers, sha256_text
from simat.manifest import HEADS, EmbeddingManifest, FileEntry, IndexManifest
from simat.progress import Progress, Silent
from simat.types import ImageEncoder
from simat.vectorstore import VectorStore

if TYPE_CHECKING:
    import pyarrow as pa

LOOKED_UP = 2**20  # paths looked for in the index at a time
REJECTED = "rejected.parquet"


@dataclass(frozen=True)
class Added:
    """What an addition did.

    Attributes:
        folder: the index.
        manifest: as it is now.
        images: that are in since.
        duplicates: how many of them share their bytes with an earlier one.
        known: files that were in the index already, and were left alone.
        rejected: files that could not be read.
    """

    folder: Path
    manifest: IndexManifest
    images: int = 0
    duplicates: int = 0
    known: int = 0
    rejected: tuple[Rejected, ...] = ()


def add_images(
    folder: Path,
    source: str,
    machine: Machine | None = None,
    progress: Progress | None = None,
    encoder: ImageEncoder | None = None,
    drop: bool = False,
) -> Added:
    """Add the images of ``source`` to the index in ``folder``; ids of those in it stay as they are.

    Args:
        folder: the index.
        source: as :func:`indexing.sources.open_source` takes it. Files that are in the index already are left alone.
        machine: how many processes and threads to use.
        progress: told how far it is.
        encoder: an encoder object, where the index's encoder is no spec that can be loaded.
        drop: throw away what an interrupted addition of other images has left.

    Raises:
        BuildError: nothing to read, values that the index's columns cannot hold, another process changes the index,
            or the disk is too full.
        SpaceMismatchError: the encoder has other weights than the index was built with.
        StorageError: no index, or damaged.
    """
    machine, progress = machine or Machine(), progress or Silent()
    with changing(folder) as change:
        require_own_embeddings(change)
        config = config_of(change.manifest)
        images = open_source(source, config.image_column, config.caption_column)
        what = {"change": ADD, "source": source, "base": _base(change)}
        if drop:
            change.abandon()
        elif not change.is_begun(what):
            refuse_unfinished(change)
        with _forgotten_unless_begun(change):
            addition = _Addition(change, images, config, machine, progress)
            if not addition.scan(what):
                change.abandon()
                return Added(folder, change.manifest, known=addition.known)
            return addition.run(encoder)


def _base(change: Change) -> str:
    """What the ids of new rows depend on; a removal meanwhile does not matter."""
    known = change.manifest
    return sha256_text(f"{known.embedding_manifest} {known.rows} {known.space}")


@contextmanager
def _forgotten_unless_begun(change: Change) -> Iterator[None]:
    """Leave nothing of an addition that fails before its first part is written: it would be in the way of others."""
    try:
        yield
    except (SimatError, OSError):
        state = change.state
        if state is not None and not any((change.folder / EMBEDDINGS / str(state["folder"])).glob("part-*")):
            change.abandon()
        raise


class _Addition:
    """One run over one index.

    Attributes:
        known: files that are in the index already.
    """

    def __init__(
        self, change: Change, source: Source, config: BuildConfig, machine: Machine, progress: Progress
    ) -> None:
        self._change, self._source, self._config = change, source, config
        self._machine, self._progress = machine, progress
        self._folder, self._manifest = change.folder, change.manifest
        self._embeddings, self._removed = change.embeddings(), change.removed()
        self._places, self._columns = Places.of(self._embeddings), KnownColumns(self._embeddings)
        self._is_above = self._places.is_above(source.root)
        self._files = self.known = 0

    def scan(self, what: Mapping[str, Any]) -> int:
        """List what is new, or find the list of an interrupted run; gives its length."""
        if self._change.begin(what) and (state := self._change.state) is not None and "files" in state:
            self._files, self.known = int(state["files"]), int(state["known"])
            self._places.folders.update(state["folders"])
            return self._files
        self._progress.start("scan", None, "files")
        self._files = write_items(self._fresh(), self._folder / SCAN, self._progress)
        if not self._files + self.known:
            raise BuildError("no image files here", got=str(self._source.root), remedy=other_source(self._source))
        self._columns.check(self._folder / SCAN, self._files)
        size, free = require_room(self._folder, self._files, self._manifest.space.dim)
        if self.known:
            self._progress.note(f"{self.known:,} files are in the index already: left alone")
        if self._files:
            self._progress.note(f"{self._files:,} new files: they will take about {size}, {free} are free")
        self._change.remember({"files": self._files, "known": self.known, "folders": self._places.folders})
        return self._files

    def run(self, encoder: ImageEncoder | None) -> Added:
        """Embed, make shards, and commit."""
        encoder = encoder or self._load_encoder()
        self._manifest.space.require(encoder.space)
        folder = self._change.new_folder(EMBEDDINGS)
        done = self._embedder(folder, encoder).run(
            self._folder / SCAN, self._files, self._machine.decoders, self._progress
        )
        rejected = [item for path in sorted(folder.glob("rejected-*.parquet")) for item in read_rejected(path)]
        images = done.rows - self._manifest.rows
        if not images and self.known:
            self._change.abandon()
            return Added(self._folder, self._manifest, known=self.known, rejected=tuple(rejected))
        if not images:
            first = rejected[0]
            self._change.abandon()
            raise BuildError(f"none of the {self._files} new files can be read", got=f"{first.path!r}: {first.reason}")
        embeddings = self._embedding_manifest(folder, done, rejected)
        manifest = replace(self._sharded(embeddings), embedding_manifest=self._change.save_embeddings(embeddings))
        removed = self._removed.extended(done.rows) if self._removed.count else None
        manifest = self._change.commit(manifest, removed)
        return Added(self._folder, manifest, images, done.duplicates, self.known, tuple(rejected))

    def _fresh(self) -> Iterator[Item]:
        rest = self._source.items()
        while items := [*islice(rest, LOOKED_UP)]:
            named = {self._name(item.path): item for item in items}
            known = {path for path, _ in rows_at(self._embeddings, self._removed, named)}
            self.known += len(known)
            yield from (replace(item, path=path) for path, item in named.items() if path not in known)

    def _name(self, path: str) -> str:
        """What an image of the source is called in the index, whichever folder it was found through."""
        inside = self._places.inside(self._source.root / path) if self._is_above else None
        return self._prefix + path if inside is None else inside

    @cached_property
    def _prefix(self) -> str:
        """What comes before paths of the source; only where one needs it, the index gets another folder."""
        return self._places.prefix(self._source.root)

    def _load_encoder(self) -> ImageEncoder:
        spec = moved_heads(self._manifest.space.encoder, self._folder / HEADS)
        return load_image_encoder(spec, self._machine.runtime(self._config.precision))

    def _embedder(self, folder: Path, encoder: ImageEncoder) -> Embedder:
        known = KnownContents(self._embeddings, self._removed)
        size = self._config.part_rows(self._files)
        return _Embedder(folder, self._embeddings, known, self._places, self._columns, encoder, size)

    def _embedding_manifest(self, folder: Path, done: Embedded, rejected: Sequence[Rejected]) -> EmbeddingManifest:
        known = self._embeddings.manifest
        parts = (*known.parts, *(prefixed(entry, folder.name) for entry in done.parts))
        again = self._tried_again()
        listed = [*(item for item in self._embeddings.rejected() if item.path not in again), *rejected]
        entry = None if again or rejected else known.rejected
        if listed and entry is None:
            write_rejected(folder / REJECTED, listed)
            entry = prefixed(FileEntry.of(folder, REJECTED, len(listed)), folder.name)
        return replace(
            known,
            parts=parts,
            rows=done.rows,
            duplicates=known.duplicates + done.duplicates,
            rejected=entry,
            folders=self._places.folders,
        )

    def _tried_again(self) -> set[str]:
        """Files that could not be read once, and are read again."""
        before = {item.path for item in self._embeddings.rejected()}
        if not before:
            return set()
        starts = range(0, self._files, LOOKED_UP)
        paths = (path for start in starts for path in read_scan(self._folder / SCAN, start, start + LOOKED_UP))
        return before.intersection(paths)

    def _sharded(self, embeddings: EmbeddingManifest) -> IndexManifest:
        """The index with shards of the new rows."""
        old, config = self._manifest, self._config
        rows, folder = self._vectors(embeddings), self._change.new_folder(SHARDS)
        remove_leftovers(folder)
        empty = trained_index(self._folder, old)
        trained = old.trained or training_record(empty, self._embeddings, ~self._removed, config.seed)
        cores = self._machine.runtime(config.precision).cores
        size = plan_build(rows.rows - old.rows, empty, config.shard_size, config.build_memory, cores).shard_rows
        self._progress.start("shard", rows.rows - old.rows, "vectors")
        shards = []
        for number, start in enumerate(range(old.rows, rows.rows, size)):
            path, stop = folder / f"shard-{number:05}.faiss", min(start + size, rows.rows)
            if not path.exists():
                fill_shard(path, empty, rows.blocks(start, stop), cores)
            self._progress.advance(stop - start)
            shards.append(FileEntry.of(self._folder, f"{SHARDS}/{folder.name}/{path.name}", stop - start))
        return replace(old, shards=(*old.shards, *shards), rows=rows.rows, trained=trained)

    def _vectors(self, embeddings: EmbeddingManifest) -> VectorStore:
        return VectorStore(self._embeddings.folder, embeddings.parts, self._manifest.space.dim)


class _Embedder(Embedder):
    """Writes parts whose ids go on from those of a finished set."""

    def __init__(
        self,
        folder: Path,
        before: EmbeddingSet,
        known: KnownContents,
        places: Places,
        columns: KnownColumns,
        encoder: ImageEncoder,
        part_size: int,
    ) -> None:
        super().__init__(folder, before.root, encoder, part_size)
        self._set, self._known, self._places, self._columns = before, known, places, columns

    def _before(self) -> Embedded:
        return Embedded(rows=len(self._set))

    def _seen(self) -> SeenFiles:
        return _Seen(self._folder / ".seen.sqlite", self._known)

    def _earlier(self, done: Embedded) -> PartReader:
        new = (prefixed(entry, self._folder.name) for entry in done.parts)
        return PartReader(self._set.folder, [*self._set.manifest.parts, *new])

    def _file(self, path: str) -> Path:
        return self._places.file(path)

    def _described(self, part: int, rows: Sequence[ImageRow]) -> tuple[list[ImageRow], pa.Table | None]:
        told, more = super()._described(part, rows)
        return told, None if more is None else self._columns.fitted(more)


class _Seen(SeenFiles):
    """Files that the index knows, and those of this run."""

    def __init__(self, path: Path, known: KnownContents) -> None:
        super().__init__(path)
        self._known = known

    def first(self, sha256: str, id: int) -> int:
        known = self._known.find(sha256)
        return super().first(sha256, id) if known is None else known


def fill_shard(path: Path, empty: Any, blocks: Iterable[Float16[np.ndarray, "n d"]], threads: int) -> None:
    """Write a shard of the vectors of ``blocks`` in a copy of ``empty``, whole or not at all.

    Raises:
        BuildError: FAISS cannot.
        OSError: the disk is full.
    """
    import faiss

    faiss.omp_set_num_threads(threads)
    index = faiss.clone_index(empty)
    with explained(f"FAISS cannot make {path.name}"):
        for block in blocks:
            index.add(block.astype(np.float32))
        write_index(path, index)
