"""Give a finished index new heads without encoding an image again: every stored vector goes through the image head.

A killed run goes on at the part it was in, as a build does.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexing.build import (
    EMBEDDINGS,
    REJECTED,
    STATE,
    Built,
    complete,
    enter,
    finished,
    portable,
    require_same,
)
from indexing.compact import config_of
from indexing.config import BuildConfig, Machine
from indexing.room import require_room
from simat.embeddings import EmbeddingSet, embedding_column, write_projected, write_rejected
from simat.encoders import load_tower
from simat.errors import BuildError, SpaceMismatchError
from simat.files import locked, remove_leftovers, sha256_file, sha256_text, write_text
from simat.heads import Heads, load_heads, save_heads
from simat.manifest import HEADS, NAME, EmbeddingManifest, FileEntry, read_index_manifest, write_manifest
from simat.progress import Progress, Silent
from simat.searcher import require_faiss
from simat.types import EmbeddingSpace


def project_index(
    source: Path, heads: Path, out: Path, machine: Machine | None = None, progress: Progress | None = None
) -> Built:
    """Write the index of the same images after ``heads``; ``source`` stays as it is.

    Args:
        source: an index in the encoder's own space.
        heads: a folder of heads that follow the encoder's image tower.
        out: new, empty, or of an earlier run with the same arguments.

    Raises:
        SpaceMismatchError: the heads were made for another encoder.
        BuildError: the index has heads already, or removed images, ``out`` holds something else, or the disk is too
            full.
        StorageError: no index, or no heads.
    """
    require_faiss()
    machine, progress = machine or Machine(), progress or Silent()
    manifest, loaded = read_index_manifest(source), load_heads(heads)
    if manifest.removed is not None:
        raise BuildError(
            "images were removed from this index", got=str(source), remedy="run 'simat index compact' on it first"
        )
    embeddings = EmbeddingSet.of_index(source, manifest)
    space = portable(projected_space(manifest.space, loaded))
    config = replace(config_of(manifest), heads=str(heads.absolute()))
    enter(out)
    with locked(out):
        if (out / NAME).exists():
            return finished(out, config, progress)
        remove_leftovers(out)
        _begin(out, embeddings, manifest.embedding_manifest, config, space)
        save_heads(out / HEADS, loaded)
        if not (out / EMBEDDINGS / NAME).exists():
            _project(embeddings, loaded, out / EMBEDDINGS, space, config, progress)
        return complete(out, config, machine, progress)


def projected_space(space: EmbeddingSpace, heads: Heads) -> EmbeddingSpace:
    """The space of an index in ``space`` after ``heads``.

    Raises:
        BuildError: it has heads already.
        SpaceMismatchError: the heads follow another image tower.
    """
    if space.heads is not None:
        raise BuildError(
            "the index has heads already", got=str(space), remedy="project the index without heads that it came from"
        )
    before, after = heads.image_space, heads.text_space
    spec = f"combined:image={before.encoder},text={after.encoder},heads={HEADS}"
    if space.fingerprint == sha256_text(f"{before.fingerprint}\n{after.fingerprint}") and space.dim == before.dim:
        return heads.space(spec, before, after)
    try:
        heads.check(space, after)
    except SpaceMismatchError as error:
        raise SpaceMismatchError(
            f"the heads follow the image space {before}",
            got=f"an index of {space}",
            remedy=f"project an index built with {before.encoder}, or train heads for {space.encoder}",
        ) from error
    return heads.space(spec, space, space if before.encoder == after.encoder else _text_space(after))


def _text_space(space: EmbeddingSpace) -> EmbeddingSpace:
    """The text tower's space as an encoder will tell it: imported heads know theirs by its spec only."""
    from simat.heads import UNKNOWN

    return load_tower(space.encoder).space if space.fingerprint == UNKNOWN else space


def _begin(out: Path, embeddings: EmbeddingSet, name: str, config: BuildConfig, space: EmbeddingSpace) -> None:
    """Remember what this run makes, or find that an earlier one made the same."""
    wanted = {
        "config": config.as_dict(),
        "space": [space.encoder, space.fingerprint, space.dim, space.heads],
        "source": sha256_file(embeddings.folder / name),
    }
    state = out / STATE
    if state.exists():
        known = json.loads(state.read_bytes())
        require_same(known, wanted, out)
        if known.get("source") != wanted["source"]:
            raise BuildError(f"{out} was begun from another index", remedy="give a new folder")
        return
    require_room(out, len(embeddings), space.dim)
    write_text(state, json.dumps(wanted, indent=1))


def _project(
    source: EmbeddingSet, heads: Heads, folder: Path, space: EmbeddingSpace, config: BuildConfig, progress: Progress
) -> None:
    import pyarrow.parquet as pq

    folder.mkdir(exist_ok=True)
    remove_leftovers(folder)
    progress.start("project", len(source), "vectors")
    parts = []
    for number, entry in enumerate(source.manifest.parts):
        name = f"part-{number:06}.parquet"
        if not (folder / name).exists():
            table = pq.read_table(source.folder / entry.name)
            vectors = heads.project_images(embedding_column(table).astype(np.float32))
            write_projected(folder / name, table, vectors)
        parts.append(FileEntry.of(folder, name, entry.rows))
        progress.advance(entry.rows)
    known = source.manifest
    rejected = None
    if known.rejected is not None:
        write_rejected(folder / REJECTED, source.rejected())
        rejected = FileEntry.of(folder, REJECTED, known.rejected.rows)
    settings = config.embedding_settings()
    write_manifest(
        folder,
        EmbeddingManifest(
            space, str(source.root), tuple(parts), known.rows, known.duplicates, rejected, settings, known.folders
        ),
    )
