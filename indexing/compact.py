"""Drop the rows of removed images, even out small parts and shards, and train anew where that has become worth it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from indexing.build import EMBEDDINGS, SHARDS
from indexing.config import BuildConfig, Machine
from indexing.drift import reasons_to_train, trained_index, training_record
from indexing.factory import empty_index, training_size
from indexing.generations import COMPACT, Change, changing, prefixed, refuse_unfinished, require_own_embeddings
from indexing.plan import plan_build
from indexing.rewrite import Kept, count_duplicates, write_parts
from indexing.room import require_room
from indexing.shards import TRAINED, ShardBuilder, write_index
from simat.embeddings import EmbeddingSet, PartReader
from simat.files import sha256_file
from simat.manifest import NAME, IndexManifest
from simat.progress import Progress, Silent
from simat.selection import Selection

SMALL_PARTS = 2  # times as many parts as there need be are too many


@dataclass(frozen=True)
class Compacted:
    """What a compaction did.

    Attributes:
        folder: the index.
        manifest: as it is now.
        reasons: why it was rewritten; none where it was not.
        retrained: why it was trained anew; none where it was not.
    """

    folder: Path
    manifest: IndexManifest
    reasons: tuple[str, ...] = ()
    retrained: tuple[str, ...] = ()


def compact_index(
    folder: Path, machine: Machine | None = None, progress: Progress | None = None, retrain: bool | None = None
) -> Compacted:
    """Rewrite the index in ``folder`` without what is removed; ids change, and nothing else does.

    Args:
        folder: the index.
        machine: how many threads to use.
        progress: told how far it is.
        retrain: whether the shards are trained anew; None where :mod:`indexing.drift` says so.

    Raises:
        BuildError: another process changes it, images were being added to it, or the disk is too full.
        StorageError: no index, or damaged.
    """
    with changing(folder) as change:
        refuse_unfinished(change)
        require_own_embeddings(change)
        return _Compaction(change, machine or Machine(), progress or Silent(), retrain).run()


def config_of(manifest: IndexManifest) -> BuildConfig:
    """What the index was built with; settings that this version does not know are left out."""
    names = {field.name for field in fields(BuildConfig)}
    return BuildConfig(**{name: value for name, value in manifest.config.items() if name in names})


class _Compaction:
    """One run over one index."""

    def __init__(self, change: Change, machine: Machine, progress: Progress, retrain: bool | None) -> None:
        self._change, self._progress, self._retrain = change, progress, retrain
        self._folder, self._manifest = change.folder, change.manifest
        self._config = config_of(change.manifest)
        self._embeddings, self._live = change.embeddings(), ~change.removed()
        self._cores = machine.runtime(self._config.precision).cores

    def run(self) -> Compacted:
        why_train = self._reasons_to_train()
        why_parts, why_shards = self._reasons_for_parts(), self._reasons_for_shards()
        reasons = (*why_parts, *(one for one in why_shards if one not in why_parts))
        if not (reasons or why_train):
            return Compacted(self._folder, self._manifest)
        for reason in (*reasons, *(f"trained anew: {one}" for one in why_train)):
            self._progress.note(reason)
        self._begin(bool(why_train))
        embeddings = self._rewritten() if why_parts else None
        manifest = self._sharded(embeddings, bool(why_train))
        return Compacted(self._folder, self._change.commit(manifest), reasons, tuple(why_train))

    def _begin(self, train: bool) -> None:
        what = {"change": COMPACT, "base": sha256_file(self._folder / NAME), "train": train}
        if not self._change.is_begun(what):
            require_room(self._folder, self._live.count, self._manifest.space.dim)
        self._change.begin(what)

    def _reasons_to_train(self) -> list[str]:
        if self._retrain is False:
            return []
        index = trained_index(self._folder, self._manifest)
        reasons = reasons_to_train(self._manifest, self._config, index, self._embeddings, self._live)
        return reasons or (["asked for"] if self._retrain else [])

    def _reasons_for_parts(self) -> list[str]:
        gone, parts = self._manifest.rows - self._live.count, len(self._embeddings.counts)
        enough = -(-self._live.count // self._config.part_rows(self._live.count))
        small = f"{parts} parts where {enough} suffice"
        return [*([f"{gone:,} removed images"] * bool(gone)), *([small] * (parts >= SMALL_PARTS * enough > 0))]

    def _reasons_for_shards(self) -> list[str]:
        gone, shards = self._manifest.rows - self._live.count, len(self._manifest.shards)
        empty = empty_index(self._manifest.space.dim, self._manifest.factory)
        settings = (self._config.shard_size, self._config.build_memory, self._cores)
        enough = -(-self._live.count // plan_build(self._live.count, empty, *settings).shard_rows)
        small = f"{shards} shards where {enough} suffice"
        return [*([f"{gone:,} removed images"] * bool(gone)), *([small] * (shards > enough))]

    def _rewritten(self) -> str:
        """New parts and their manifest; gives its name."""
        folder = self._change.new_folder(EMBEDDINGS)
        kept = [Kept(self._embeddings, self._live)]
        parts = write_parts(kept, folder, self._config.part_rows(self._live.count), self._progress)
        entries = tuple(prefixed(entry, folder.name) for entry in parts)
        duplicates = count_duplicates(PartReader(folder.parent, entries))
        known = self._embeddings.manifest
        return self._change.save_embeddings(replace(known, parts=entries, rows=self._live.count, duplicates=duplicates))

    def _sharded(self, embeddings: str | None, train: bool) -> IndexManifest:
        """The index over the rewritten set, or over the one there is."""
        name = embeddings or self._manifest.embedding_manifest
        rows = EmbeddingSet(self._folder / self._manifest.embeddings, name=name)
        folder = self._change.new_folder(SHARDS)
        config = replace(self._config, factory=self._manifest.factory)
        if train:
            config = self._config.resolved(len(rows), rows.manifest.space.dim)
        else:
            self._keep_training(folder)
        shards = ShardBuilder(folder, rows, config, self._cores).run(self._progress)
        manifest = replace(
            self._manifest,
            embedding_manifest=name,
            factory=config.factory,
            shards=tuple(prefixed(entry, SHARDS) for entry in shards.entries),
            rows=len(rows),
            search=shards.search,
            recall=shards.recall,
            removed=None,
        )
        if train:
            index, every = trained_index(self._folder, manifest), Selection.every(len(rows))
            manifest = replace(manifest, trained=training_record(index, rows, every, config.seed))
        return manifest

    def _keep_training(self, folder: Path) -> None:
        """Let the shards be made as the old ones were trained."""
        path = folder / TRAINED
        if training_size(empty_index(self._manifest.space.dim, self._manifest.factory)) and not path.exists():
            write_index(path, trained_index(self._folder, self._manifest))
