"""Adding and removing 1 % of an index, and compacting it, against building it anew.

With photos: everything from files to shards. With ``--vectors``: what is left when nothing has to be encoded.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from benchmarks.common import Facts, cores, parser, run, temporary_folder, timed
from indexing.add import add_images
from indexing.build import EMBEDDINGS, build_index, complete
from indexing.compact import compact_index
from indexing.config import BuildConfig, Machine
from indexing.merge import merge_indexes
from indexing.remove import remove_images
from simat.embeddings import ImageRow, write_part
from simat.errors import SimatError
from simat.images import SUFFIXES
from simat.manifest import EmbeddingManifest, FileEntry, write_manifest
from simat.progress import Silent
from simat.types import EmbeddingSpace

SHARE, PART, CENTRES, SEED = 100, 65_536, 4096, 0


def of_photos(place: Path, photos: Path, encoder: str) -> Facts:
    """An index of photographs, to which 1 % are added."""
    chosen = [path for path in sorted(photos.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if len(chosen) < 2 * SHARE:
        raise SimatError(f"give a folder of at least {2 * SHARE} photos", got=str(photos))
    for number, path in enumerate(chosen):
        folder = place / ("photos" if number % SHARE else "more")
        folder.mkdir(exist_ok=True)
        shutil.copy(path, folder / f"{number:06}{path.suffix}")
    machine, index = Machine(cores()), place / "index"
    build_index(index, BuildConfig(str(place / "photos"), encoder=encoder), machine)
    adding = timed(lambda: add_images(index, str(place / "more"), machine))
    removing = timed(lambda: remove_images(index, ids=np.arange(0, len(chosen), SHARE)))
    compacting = timed(lambda: compact_index(index, machine))
    shutil.copytree(place / "more", place / "photos" / "more")
    config = BuildConfig(str(place / "photos"), encoder=encoder)
    rebuilding = timed(lambda: build_index(place / "anew", config, machine))
    return {
        "images": len(chosen),
        "rebuild_s": rebuilding,
        "add_s": adding,
        "remove_s": removing,
        "compact_s": compacting,
        "rebuild_over_add": rebuilding / adding,
        "rebuild_over_remove": rebuilding / removing,
    }


def vectors_in(folder: Path, count: int, dim: int) -> None:
    """An embedding set of ``count`` clustered unit rows without pictures."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(SEED)
    centres, entries = rng.normal(size=(CENTRES, dim)), []
    for number, first in enumerate(range(0, count, PART)):
        rows = min(PART, count - first)
        block = centres[rng.integers(0, CENTRES, rows)] + 0.5 * rng.normal(size=(rows, dim))
        block = (block / np.linalg.norm(block, axis=1, keepdims=True)).astype(np.float32)
        images = [ImageRow(f"{first + i}.jpg", f"{first + i:064x}", 640, 480) for i in range(rows)]
        name = f"part-{number:06}.parquet"
        write_part(folder / name, first, images, block)
        entries.append(FileEntry.of(folder, name, rows))
    space = EmbeddingSpace("noise", "0" * 64, dim)
    write_manifest(folder, EmbeddingManifest(space, "/nowhere", tuple(entries), count))


def of_vectors(place: Path, count: int, dim: int, factory: str) -> Facts:
    """An index of vectors that are ready, from which 1 % are removed."""
    index, machine = place / "index", Machine(cores())
    config = BuildConfig("/nowhere", factory=factory, part_size=PART)
    vectors_in(index / EMBEDDINGS, count, dim)
    building = timed(lambda: complete(index, config, machine, Silent()))
    removing = timed(lambda: remove_images(index, ids=np.arange(0, count, SHARE)))
    choosing = timed(lambda: remove_images(index, where="path like '%77.jpg'"))
    compacting = timed(lambda: compact_index(index, machine))
    merging = timed(lambda: merge_indexes([index, index], place / "merged", machine))
    return {
        "vectors": count,
        "dim": dim,
        "build_s": building,
        "remove_s": removing,
        "remove_where_s": choosing,
        "compact_s": compacting,
        "merge_s": merging,
        "build_over_remove": building / removing,
        "compact_over_build": compacting / building,
    }


def measure(options: argparse.Namespace) -> Facts:
    with temporary_folder() as place:
        if options.vectors:
            return of_vectors(place, options.vectors, options.dim, options.factory)
        if options.photos is None:
            raise SimatError("give a folder of photos, or --vectors")
        return of_photos(place, options.photos, options.encoder)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("photos", type=Path, nargs="?", help="folder of images")
    arguments.add_argument("--encoder", default="offline")
    arguments.add_argument("--vectors", type=int, default=0, help="so many vectors instead of photos")
    arguments.add_argument("--dim", type=int, default=128)
    arguments.add_argument("--factory", default="auto")
    run(arguments, measure)


if __name__ == "__main__":
    main()
