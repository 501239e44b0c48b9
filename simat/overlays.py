"""Masks and layouts made visible: over the picture that they belong to, or in colours of their own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

from simat.types import Answer

OVERLAY = (226, 92, 58)
COLOURS = ((226, 92, 58), (64, 120, 192), (96, 160, 80), (200, 160, 40), (140, 90, 170), (70, 160, 160))
PAPER = (232, 230, 226)


def mask_picture(mask: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """A mask of truth values, white inside, in the size of a picture."""
    return Image.fromarray(mask.astype("uint8") * 255).resize(size, Image.Resampling.NEAREST)


def edited_places(answer: Answer) -> list[Image.Image]:
    """The picture that was edited, tinted where; one for each mask, none where the answer has no mask or all is in."""
    source, masks = answer.extras.get("input"), answer.extras.get("mask")
    if source is None or masks is None or masks.all():
        return []
    tinted = Image.blend(source, Image.new("RGB", source.size, OVERLAY), 0.6)
    return [Image.composite(tinted, source, mask_picture(mask, source.size)) for mask in masks]


def layout_picture(layout: Mapping[str, np.ndarray]) -> Image.Image:
    """The segments [height, width] in [0, 1], each in a colour of its own."""
    first = next(iter(layout.values()))
    canvas = np.full((*first.shape, 3), PAPER, np.float32)
    for number, mask in enumerate(layout.values()):
        canvas += mask[..., None] * (np.array(COLOURS[number % len(COLOURS)], np.float32) - canvas)
    return Image.fromarray(np.rint(canvas).astype(np.uint8))
