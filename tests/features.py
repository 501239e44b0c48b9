"""A small cache of features with something to learn: texts are the images' vectors under a rotation, with noise."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from building import vector_set
from helpers import unit_noise

from finetune.cache import DOCUMENT, FORMAT, IMAGES, PART, TEXTS, VERSION, _Row, _write_texts
from simat.files import write_text
from simat.manifest import FileEntry
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

TEXT_SPACE = EmbeddingSpace("ears", "e" * 64, 16)


def write_features(
    folder: Path,
    images: int = 200,
    captions: int = 3,
    dim: int = 16,
    splits: tuple[str, ...] = ("train",) * 4 + ("val",),
) -> Path:
    """A cache of ``images`` images with ``captions`` captions each, whose splits take turns."""
    pictures = unit_noise(0, images, dim)
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(dim, dim)))[0]
    noise = np.random.default_rng(2).normal(size=(images * captions, dim)) / dim**0.5
    texts = unit_rows(np.repeat(pictures @ rotation, captions, 0) + 0.4 * noise)
    owners = np.repeat(np.arange(images), captions)
    return write_vectors(folder, pictures, texts, owners, [splits[i % len(splits)] for i in owners])


def write_vectors(folder: Path, images: np.ndarray, texts: np.ndarray, owners: np.ndarray, splits: list[str]) -> Path:
    """A cache of given vectors, in the format of :mod:`finetune.cache`."""
    space = vector_set(folder / IMAGES, images.astype(np.float32)).manifest.space
    (folder / TEXTS).mkdir()
    entries = []
    for number, start in enumerate(range(0, len(texts), PART)):
        stop = min(start + PART, len(texts))
        rows = [_Row(i, int(owners[i]), f"caption {i}", splits[i]) for i in range(start, stop)]
        name = f"{TEXTS}/part-{number:06}.parquet"
        _write_texts(folder / name, rows, texts[start:stop].astype(np.float32))
        entries.append(asdict(FileEntry.of(folder, name, len(rows))))
    text_space = EmbeddingSpace("ears", "e" * 64, texts.shape[1])
    document = {
        "format": FORMAT, "version": VERSION, "image_space": asdict(space), "text_space": asdict(text_space),
        "corpus": "c" * 64, "texts": entries, "counts": {"images": len(images), "captions": len(texts), "rejected": 0},
    }  # fmt: skip
    write_text(folder / DOCUMENT, json.dumps(document))
    return folder
