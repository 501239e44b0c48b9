"""Frozen features opened for training, and the pairs drawn from them: one caption per image and epoch."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float16, Int, Int64, Shaped

from finetune.config import TrainError
from simat.embeddings import EmbeddingSet, embedding_column
from simat.errors import StorageError
from simat.files import sha256_file, sha256_text
from simat.manifest import NAME, FileEntry
from simat.types import EmbeddingSpace

FORMAT, VERSION, DOCUMENT, IMAGES = "simat/features", 1, "cache.json", "images"
TRAINING = ("train", "restval", "all")
"""Splits that are trained on; Karpathy's ``restval`` is one, ``all`` is that of a corpus without splits."""
HELD_OUT, MOST_HELD_OUT = 0.05, 1000  # of a corpus without a split for validation


@dataclass(frozen=True, eq=False)
class Features:
    """A cache in memory: two bytes per number.

    Attributes:
        folder: of the cache.
        image_space: of ``images``.
        text_space: of ``texts``.
        corpus: SHA-256 of the corpus's manifest.
        fingerprint: SHA-256 of the cache's two documents, which name the SHA-256 of every file.
        images: unit rows.
        texts: unit rows, one per caption.
        image_rows: the row of each caption's image.
        splits: the split of each caption's image.
    """

    folder: Path
    image_space: EmbeddingSpace
    text_space: EmbeddingSpace
    corpus: str
    fingerprint: str
    images: Float16[np.ndarray, "n d"]
    texts: Float16[np.ndarray, "m e"]
    image_rows: Int64[np.ndarray, " m"]
    splits: Shaped[np.ndarray, " m"]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Images with their captions.

    Attributes:
        images: rows of images that have captions, ascending.
        captions: rows of their captions, image by image.
        counts: captions of each image.
    """

    images: Int64[np.ndarray, " n"]
    captions: Int64[np.ndarray, " m"]
    counts: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, captions: Int[np.ndarray, " m"], image_rows: Int64[np.ndarray, " k"]) -> Pairs:
        """The images of the captions ``captions``, which are rows of ``image_rows``."""
        order = captions[np.argsort(image_rows[captions], kind="stable")]
        images, counts = np.unique(image_rows[captions], return_counts=True)
        return cls(images, order.astype(np.int64), counts.astype(np.int64))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def image_of_caption(self) -> Int64[np.ndarray, " m"]:
        """Position in ``images`` of each of ``captions``."""
        return np.repeat(np.arange(len(self.images)), self.counts)

    def draw(self, seed: int, epoch: int) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Every image once, in a random order, and one random caption of each; the same for the same arguments."""
        rng = np.random.default_rng([seed, epoch])
        chosen = np.cumsum(self.counts) - self.counts + rng.integers(self.counts)
        order = rng.permutation(len(self.images))
        return self.images[order], self.captions[chosen][order]


def open_features(folder: Path) -> Features:
    """Read a cache and check it.

    Raises:
        StorageError: no cache, a half-built or damaged one, or one of a newer version.
        TrainError: a feature that is zero or not finite.
    """
    document = _read_document(folder)
    try:
        entries = [FileEntry(**entry) for entry in document["texts"]]
        spaces = [EmbeddingSpace(**document[name]) for name in ("image_space", "text_space")]
        corpus, counts = str(document["corpus"]), (document["counts"]["images"], document["counts"]["captions"])
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder) from error
    images = _read_images(EmbeddingSet(folder / IMAGES), spaces[0], folder)
    texts, image_rows, splits = _read_texts(folder, entries, spaces[1].dim)
    if counts != (len(images), len(texts)) or ((image_rows < 0) | (image_rows >= len(images))).any():
        raise _damaged(folder)
    for what, rows in (("image", images), ("text", texts)):
        _check_rows(what, rows)
    fingerprint = sha256_text("\n".join(sha256_file(path) for path in (folder / DOCUMENT, folder / IMAGES / NAME)))
    return Features(folder, spaces[0], spaces[1], corpus, fingerprint, images, texts, image_rows, splits)


