"""Build an index from images, wherever they come from; run again after a kill, it goes on where it was.

Steps, each of which leaves a file that the next run finds: the settings (``building.json``), the list of files
(``scan.parquet``), embedding parts, their manifest, FAISS shards, and last the index's manifest, which makes it whole.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from indexing.config import SHARD_SETTINGS, BuildConfig, Machine
from indexing.embed import Embedded, Embedder
from indexing.factory import empty_index
from indexing.room import require_room
from indexing.scan import write_items
from indexing.shards import TRAINED, ShardBuilder
from indexing.sources import Source, open_source, other_source
from simat.embeddings import EmbeddingSet, Rejected, read_rejected, split_path, write_rejected
from simat.encoders import load_image_encoder
from simat.encoders.combined import heads_of, moved_heads
from simat.errors import BuildError
from simat.files import locked, remove_leftovers, write_text
from simat.gpu import parse_devices
from simat.heads import load_heads, save_heads
from simat.manifest import (
    HEADS,
    NAME,
    EmbeddingManifest,
    FileEntry,
    IndexManifest,
    read_index_manifest,
    write_manifest,
)
from simat.progress import Progress, Silent
from simat.searcher import require_faiss
from simat.types import EmbeddingSpace, ImageEncoder

STATE, SCAN, EMBEDDINGS, SHARDS, REJECTED = "building.json", "scan.parquet", "embeddings", "shards", "rejected.parquet"


@dataclass(frozen=True)
class Built:
    """A finished index and what the build left out."""

    folder: Path
    manifest: IndexManifest
    rejected: list[Rejected]
    duplicates: int


def build_index(
    folder: Path,
    config: BuildConfig,
    machine: Machine | None = None,
    progress: Progress | None = None,
    encoder: ImageEncoder | None = None,
) -> Built:
    """Build, resume, or find finished the index of ``config.photos`` in ``folder``.

    Args:
        folder: new, empty, or of an earlier run with the same settings.
        config: what to build.
        machine: how many processes and threads to use.
        progress: told how far the build is.
        encoder: an encoder object, where ``config.encoder`` is no spec that can be loaded.

    Raises:
        BuildError: nothing to read, another build's folder, other settings, or a running build.
        EncoderError: the encoder cannot be loaded.
    """
    require_faiss()
    machine, progress = machine or Machine(), progress or Silent()
    _ = machine.decoders, parse_devices(machine.gpus)  # an encoder may take long to load
    source = open_source(config.photos, config.image_column, config.caption_column)
    own = encoder is not None
    encoder = encoder or load_image_encoder(config.spec, machine.runtime(config.precision))
    if config.factory != "auto":
        empty_index(encoder.space.dim, config.factory)  # what would be refused at the end is refused before any work
    created = enter(folder)
    with locked(folder):
        if (folder / NAME).exists():
            return finished(folder, config, progress)
        build = _Build(folder, source, config, machine, progress, encoder, own)
        del encoder
        try:
            return build.run()
        except NothingToIndexError:
            leave(folder, created)
            raise


class NothingToIndexError(BuildError):
    """The folder holds no image that could be read; the build left nothing behind."""


class _Build:
    """One run of a build that is not finished."""

    def __init__(
        self,
        folder: Path,
        source: Source,
        config: BuildConfig,
        machine: Machine,
        progress: Progress,
        encoder: ImageEncoder,
        own: bool,
    ) -> None:
        self._folder, self._root, self._config, self._machine = folder, source.root, config, machine
        self._progress, self._space = progress, portable(encoder.space)
        self._encoder: ImageEncoder | None = encoder
        self._source, self._own = source, own  # an object of the caller's, which no other machine can load by its spec

    def run(self) -> Built:
        remove_leftovers(self._folder)
        files = self._scan()
        if (heads := heads_of(self._config.spec)) is not None:
            save_heads(self._folder / HEADS, load_heads(heads))
        for name in (EMBEDDINGS, SHARDS):
            (self._folder / name).mkdir(exist_ok=True)
        if not (self._folder / EMBEDDINGS / NAME).exists():
            self._embed(files)
        self._encoder = None  # its memory is free for the shards
        return complete(self._folder, self._config, self._machine, self._progress)

    def _scan(self) -> int:
        """Settings and list of files: an earlier run's where there is one, so that both runs write the same."""
        space = self._space
        wanted = {"config": self._config.as_dict(), "space": [space.encoder, space.fingerprint, space.dim, space.heads]}
        state = self._folder / STATE
        if state.exists():
            known: dict[str, Any] = json.loads(state.read_bytes())
            other_shards = allow_other_shards(self._folder, known["config"], self._config)
            require_same(known, wanted, self._folder)
            self._root = Path(known.get("root", self._root))  # the list is relative to it, whatever the source says now
            if other_shards:
                write_text(state, json.dumps({**known, **wanted}, indent=1))
            return int(known["files"])
        self._progress.start("scan", None, "files")
        files = write_items(self._source.items(), self._folder / SCAN, self._progress)
        if unread := self._source.unread:
            self._progress.note(f"{unread:,} files beside images, or values of tables, cannot be read: left out")
        if not files:
            raise NothingToIndexError("no image files here", got=self._config.photos, remedy=other_source(self._source))
        size, free = require_room(self._folder, files, space.dim)
        self._progress.note(f"{files:,} image files: the index will take about {size}, {free} are free")
        write_text(state, json.dumps({**wanted, "files": files, "root": str(self._root)}, indent=1))
        return files

    def _embed(self, files: int) -> None:
        folder = self._folder / EMBEDDINGS
        assert self._encoder is not None
        embedder = self._embedder(folder, self._encoder, self._config.part_rows(files))
        done = embedder.run(self._folder / SCAN, files, self._machine.decoders, self._progress)
        rejected = self._gather_rejected(folder)
        if not done.rows:
            raise NothingToIndexError(
                f"none of the {files} image files can be read", got=f"{rejected[0].path!r}: {rejected[0].reason}"
            )
        write_manifest(folder, self._manifest(folder, done, len(rejected)))

    def _embedder(self, folder: Path, encoder: ImageEncoder, part_size: int) -> Embedder:
        if self._machine.engine == "local":
            return Embedder(folder, self._root, encoder, part_size)
        from indexing.ray_engine import RayEmbedder

        config = replace(self._config, part_size=part_size)
        return RayEmbedder(folder, self._root, encoder, config, self._machine, self._own)

    def _gather_rejected(self, folder: Path) -> list[Rejected]:
        """One list from those of the parts, which stay until the build is whole: it may be killed here."""
        rejected = [item for path in sorted(folder.glob("rejected-*.parquet")) for item in read_rejected(path)]
        if rejected:
            write_rejected(folder / REJECTED, rejected)
        return rejected

    def _manifest(self, folder: Path, done: Embedded, rejected: int) -> EmbeddingManifest:
        entry = FileEntry.of(folder, REJECTED, rejected) if rejected else None
        return EmbeddingManifest(
            self._space,
            str(self._root),
            tuple(done.parts),
            done.rows,
            done.duplicates,
            entry,
            self._config.embedding_settings(),
        )


