"""What the tests of corpora share: the released files, and regions by the handful."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SHARED

from data.regions import Box, Region, Triplet

CROP: Box = (0, 0, 100, 80)


def released() -> Path:
    """The official release of SIMAT; tests that read it skip where it is not at hand."""
    folder = SHARED / "simat-release"
    if not folder.is_dir():
        pytest.skip("the released files of SIMAT are not here")
    return folder


def region(number: int, triplet: Triplet, image: int | None = None, crop: Box = CROP) -> Region:
    """A region whose subject fills the left half of its crop and whose object the right half."""
    x0, y0, x1, y1 = crop
    middle = (x0 + x1) // 2
    boxes = (x0, y0, middle, y1), (middle, y0, x1, y1), crop
    return Region(number, number if image is None else image, *triplet, 2 * number, 2 * number + 1, *boxes)


def regions(*triplets: Triplet, copies: int = 2) -> list[Region]:
    """``copies`` regions of each triplet, each in an image of its own."""
    return [region(i, t) for i, t in enumerate([t for t in triplets for _ in range(copies)], 1)]
