"""Frozen features of a corpus, computed once: what heads are trained on (thesis 3.3.3).

A cache is a folder: ``images/``, an embedding set of the image tower; ``texts/part-*.parquet`` with ``caption_id`` and
``image_row`` int64, ``caption`` and ``split`` string, and ``embedding`` fixed_size_list<float16>[d], a unit row of the
text tower; and, last, ``cache.json``: format, both spaces, the corpus's fingerprint, files with SHA-256, counts. A
killed run goes on at the part it was in.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from data.captioned import captioned_images
from data.corpus import MANIFEST, Corpus
from finetune.pairs import DOCUMENT, FORMAT, IMAGES, VERSION
from indexing.embed import Embedded, Embedder
from indexing.scan import write_paths
from simat.embeddings import EmbeddingSet, write_rejected
from simat.errors import BuildError
from simat.files import atomic, locked, remove_leftovers, sha256_file, write_text
from simat.manifest import NAME, EmbeddingManifest, FileEntry, write_manifest
from simat.progress import Progress, Silent
from simat.types import ImageEncoder, TextEncoder
from simat.vectors import to_half, unit_rows

STATE, SCAN, TEXTS = "caching.json", "scan.parquet", "texts"
PART, BATCH = 8192, 256  # captions per part, and per call of the encoder


@dataclass(frozen=True)
class Described:
    """An image to encode: its file relative to the folder of images, the split it is in, and what is said of it."""

    file: str
    split: str
    captions: tuple[str, ...]


def described_images(corpus: Corpus) -> list[Described]:
    """Every image of a corpus of captions, scenes or SIMAT that has a file and a caption.

    Raises:
        CorpusError: a corpus of another kind.
        BuildError: no image has a caption.
    """
    images = captioned_images(corpus)
    found = [Described(i.file, i.split, i.captions) for i in images if i.file is not None and i.captions]
    if not found:
        raise BuildError("no image of the corpus has a caption", got=str(corpus.folder))
    return found


def build_cache(
    corpus: Corpus,
    image: ImageEncoder,
    text: TextEncoder,
    out: Path,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Encode the images and captions of a corpus into ``out``, or go on where a killed run was.

    Args:
        corpus: of kind ``captions``, ``scenes`` or ``simat``.
        image: encodes the images.
        text: encodes the captions.
        out: new, empty, or of an earlier run with the same arguments.
        workers: decoder processes.

    Returns:
        Counts: images, captions, images that could not be read.

    Raises:
        CorpusError: another kind of corpus.
        BuildError: another run's folder, or not one image that can be read.
    """
    progress = progress or Silent()
    images = described_images(corpus)
    identity = {
        "format": FORMAT,
        "version": VERSION,
        "image_space": asdict(image.space),
        "text_space": asdict(text.space),
        "corpus": sha256_file(corpus.folder / MANIFEST),
    }
    _enter(out, identity)
    with locked(out):
        if (out / DOCUMENT).exists():
            return dict(json.loads((out / DOCUMENT).read_bytes())["counts"])
        remove_leftovers(out)
        write_text(out / STATE, json.dumps(identity, indent=1))
        progress.note(f"{len(images):,} images, {sum(len(i.captions) for i in images):,} captions")
        embeddings = _cache_images(corpus, images, image, out, workers, progress)
        texts, captions = _cache_texts(images, embeddings, text, out / TEXTS, progress)
        counts = {"images": len(embeddings), "captions": captions, "rejected": len(images) - len(embeddings)}
        document = {**identity, "texts": [asdict(entry) for entry in texts], "counts": counts}
        write_text(out / DOCUMENT, json.dumps(document, indent=1) + "\n")
        for path in (out / STATE, out / SCAN):
            path.unlink(missing_ok=True)
    return counts


def _enter(out: Path, identity: dict[str, Any]) -> None:
    if out.exists() and not out.is_dir():
        raise BuildError("the cache must be a folder", got=str(out))
    out.mkdir(parents=True, exist_ok=True)
    known = next((out / name for name in (DOCUMENT, STATE) if (out / name).exists()), None)
    if known is None:
        if any(path.name != ".lock" for path in out.iterdir()):
            raise BuildError("the folder holds something else", got=str(out), remedy="give a new or empty folder")
        return
    before = json.loads(known.read_bytes())
    changed = [name for name, value in identity.items() if before.get(name) != value]
    if changed:
        remedy = "repeat the same corpus and encoder, or give a new folder"
        raise BuildError(f"{out} was begun with another {', another '.join(changed)}", remedy=remedy)