def split_pairs(features: Features, validation: str, seed: int) -> tuple[Pairs, Pairs | None, str]:
    """The pairs to train on, those to measure on, and one line that says where the latter come from.

    Trains on the splits ``TRAINING``. A cache without the split ``validation`` has 5 % of its training images held
    out, 1,000 at most, drawn by ``seed``; one of fewer than 40 training images none.

    Raises:
        TrainError: no caption in a split that is trained on, or only one image.
    """
    names = sorted(set(features.splits.tolist()))
    train = _of_splits(features, [name for name in TRAINING if name != validation])
    if len(train) < 2:
        raise TrainError(
            f"training needs at least 2 images with captions in the splits {', '.join(TRAINING)}",
            got=f"{len(train)}; the cache has the splits {', '.join(names) or 'none'}",
        )
    if validation in names:
        measured = _of_splits(features, [validation])
        return train, measured, f"recall is measured on the {len(measured):,} images of the split {validation!r}"
    held = min(MOST_HELD_OUT, int(len(train) * HELD_OUT))
    if held < 2:
        return train, None, f"no split {validation!r} and too few images to hold any out: no recall is measured"
    chosen = np.random.default_rng([seed, len(train)]).choice(train.images, held, replace=False)
    out = np.isin(features.image_rows[train.captions], chosen)
    parts = (Pairs.of(train.captions[part], features.image_rows) for part in (~out, out))
    return *parts, f"no split {validation!r}: recall is measured on {held:,} images held out of training"  # type: ignore[return-value]


def _of_splits(features: Features, names: Collection[str]) -> Pairs:
    wanted: Bool[np.ndarray, " m"] = np.isin(features.splits, list(names))
    return Pairs.of(np.flatnonzero(wanted), features.image_rows)


def _read_document(folder: Path) -> dict[str, Any]:
    path = folder / DOCUMENT
    if not path.is_file():
        raise StorageError("no features here", got=str(folder), remedy="make them with 'simat finetune cache'")
    try:
        document = dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError) as error:
        raise _damaged(folder) from error
    if document.get("format") != FORMAT:
        raise StorageError("not a cache of features", got=str(folder))
    if not isinstance(document.get("version"), int) or document["version"] > VERSION:
        raise StorageError("the features are of a newer version", got=str(folder), remedy="upgrade simat")
    return document


def _read_images(stored: EmbeddingSet, space: EmbeddingSpace, folder: Path) -> Float16[np.ndarray, "n d"]:
    if stored.manifest.space != space:
        raise _damaged(folder)
    rows, filled = np.empty((len(stored), space.dim), np.float16), 0
    for block in stored.blocks(0, len(stored)):
        rows[filled : filled + len(block)] = block
        filled += len(block)
    return rows


def _read_texts(folder: Path, entries: list[FileEntry], dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    count, filled = sum(entry.rows for entry in entries), 0
    rows, images, splits = np.empty((count, dim), np.float16), np.empty(count, np.int64), np.empty(count, object)
    for entry in entries:
        try:
            table = pq.read_table(entry.check_size(folder), columns=["image_row", "split", "embedding"])
            part = slice(filled, filled + entry.rows)
            rows[part], images[part] = embedding_column(table), table["image_row"].to_numpy()
            splits[part] = table["split"].to_numpy()
        except (pa.ArrowException, ValueError, KeyError, AttributeError) as error:
            raise _damaged(folder) from error
        filled += entry.rows
    return rows, images, splits.astype(str)


def _check_rows(what: str, rows: np.ndarray) -> None:
    for start in range(0, len(rows), 65536):
        norms = np.linalg.norm(rows[start : start + 65536].astype(np.float32), axis=1)
        bad = np.flatnonzero(~np.isfinite(norms) | (norms == 0))
        if len(bad):
            got = f"length {norms[bad[0]]} of {what} row {start + bad[0]}"
            raise TrainError(f"a {what} feature has no direction", got=got, remedy="make the features again")


def _damaged(folder: Path) -> StorageError:
    return StorageError("the features are damaged", got=str(folder), remedy="make them again with 'finetune cache'")
