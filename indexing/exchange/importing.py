"""An index of vectors that others made, without encoding an image; a killed import goes on at the part it was in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from indexing.build import (
    EMBEDDINGS,
    STATE,
    Built,
    NothingToIndexError,
    allow_other_shards,
    complete,
    enter,
    finished,
    leave,
    portable,
    require_same,
)
from indexing.config import BuildConfig, Machine
from indexing.exchange.importer import Importer, Wanted
from indexing.exchange.opening import Source, open_source
from indexing.factory import empty_index
from indexing.room import require_room
from simat.encoders import load_image_encoder
from simat.encoders.combined import heads_of
from simat.encoders.unknown import is_unknown, unknown_space
from simat.errors import BuildError, SimatError, SpaceMismatchError
from simat.files import locked, remove_leftovers, sha256_text, write_text
from simat.heads import load_heads, save_heads
from simat.manifest import HEADS, NAME
from simat.progress import Progress, Silent
from simat.searcher import require_faiss
from simat.types import EmbeddingSpace, ImageEncoder

PART_ROWS = 2**16  # rows of a part: 400 million vectors make some six thousand files


def import_index(
    path: Path,
    out: Path,
    wanted: Wanted | None = None,
    settings: BuildConfig | None = None,
    machine: Machine | None = None,
    progress: Progress | None = None,
    encoder: ImageEncoder | None = None,
) -> Built:
    """Index a folder of vectors in the layout of clip-retrieval, of Parquet files, or of Lance.

    Args:
        path: the folder; it stays as it is.
        out: new, empty, or of an earlier run with the same arguments.
        wanted: how the vectors are read.
        settings: of the shards; parts have ``PART_ROWS`` rows unless they say otherwise.
        encoder: an encoder object, where the spec is none that can be loaded.

    Raises:
        BuildError: no vectors, ``out`` holds something else, or the disk is too full.
        StorageError: files that are damaged or do not fit together, or vectors that are no unit rows.
        SpaceMismatchError: the encoder makes vectors of another dimension.
    """
    require_faiss()
    wanted, machine, progress = wanted or Wanted(), machine or Machine(), progress or Silent()
    settings = settings or BuildConfig("", part_size=PART_ROWS)
    source = open_source(path, wanted.column, wanted.modality)
    encoder = encoder or _loaded(wanted, settings, machine)
    space = _space(source, f"{path.absolute()} {wanted.column}", encoder)
    config = replace(settings, photos=str(path.absolute()), encoder=space.encoder)
    if config.factory != "auto":
        empty_index(space.dim, config.factory)
    created = enter(out)
    with locked(out):
        if (out / NAME).exists():
            return finished(out, config, progress)
        remove_leftovers(out)
        _begin(out, source, config, space, wanted)
        if space.heads is not None:
            save_heads(out / HEADS, load_heads(_heads(source, wanted)))
        if not (out / EMBEDDINGS / NAME).exists():
            (out / EMBEDDINGS).mkdir(exist_ok=True)
            importer = Importer(source, out / EMBEDDINGS, config, space, wanted, progress)
            try:
                importer.run(encoder)
            except SimatError as error:
                if isinstance(error, NothingToIndexError) or not importer.has_parts:
                    leave(out, created)  # the next try may have other arguments
                raise
        return complete(out, config, machine, progress)


def _loaded(wanted: Wanted, settings: BuildConfig, machine: Machine) -> ImageEncoder | None:
    if wanted.encoder is None:
        return None
    return load_image_encoder(wanted.encoder, machine.runtime(settings.precision))


def _space(source: Source, origin: str, encoder: ImageEncoder | None) -> EmbeddingSpace:
    """Where the vectors live, as far as anyone knows: those of one ``origin`` lie in one space."""
    dim, own = source.vectors.dim, source.card.space if source.card else None
    if encoder is None:
        return own or unknown_space(dim, origin)
    if encoder.space.dim != dim:
        raise SpaceMismatchError(
            f"the vectors in {source.vectors.where} are {dim}-d",
            got=f"the encoder {encoder.space}",
            remedy="name the encoder that made them with --encoder",
        )
    if own is None or is_unknown(own):
        return portable(encoder.space)
    own.require(encoder.space)
    return own


def _heads(source: Source, wanted: Wanted) -> Path:
    """Where the heads are that the vectors went through: of the encoder, in the export, or beside the parts."""
    named = heads_of(wanted.encoder) if wanted.encoder else None
    places = [named] if named else [source.folder / HEADS, source.folder.parent / HEADS]
    return next((place for place in places if place.is_dir()), places[0])


def _begin(out: Path, source: Source, config: BuildConfig, space: EmbeddingSpace, wanted: Wanted) -> None:
    """Remember what this run makes, or find that an earlier one made the same."""
    known: dict[str, Any] = {
        "config": config.as_dict(),
        "space": [space.encoder, space.fingerprint, space.dim, space.heads],
        "source": [sha256_text("\n".join(source.vectors.state())), str(wanted.root), wanted.column, wanted.normalise],
    }
    state = out / STATE
    if state.exists():
        before = json.loads(state.read_bytes())
        other_shards = allow_other_shards(out, before["config"], config)
        require_same(before, known, out)
        if before.get("source") != known["source"]:
            raise BuildError(f"{out} was begun from other vectors", remedy="give a new folder")
        if other_shards:
            write_text(state, json.dumps(known, indent=1))
        return
    require_room(out, len(source.vectors), space.dim)
    write_text(state, json.dumps(known, indent=1))