def _cache_images(
    corpus: Corpus, images: Sequence[Described], encoder: ImageEncoder, out: Path, workers: int, progress: Progress
) -> EmbeddingSet:
    folder = out / IMAGES
    folder.mkdir(exist_ok=True)
    if not (folder / NAME).exists():
        files = write_paths((image.file for image in images), out / SCAN)
        done: Embedded = Embedder(folder, corpus.images, encoder, 4096).run(out / SCAN, files, workers, progress)
        if not done.rows:
            raise BuildError("no image of the corpus can be read", got=str(corpus.images))
        rejected = _gather_rejected(folder)
        manifest = EmbeddingManifest(
            encoder.space, str(corpus.images.absolute()), tuple(done.parts), done.rows, done.duplicates, rejected
        )
        write_manifest(folder, manifest)
    for path in folder.glob("rejected-*.parquet"):
        path.unlink()
    return EmbeddingSet(folder)


def _gather_rejected(folder: Path) -> FileEntry | None:
    from simat.embeddings import read_rejected

    rejected = [item for path in sorted(folder.glob("rejected-*.parquet")) for item in read_rejected(path)]
    if not rejected:
        return None
    write_rejected(folder / "rejected.parquet", rejected)
    return FileEntry.of(folder, "rejected.parquet", len(rejected))


@dataclass(frozen=True)
class _Row:
    """A caption and the row of its image in the embedding set."""

    caption_id: int
    image_row: int
    caption: str
    split: str


def _cache_texts(
    images: Sequence[Described], embeddings: EmbeddingSet, encoder: TextEncoder, folder: Path, progress: Progress
) -> tuple[list[FileEntry], int]:
    folder.mkdir(exist_ok=True)
    remove_leftovers(folder)
    rows = list(_caption_rows(images, embeddings))
    progress.start("captions", len(rows), "captions")
    stream = iter(rows)
    entries: list[FileEntry] = []
    while part := list(islice(stream, PART)):
        name = f"part-{len(entries):06}.parquet"
        if (folder / name).exists():
            progress.advance(len(part))
        else:
            _write_texts(folder / name, part, _encoded(part, encoder, progress))
        entries.append(FileEntry.of(folder.parent, f"{folder.name}/{name}", len(part)))
    return entries, len(rows)


def _caption_rows(images: Sequence[Described], embeddings: EmbeddingSet) -> Iterator[_Row]:
    """Captions of the images that were read; numbered through the corpus, whatever could not be read."""
    import pyarrow.parquet as pq

    tables = [pq.read_table(embeddings.folder / entry.name, columns=["path"]) for entry in embeddings.manifest.parts]
    paths = [path for table in tables for path in table["path"].to_pylist()]
    number = row = 0
    for image in images:
        if row < len(paths) and paths[row] == image.file:
            yield from (_Row(number + n, row, caption, image.split) for n, caption in enumerate(image.captions))
            row += 1
        number += len(image.captions)
    assert row == len(paths), "the embedding set keeps the order of the corpus"


def _encoded(part: Sequence[_Row], encoder: TextEncoder, progress: Progress) -> np.ndarray:
    vectors = []
    for start in range(0, len(part), BATCH):
        texts = [row.caption for row in part[start : start + BATCH]]
        vectors.append(unit_rows(encoder.encode_texts(texts), "text vector"))
        progress.advance(len(texts))
    return np.concatenate(vectors)


def _write_texts(path: Path, rows: Sequence[_Row], vectors: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.field("element", pa.float16(), nullable=False), vectors.shape[1])
    table = pa.table(
        {
            "caption_id": pa.array([row.caption_id for row in rows], pa.int64()),
            "image_row": pa.array([row.image_row for row in rows], pa.int64()),
            "caption": pa.array([row.caption for row in rows], pa.string()),
            "split": pa.array([row.split for row in rows], pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(to_half(vectors).ravel()), type=kind),
        }
    )
    with atomic(path) as temporary:
        pq.write_table(
            table, temporary, compression={n: "NONE" if n == "embedding" else "ZSTD" for n in table.schema.names}
        )
