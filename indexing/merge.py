"""One index of the images of several."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from indexing.build import EMBEDDINGS, REJECTED, STATE, Built, complete, enter, finished, portable, require_same
from indexing.compact import config_of
from indexing.config import BuildConfig, Machine
from indexing.places import Places
from indexing.rewrite import Kept, count_duplicates, write_parts
from indexing.room import require_room
from simat.embeddings import EmbeddingSet, PartReader, Rejected, join_path, write_rejected
from simat.errors import BuildError, SpaceMismatchError
from simat.files import locked, remove_leftovers, sha256_text, write_text
from simat.heads import load_heads, save_heads
from simat.manifest import (
    HEADS,
    NAME,
    EmbeddingManifest,
    FileEntry,
    IndexManifest,
    of_one_generation,
    write_manifest,
)
from simat.progress import Progress, Silent
from simat.searcher import require_faiss
from simat.selection import Selection
from simat.tombstones import read_removed
from simat.types import EmbeddingSpace

if TYPE_CHECKING:
    import pyarrow as pa


def merge_indexes(
    sources: Sequence[Path], out: Path, machine: Machine | None = None, progress: Progress | None = None
) -> Built:
    """Write an index of all images of ``sources`` that are not removed; those of a file that several hold, once.

    Ids are given anew, in the order of the sources; every path leads to the file that it led to before.

    Args:
        sources: indexes in one space; they stay as they are.
        out: new, empty, or of an earlier run with the same arguments.

    Raises:
        SpaceMismatchError: the indexes are of different spaces.
        BuildError: there are none, ``out`` holds something else, or the disk is too full.
        StorageError: no index, or damaged.
    """
    require_faiss()
    machine, progress = machine or Machine(), progress or Silent()
    if not sources:
        raise BuildError("give the indexes to merge, and where to")
    opened = [of_one_generation(folder, partial(_Source, folder)) for folder in sources]
    for one in opened[1:]:
        _require_same_space(opened[0], one)
    config = config_of(opened[0].manifest)
    enter(out)
    with locked(out):
        if (out / NAME).exists():
            if not (out / STATE).exists():
                raise BuildError("there is an index here already", got=str(out), remedy="give a new folder")
            _begin(out, opened, config)
            return finished(out, config, progress)
        remove_leftovers(out)
        _begin(out, opened, config)
        if (heads := opened[0].folder / HEADS).exists():
            save_heads(out / HEADS, load_heads(heads))
        if not (out / EMBEDDINGS / NAME).exists():
            _write_embeddings(opened, out / EMBEDDINGS, config, progress)
        return complete(out, config, machine, progress)


class _Source:
    """An index to merge.

    Attributes:
        folder: of the index.
        manifest: of the index.
        embeddings: its images.
        live: the rows that are not removed.
    """

    def __init__(self, folder: Path, manifest: IndexManifest) -> None:
        self.folder, self.manifest = folder, manifest
        self.embeddings = EmbeddingSet.of_index(folder, manifest)
        removed = read_removed(folder, manifest)
        self.live = Selection.every(manifest.rows) if removed is None else ~removed

    @property
    def space(self) -> EmbeddingSpace:
        """Where its vectors live."""
        return self.manifest.space

    @property
    def digest(self) -> str:
        """Of its manifest as it was read, whatever has become of the index since."""
        return sha256_text(json.dumps(asdict(self.manifest), sort_keys=True))


def _require_same_space(first: _Source, other: _Source) -> None:
    try:
        first.space.require(other.space)
    except SpaceMismatchError as error:
        raise SpaceMismatchError(
            f"{first.folder} holds vectors of {first.space}",
            got=f"{other.folder} of {other.space}",
            remedy="build both with the same encoder",
        ) from error


def _begin(out: Path, sources: Sequence[_Source], config: BuildConfig) -> None:
    """Remember what this run makes, or find that an earlier one made the same."""
    space = sources[0].space
    wanted = {
        "config": config.as_dict(),
        "space": [space.encoder, space.fingerprint, space.dim, space.heads],
        "sources": [source.digest for source in sources],
    }
    state = out / STATE
    if state.exists():
        known = json.loads(state.read_bytes())
        require_same(known, wanted, out)
        if known.get("sources") != wanted["sources"]:
            raise BuildError(f"{out} was begun from other indexes", remedy="give a new folder")
        return
    require_room(out, sum(source.live.count for source in sources), space.dim)
    write_text(state, json.dumps(wanted, indent=1))


def _write_embeddings(sources: Sequence[_Source], folder: Path, config: BuildConfig, progress: Progress) -> None:
    first = sources[0].embeddings
    places = Places.of(first)
    names = _Names()
    kept: list[Kept] = []
    rejected: dict[str, Rejected] = {}
    for source in sources:
        rename = _Renaming(source.embeddings, places)
        rows = names.new(source, rename)
        again = source.live.count - rows.count
        if again:
            progress.note(f"{again:,} images of {source.folder} are in the index already: taken once")
        kept.append(Kept(source.embeddings, rows, None if source is sources[0] else rename))
        for item in source.embeddings.rejected():
            name = rename(item.path)
            rejected.setdefault(name, Rejected(name, item.reason))
    size = config.part_rows(sum(one.rows.count for one in kept))
    parts = write_parts(kept, folder, size, progress)
    if rejected:
        write_rejected(folder / REJECTED, [*rejected.values()])
    write_manifest(
        folder,
        EmbeddingManifest(
            portable(sources[0].space),
            str(first.root),
            tuple(parts),
            sum(part.rows for part in parts),
            count_duplicates(PartReader(folder, parts)),
            FileEntry.of(folder, REJECTED, len(rejected)) if rejected else None,
            config.embedding_settings(),
            places.folders,
        ),
    )


class _Renaming:
    """Gives a path of one embedding set its name in the new one."""

    def __init__(self, embeddings: EmbeddingSet, places: Places) -> None:
        self._places, self._above = places, embeddings.root if places.is_above(embeddings.root) else None
        self._root = places.prefix(embeddings.root)
        folders = embeddings.manifest.folders
        self._prefixes = {name: places.prefix(Path(folder)) for name, folder in folders.items()}

    def __call__(self, path: str) -> str:
        name, _, rest = path.partition("/")
        if name in self._prefixes:
            return self._prefixes[name] + rest
        inside = None if self._above is None else self._places.inside(self._above / path)
        return self._root + path if inside is None else inside


class _Names:
    """The files that are in the new index so far, by 128 bits of their names."""

    def __init__(self) -> None:
        self._known: list[pa.Array] = []

    def new(self, source: _Source, rename: _Renaming) -> Selection:
        """The rows of ``source`` that are not removed and whose files were not in yet; they are from now on."""
        import pyarrow as pa
        import pyarrow.compute as pc

        keys: list[pa.Array] = []
        for table in source.embeddings.tables(["path", "path_bytes"]):
            names = zip(table["path"].to_pylist(), table["path_bytes"].to_pylist(), strict=True)
            # A vector without any file has no key.
            found = [_key(rename(join_path(shown, raw))) if shown else None for shown, raw in names]
            keys.append(pa.array(found, pa.binary(16)))
        digests, rows = pa.chunked_array(keys, pa.binary(16)), source.live.mask()
        for known in self._known:
            rows &= ~pc.is_in(digests, value_set=known).to_numpy()
        self._known.append(digests.filter(pa.array(rows)).drop_null().combine_chunks())
        return Selection.of(rows)


def _key(name: str) -> bytes:
    return hashlib.blake2b(os.fsencode(name), digest_size=16).digest()
