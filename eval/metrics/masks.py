"""How well a mask meets the true one, and how well any mask of its grid could."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from PIL import Image

from simat.errors import ImageError

Mask = Bool[np.ndarray, "h w"]
Other = Bool[np.ndarray, "rows columns"]


def mask_iou(mask: Mask, truth: Other) -> float:
    """Intersection over union in [0, 1]; 1 for two empty masks.

    Raises:
        ImageError: two sizes; see :func:`resized`.
    """
    if mask.shape != truth.shape:
        raise ImageError("two masks of different sizes", got=f"{mask.shape} and {truth.shape}")
    union = int((mask | truth).sum())
    return float((mask & truth).sum() / union) if union else 1.0


def resized(mask: Mask, shape: tuple[int, int]) -> Other:
    """The mask at another height and width, every pixel that of the cell it lies in."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((shape[1], shape[0]), Image.Resampling.NEAREST)) > 127


def grid_ceiling(truth: Mask, grid: tuple[int, int]) -> float:
    """The highest IoU with ``truth`` that any mask made of whole cells of a grid can reach.

    The IoU is the mean of a fraction whose best set of cells is a prefix of the cells by falling share of true pixels
    (all cells are of one size), so every prefix is tried.

    Args:
        grid: rows and columns; both divide the height and width.

    Raises:
        ImageError: a grid that does not divide the mask.
    """
    height, width = truth.shape
    rows, columns = grid
    if height % rows or width % columns:
        raise ImageError(f"a grid of {rows} × {columns} does not divide the mask", got=f"{height} × {width}")
    cells = truth.reshape(rows, height // rows, columns, width // columns).sum((1, 3)).ravel()
    size, total = (height // rows) * (width // columns), int(truth.sum())
    if not total:
        return 1.0
    inside = np.cumsum(np.sort(cells)[::-1])
    chosen = np.arange(1, len(cells) + 1) * size
    return float((inside / (chosen + total - inside)).max())


def dilated(mask: Mask, radius: int) -> Mask:
    """Every pixel within ``radius`` rows and columns of a true one (a square structuring element)."""
    grown = np.pad(mask, radius)
    for axis in (0, 1):
        grown = np.logical_or.reduce([np.roll(grown, shift, axis) for shift in range(-radius, radius + 1)])
    height, width = mask.shape
    return np.asarray(grown[radius : radius + height, radius : radius + width])
