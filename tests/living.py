"""What the tests of an index's life share: small indexes of coloured pictures, and what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from building import save_blotches, vector_set
from helpers import PixelColourEncoder

from indexing.build import build_index, complete
from indexing.config import BuildConfig, Machine
from indexing.inspect import verify_index
from simat.opened import Opened, open_index
from simat.progress import Silent
from simat.vectors import to_half

ONE = Machine(workers=1, threads=1)
Image = tuple[str, str, bytes]
"""A file, the SHA-256 of its bytes, and its vector."""


def built(folder: Path, photos: Path, **settings: Any) -> Path:
    """An index of ``photos`` with the colour encoder; small parts and shards unless told otherwise."""
    config = BuildConfig(str(photos), **{"part_size": 8, "shard_size": 20, **settings})
    build_index(folder, config, ONE, encoder=PixelColourEncoder())
    return folder


def vector_index(folder: Path, vectors: np.ndarray, part_size: int = 8, shard_size: int = 20, **settings: Any) -> Path:
    """An index of given vectors, without pictures; row i is the file ``i.png`` of 4 × 3 pixels."""
    vector_set(folder / "embeddings", vectors, part_size)
    config = BuildConfig("/nowhere", part_size=part_size, shard_size=shard_size, **settings)
    complete(folder, config, ONE, Silent())
    return folder


def noise(count: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    """Unit rows."""
    rows = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def photos_and_index(place: Path, count: int = 30, **settings: Any) -> tuple[Path, Path]:
    """``count`` pictures, and an index of them."""
    photos = save_blotches(place / "photos", count)
    return photos, built(place / "index", photos, **settings)


def images(folder: Path, check: bool = True) -> Mapping[int, Image]:
    """Every image of an index that is not removed, by id; the index must be whole."""
    if check:
        assert verify_index(folder)["whole"] is True
    opened = open_index(folder)
    ids = live_ids(opened)
    rows, vectors = opened.rows(ids), to_half(opened.embeddings.vectors(ids))
    return {
        int(id): (str(opened.embeddings.resolve(row)), row.sha256, vector.tobytes())
        for id, row, vector in zip(ids, rows, vectors, strict=True)
    }


def live_ids(opened: Opened) -> np.ndarray:
    """The ids of all images that are not removed."""
    return opened.live(np.arange(len(opened)))


def found(folder: Path) -> Mapping[int, int]:
    """The nearest image of every image that is not removed."""
    opened = open_index(folder)
    ids = live_ids(opened)
    hits = opened.searcher.search(opened.embeddings.vectors(ids), 1)
    return dict(zip(ids.tolist(), hits.ids[:, 0].tolist(), strict=True))
