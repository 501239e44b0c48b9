"""Small pictures, encoders whose answers are known in advance, and indexes made of them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simat.images import ImageTransform
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 30),
    "purple": (150, 30, 170),
    "white": (250, 250, 250),
}
GRID = 4
DIM = 3 * GRID * GRID + 1


class ColourEncoder:
    """A picture is a 4 × 4 grid of colours; a colour's name is the vector of a plain picture of that colour.

    Other words get a fixed random direction. "red -> blue" on a plain red picture is therefore exactly the
    vector of a plain blue one.
    """

    def __init__(self, fingerprint: str = "c0104e", heads: str | None = None) -> None:
        self.space = EmbeddingSpace("colours", fingerprint, DIM, heads)

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        if not images:
            return np.empty((0, DIM), np.float32)
        grids = [np.asarray(i.resize((GRID, GRID), Image.Resampling.BOX)) for i in images]
        return _vectors(np.stack(grids))

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return np.concatenate([np.empty((0, DIM), np.float32), *(self._text(text)[None] for text in texts)])

    def _text(self, text: str) -> np.ndarray:
        if text in COLOURS:
            return self.encode_images([plain(text)])[0]
        rng = np.random.default_rng(zlib.crc32(text.encode()))
        return unit_rows(rng.normal(size=(1, DIM)))[0]


class PixelColourEncoder(ColourEncoder):
    """The same space, through pixels that a worker prepares."""

    transform = ImageTransform(8, 8, edge=8, mean=(0.5,) * 3, std=(0.5,) * 3, resize="squash", interpolation="BOX")

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        halves = pixels.reshape(len(pixels), GRID, 2, GRID, 2, 3).mean((2, 4))
        return _vectors(np.rint(halves))

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        if not images:
            return np.empty((0, DIM), np.float32)
        return self.encode_pixels(np.stack([self.transform.pixels(image) for image in images]))


def _vectors(grids: np.ndarray) -> np.ndarray:
    centred = grids.reshape(len(grids), -1).astype(np.float32) / 255 - 0.5
    return unit_rows(np.concatenate([centred, np.full((len(grids), 1), 0.25, np.float32)], 1))


def plain(colour: str, size: tuple[int, int] = (32, 32)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, COLOURS[colour])


def blotches(seed: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """A smooth random picture, different for every seed."""
    grid = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)


def encoded(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    """The bytes of a picture's file."""
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def save_pictures(folder: Path, pictures: Mapping[str, Image.Image]) -> None:
    """Write pictures under their names, losslessly where the suffix allows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        picture.save(folder / name)


def colour_pictures() -> dict[str, Image.Image]:
    """Plain and half-plain pictures of every colour, and twelve of no colour in particular."""
    pictures = {f"{colour}.png": plain(colour) for colour in COLOURS}
    for first, second in zip(COLOURS, [*COLOURS][1:], strict=False):
        both = plain(first)
        both.paste(plain(second, (16, 32)), (16, 0))
        pictures[f"{first}_{second}.png"] = both
    return {**pictures, **{f"blotch_{seed:02}.png": blotches(seed) for seed in range(12)}}


def unit_noise(seed: int, rows: int, dim: int) -> np.ndarray:
    """Seeded random unit rows."""
    return unit_rows(np.random.default_rng(seed).normal(size=(rows, dim)))


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row, in double precision."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
