"""An image-only tower: the pooled features of a network trained to classify, before its classifier."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from PIL.Image import Image

from simat.encoders.runtime import Network, Runtime, RuntimeOptions, start
from simat.files import sha256_text
from simat.images import ImageTransform
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

if TYPE_CHECKING:
    import torch

RECIPE = "pooled-features/1"  # changes whenever the same weights would give other vectors


@dataclass(frozen=True)
class Backbone:
    """A network up to its pooled features, not yet loaded.

    Attributes:
        spec: what loads it.
        fingerprint: names architecture and weights.
        dim: length of the features.
        transform: its preprocessing.
        build: makes the torch module, normalised images [n, 3, h, w] in, features [n, dim] out.
    """

    spec: str
    fingerprint: str
    dim: int
    transform: ImageTransform
    build: Callable[[], torch.nn.Module]


class FeatureTower:
    """Images to the normalised features of a backbone."""

    def __init__(self, backbone: Backbone, options: RuntimeOptions) -> None:
        self._backbone, self._options = backbone, options
        identity = f"{RECIPE}\n{backbone.fingerprint}\n{backbone.transform}"
        self._space = EmbeddingSpace(backbone.spec, sha256_text(identity), backbone.dim)

    @property
    def space(self) -> EmbeddingSpace:
        """The feature space of the backbone; no text lives in it."""
        return self._space

    @property
    def backbone(self) -> Backbone:
        """What is trained when the tower is fine-tuned."""
        return self._backbone

    @property
    def transform(self) -> ImageTransform:
        """The preprocessing that the backbone was trained with."""
        return self._backbone.transform

    def encode_pixels(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per transformed image."""
        return unit_rows(self._network(pixels), "image vector")

    def encode_images(self, images: list[Image]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per upright RGB image."""
        if not images:
            return np.empty((0, self._space.dim), np.float32)
        return self.encode_pixels(np.stack([self.transform.pixels(image) for image in images]))

    @cached_property
    def _network(self) -> Runtime:
        frame = (2, self.transform.height, self.transform.width, 3)
        network = Network(
            key=f"features-{self._space.fingerprint[:16]}",
            build=self._from_pixels,
            example=lambda: (np.zeros(frame, np.uint8),),
            batch=1,  # one image's activations stay in the cache: faster than any batch, and exact
            fixed=True,
        )
        return start(network, self._options)

    def _from_pixels(self) -> torch.nn.Module:
        from simat.encoders.networks import FromPixels

        return FromPixels(self._backbone.build(), self.transform)