def portable(space: EmbeddingSpace) -> EmbeddingSpace:
    """The space under a spec whose heads, where it has any, are those that lie in the index itself."""
    return replace(space, encoder=moved_heads(space.encoder, Path(HEADS)))


def complete(folder: Path, config: BuildConfig, machine: Machine, progress: Progress) -> Built:
    """The last steps of a build: shards over the finished embedding set in ``folder``, and the manifest."""
    (folder / SHARDS).mkdir(exist_ok=True)
    embeddings = EmbeddingSet(folder / EMBEDDINGS)
    space = embeddings.manifest.space
    resolved = config.resolved(len(embeddings), space.dim)
    cores = machine.runtime(config.precision).cores
    shards = ShardBuilder(folder / SHARDS, embeddings, resolved, cores, parse_devices(machine.gpus)).run(progress)
    manifest = IndexManifest(
        space,
        EMBEDDINGS,
        resolved.factory,
        shards.entries,
        len(embeddings),
        shards.search,
        shards.recall,
        config.as_dict(),
    )
    write_manifest(folder, manifest)
    _tidy(folder)
    return Built(folder, manifest, embeddings.rejected(), embeddings.manifest.duplicates)


def allow_other_shards(folder: Path, known: dict[str, Any], config: BuildConfig) -> bool:
    """Let a build that has no shard yet go on with other shard settings: FAISS may have refused the first.

    Args:
        folder: of the index.
        known: settings that it was begun with; they become those of ``config`` where that is allowed.
        config: settings wanted now.
    """
    wanted = {name: config.as_dict()[name] for name in SHARD_SETTINGS}
    shards = folder / SHARDS
    if wanted.items() <= known.items() or any(shards.glob("shard-*.faiss")):
        return False
    (shards / TRAINED).unlink(missing_ok=True)
    known.update(wanted)
    return True


def enter(folder: Path) -> bool:
    """Make the folder, or accept one that is empty or ours; tells whether it was made."""
    if split_path(str(folder))[1] is not None:  # pyarrow opens no other
        raise BuildError("the path of an index must be UTF-8 text", got=str(folder))
    if folder.exists() and not folder.is_dir():
        raise BuildError("the index must be a folder", got=str(folder))
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    ours = {STATE, NAME, SCAN, ".lock"}
    names = {path.name for path in folder.iterdir()}
    if names and not names & ours:
        raise BuildError("the folder holds something else", got=str(folder), remedy="give a new or empty folder")
    return created


def leave(folder: Path, created: bool) -> None:
    """Remove what a build that has nothing to index has left behind, and the folder where it was ``created``."""
    for name in (STATE, SCAN, ".lock"):
        (folder / name).unlink(missing_ok=True)
    for name in (EMBEDDINGS, SHARDS, HEADS):
        shutil.rmtree(folder / name, ignore_errors=True)
    if created:
        folder.rmdir()


def _tidy(folder: Path) -> None:
    """Remove what only an unfinished build needs."""
    for path in [folder / STATE, folder / SCAN, folder / SHARDS / TRAINED]:
        path.unlink(missing_ok=True)
    for path in (folder / EMBEDDINGS).glob("rejected-*.parquet"):
        path.unlink()


def finished(folder: Path, config: BuildConfig, progress: Progress) -> Built:
    """A build that was whole already."""
    manifest = read_index_manifest(folder)
    require_same({"config": dict(manifest.config)}, {"config": config.as_dict()}, folder)
    _tidy(folder)
    embeddings = EmbeddingSet.of_index(folder, manifest)
    progress.note(f"already built: {manifest.images:,} images")
    return Built(folder, manifest, embeddings.rejected(), embeddings.manifest.duplicates)


def require_same(known: dict[str, Any], wanted: dict[str, Any], folder: Path) -> None:
    """Refuse to go on with a folder that was begun with other settings or another space."""
    old, new = {**BuildConfig("").as_dict(), **known["config"]}, wanted["config"]  # older builds knew fewer settings
    changed = [f"{name} {old[name]!r} -> {new[name]!r}" for name in new if old[name] != new[name]]
    if changed or ("space" in wanted and known.get("space") != wanted["space"]):
        raise BuildError(
            f"{folder} was begun with other settings",
            got=", ".join(changed) or "other weights of the encoder",
            remedy="repeat the same settings, or give a new folder",
        )
