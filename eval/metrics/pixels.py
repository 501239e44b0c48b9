"""Distances between pictures, pixel by pixel."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float64
from PIL import Image

from simat.errors import ImageError

Pixels = Float64[np.ndarray, "h w 3"]
Other = Float64[np.ndarray, "height width 3"]


def pixels_of(picture: Image.Image, size: tuple[int, int] | None = None) -> Pixels:
    """RGB in [0, 1].

    Args:
        size: width and height to bring it to; None for its own.
    """
    rgb = picture.convert("RGB")
    if size is not None and rgb.size != size:
        rgb = rgb.resize(size, Image.Resampling.LANCZOS)
    return np.asarray(rgb, np.float64) / 255


def change(one: Pixels, other: Other, where: Bool[np.ndarray, "h w"] | None = None) -> float:
    """Mean absolute difference, as a share of the range of a channel.

    Args:
        where: the pixels to look at; None for all.

    Returns:
        A share in [0, 1]; NaN where there is no pixel to look at.

    Raises:
        ImageError: two sizes.
    """
    _same_size(one, other)
    differences = np.abs(one - other)
    looked_at = differences if where is None else differences[where]
    return float(looked_at.mean()) if looked_at.size else math.nan


def psnr(one: Pixels, other: Other) -> float:
    """Peak signal-to-noise ratio in decibels; infinite for equal pictures.

    Raises:
        ImageError: two sizes.
    """
    _same_size(one, other)
    error = float(np.square(one - other).mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def _same_size(one: np.ndarray, other: np.ndarray) -> None:
    if one.shape != other.shape:
        raise ImageError("two pictures of different sizes", got=f"{one.shape[:2]} and {other.shape[:2]}")
