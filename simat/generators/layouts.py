"""Layouts: named segments on the grid of a model, and the tokens that name them. Imported only with torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from simat.errors import QueryError
from simat.generators.attention import resized
from simat.generators.masks import COVERED, given_mask
from simat.generators.model import Diffusion
from simat.generators.spans import segment_tokens
from simat.types import ImageInput

INSIDE = 0.5  # from where on a soft mask has a pixel


@dataclass(frozen=True)
class Layout:
    """Segments of one picture.

    Attributes:
        words: of each segment.
        masks: the share of each cell of the latent grid that a segment covers.
        tokens: positions of the words' tokens in the prompt.
    """

    words: tuple[str, ...]
    masks: Float[Tensor, "segments grid grid"]
    tokens: tuple[tuple[int, ...], ...]

    def at(self, height: int, width: int) -> Float[Tensor, "segments height width"]:
        """The masks at another resolution."""
        return resized(self.masks, height, width)


def layout_of(
    segments: Mapping[str, np.ndarray] | None, prompt: str, model: Diffusion, image: ImageInput | None = None
) -> Layout:
    """A layout ready for a model.

    Args:
        segments: masks by words, 1 = inside, values in [0, 1]; squares of one size, or of the size of ``image``.
        prompt: the text, in which every segment's words stand.
        model: gives grid, tokenizers and device.
        image: the picture to be edited; masks are cropped as it is.

    Raises:
        QueryError: no segment, words that are not in the prompt or cut off, masks that are empty, overlap, differ in
            size, or hold other values.
    """
    if not segments:
        raise QueryError("a layout needs at least one segment", remedy='give words and masks: {"dog": mask}')
    tokens = segment_tokens(model.tokenizers, prompt, segments)
    shapes = {np.shape(mask) for mask in segments.values()}
    if len(shapes) > 1:
        raise QueryError("the masks of a layout differ in size", got=", ".join(map(str, sorted(shapes))))
    masks = torch.stack([_mask(words, np.asarray(mask), model, image) for words, mask in segments.items()])
    _check_apart(segments)
    return Layout(tuple(segments), masks.to(model.device), tokens)


def _mask(words: str, mask: np.ndarray, model: Diffusion, image: ImageInput | None) -> Float[Tensor, "grid grid"]:
    if not mask.any():
        raise QueryError("a segment is empty", got=repr(words), remedy="its mask has no pixel above 0")
    if image is not None:
        return given_mask(mask, image, model.size, model.grid)
    if mask.ndim != 2 or mask.shape[0] != mask.shape[1]:
        shape = " × ".join(map(str, mask.shape[::-1]))
        raise QueryError("the mask of a segment is a square, as the picture is", got=f"{words!r} of {shape}")
    values = mask.astype(np.float32)
    if not (values.min() >= 0 and values.max() <= 1):
        raise QueryError("a mask has values in [0, 1], 1 = inside", got=f"{words!r}: {values.min()} to {values.max()}")
    shares = resized(torch.from_numpy(values)[None], model.grid, model.grid)[0]
    if not bool((shares >= COVERED).any()):
        raise QueryError(f"a segment covers no cell of {model.grid} × {model.grid}", got=repr(words))
    return shares


def _check_apart(segments: Mapping[str, np.ndarray]) -> None:
    for (first, one), (second, other) in combinations(segments.items(), 2):
        shared = int(((np.asarray(one) > INSIDE) & (np.asarray(other) > INSIDE)).sum())
        if shared:
            remedy = "let every pixel belong to one of them"
            raise QueryError("two segments overlap", got=f"{shared} pixels of {first!r} and {second!r}", remedy=remedy)
