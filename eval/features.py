"""Vectors of a corpus's images: encoded once into the cache, or read from a set that stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from data.corpus import MANIFEST, Corpus
from simat.embeddings import EmbeddingSet, ImageRow, embedding_column, join_path, write_part
from simat.errors import QueryError, StorageError
from simat.files import cache_folder, locked, remove_leftovers, sha256_file, sha256_text
from simat.images import decode_sized, read_bytes
from simat.manifest import NAME, EmbeddingManifest, FileEntry, write_manifest
from simat.progress import Progress, Silent
from simat.types import EmbeddingSpace, ImageEncoder

if TYPE_CHECKING:
    import pyarrow as pa

PART, BATCH = 1024, 32  # images per part, and per call of the encoder
COMPARED = 16  # files of a set that are compared with a corpus's
TABLES = {"simat": ("regions", "image"), "captions": ("images", "file"), "scenes": ("scenes", "image")}


def image_files(corpus: Corpus) -> list[str]:
    """The file of every image of a corpus, relative to its folder of images; of a SIMAT corpus, of every region.

    Raises:
        QueryError: a corpus of another kind, or regions without a crop.
    """
    if corpus.manifest.kind not in TABLES:
        raise QueryError("this kind of corpus cannot be measured", got=corpus.manifest.kind)
    table, column = TABLES[corpus.manifest.kind]
    files: list[str | None] = corpus.table(table)[column].to_pylist()
    found = [file for file in files if file is not None]
    if len(found) < len(files):
        remedy = "build the corpus again with the images of its data set"
        raise QueryError(f"{len(files) - len(found)} of {len(files)} regions have no image",
                         got=str(corpus.folder), remedy=remedy)  # fmt: skip
    return found


def corpus_vectors(
    corpus: Corpus, encoder: ImageEncoder, progress: Progress | None = None
) -> Float32[np.ndarray, "r d"]:
    """The vectors of a corpus's images, in the order of its table, from ``$SIMAT_CACHE/eval`` where they are there.

    A killed run goes on at the part it was in.

    Raises:
        ImageError: an image that cannot be read.
        QueryError: as :func:`image_files`.
    """
    files = image_files(corpus)
    listed = sha256_text("\n".join([sha256_file(corpus.folder / MANIFEST), *files]))
    folder = cache_folder("eval", f"{space_key(encoder.space)}-{listed[:16]}")
    with locked(folder):
        if not (folder / NAME).exists():
            _encode(corpus.images, files, encoder, folder, progress or Silent())
    return stored_vectors(folder, files, encoder.space)


def stored_vectors(folder: Path, files: Sequence[str], space: EmbeddingSpace) -> Float32[np.ndarray, "r d"]:
    """The vectors of some images out of an embedding set, or of a folder of features that holds one.

    Raises:
        SpaceMismatchError: the set lies in another space.
        StorageError: no set, or one that lacks an image.
    """
    inner = folder / "images"
    embeddings = EmbeddingSet(inner if (inner / NAME).exists() else folder)
    embeddings.manifest.space.require(space)
    paths, blocks = [], []
    for entry in embeddings.manifest.parts:
        table = _read(entry.check(embeddings.folder))
        names = zip(table["path"].to_pylist(), table["path_bytes"].to_pylist(), strict=True)
        paths += [join_path(*name) for name in names]
        blocks.append(embedding_column(table))
    number = {path: row for row, path in enumerate(paths)}
    lacking = [file for file in files if file not in number]
    if lacking:
        raise StorageError(f"the features lack {len(lacking)} of {len(files)} images", got=f"{lacking[0]} in {folder}",
                           remedy="encode this corpus's images")  # fmt: skip
    vectors: Float32[np.ndarray, "r d"] = np.concatenate(blocks)[[number[file] for file in files]].astype(np.float32)
    return vectors


def require_files(folder: Path, root: Path, files: Sequence[str]) -> None:
    """Refuse a set whose images only have the names of these files; some of them, evenly spaced, are compared.

    Raises:
        StorageError: a file with other bytes than the image that was encoded.
    """
    inner = folder / "images"
    embeddings = EmbeddingSet(inner if (inner / NAME).exists() else folder)
    known: dict[str, str] = {}
    for entry in embeddings.manifest.parts:
        table = _read(embeddings.folder / entry.name)
        known.update(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    for file in files[:: max(1, len(files) // COMPARED)]:
        if file in known and sha256_file(root / file) != known[file]:
            raise StorageError("the features are of other images", got=f"another {file} in {folder}",
                               remedy="encode this corpus's images")  # fmt: skip


def space_key(space: EmbeddingSpace) -> str:
    """A short name of a space for the cache."""
    return sha256_text(f"{space.fingerprint} {space.dim} {space.heads}")[:16]


def _encode(root: Path, files: Sequence[str], encoder: ImageEncoder, folder: Path, progress: Progress) -> None:
    remove_leftovers(folder)
    unique = [*dict.fromkeys(files)]
    progress.start("images", len(unique), "images")
    entries = []
    for first in range(0, len(unique), PART):
        part, name = unique[first : first + PART], f"part-{first // PART:06}.parquet"
        if (folder / name).exists():
            progress.advance(len(part))
        else:
            write_part(folder / name, first, *_encoded(root, part, encoder, progress))
        entries.append(FileEntry.of(folder, name, len(part)))
    write_manifest(folder, EmbeddingManifest(encoder.space, str(root.absolute()), tuple(entries), len(unique)))


def _encoded(
    root: Path, files: Sequence[str], encoder: ImageEncoder, progress: Progress
) -> tuple[list[ImageRow], Float32[np.ndarray, "n d"]]:
    rows, blocks = [], []
    for first in range(0, len(files), BATCH):
        images = []
        for file in files[first : first + BATCH]:
            image, (width, height) = decode_sized(read_bytes(root / file))
            images.append(image)
            rows.append(ImageRow(file, sha256_file(root / file), width, height))
        blocks.append(encoder.encode_images(images))
        progress.advance(len(images))
    return rows, np.concatenate(blocks)


def _read(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path, columns=["path", "path_bytes", "sha256", "embedding"])
