"""Take images out of an index: at once, and without rewriting any of it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from indexing.generations import Change, changing
from indexing.known import rows_at
from indexing.places import Places
from simat.errors import BuildError
from simat.manifest import IndexManifest
from simat.selection import Selection


@dataclass(frozen=True)
class Removed:
    """What a removal did.

    Attributes:
        folder: the index.
        manifest: as it is now.
        count: images that are gone since.
    """

    folder: Path
    manifest: IndexManifest
    count: int


def remove_images(
    folder: Path,
    *,
    where: str | None = None,
    ids: Int64[np.ndarray, " n"] | None = None,
    paths: Sequence[str] | None = None,
) -> Removed:
    """Remove images that are chosen in one of three ways; ids of the others stay as they are.

    Args:
        folder: the index.
        where: an expression over the metadata, as in :mod:`simat.where`.
        ids: of the images; those removed earlier do not matter.
        paths: of the images: relative to the index's root, or absolute.

    Raises:
        QueryError: the expression is none, or an id is not there.
        BuildError: none or several of the three are given, a path is not there, or nothing would be left.
        StorageError: no index, or damaged.
    """
    if sum(given is not None for given in (where, ids, paths)) != 1:
        raise BuildError("say which images to remove in one way", remedy="give --where, --ids or --paths")
    with changing(folder) as change:
        before = change.removed()
        if ids is not None:
            chosen = Selection.of_ids(ids, change.manifest.rows)
        else:
            chosen = _where(change, where) if where is not None else _at_paths(change, paths or ())
        return commit_removal(change, before | chosen)


def commit_removal(change: Change, after: Selection) -> Removed:
    """Make ``after`` the removed rows of the index, unless they are already.

    Raises:
        BuildError: nothing would be left.
    """
    count = after.count - change.removed().count
    if after.count == change.manifest.rows:
        raise BuildError("no image would be left", got=str(change.folder), remedy="delete the folder of the index")
    manifest = change.commit(change.manifest, removed=after) if count else change.manifest
    return Removed(change.folder, manifest, count)


def read_ids(file: Path) -> Int64[np.ndarray, " n"]:
    """Ids from a text file, one a line.

    Raises:
        BuildError: it cannot be read, or a line is no id.
    """
    ids = []
    for number, line in _lines(file):
        if not re.fullmatch(r"\s*-?\d{1,30}\s*", line, re.ASCII):
            raise BuildError(f"line {number} of {file} is no id", got=repr(line), remedy="give one id a line")
        ids.append(int(line))
    wrong = next((id for id in ids if not 0 <= id < 2**63), None)
    if wrong is not None:
        raise BuildError(f"{file} names an image that cannot be", got=wrong)
    return np.array(ids, np.int64)


def read_paths(file: Path) -> list[str]:
    """Paths from a text file, one a line.

    Raises:
        BuildError: it cannot be read.
    """
    return [line for _, line in _lines(file)]


def _lines(file: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        lines = [os.fsdecode(line).removesuffix("\r") for line in file.read_bytes().split(b"\n")]
    except OSError as error:
        raise BuildError(f"cannot read the list: {error.strerror}", got=str(file)) from error
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _where(change: Change, text: str) -> Selection:
    from simat.where import Filter

    return Filter.parse(text).select(change.embeddings(), change.manifest.rows)


def _at_paths(change: Change, paths: Sequence[str]) -> Selection:
    embeddings = change.embeddings()
    places = Places.of(embeddings)
    names = {places.name(path): path for path in paths}
    found = [*rows_at(embeddings, change.removed(), names)]
    missing = sorted(names.keys() - {name for name, _ in found})
    if missing:
        raise BuildError(
            f"{len(missing)} of {len(names)} images are not in the index",
            got=repr(names[missing[0]]),
            remedy=f"paths are relative to {embeddings.root}, or absolute",
        )
    return Selection.of_ids(np.array([id for _, id in found], np.int64), change.manifest.rows)
