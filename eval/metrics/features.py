"""Feature extractors of whole pictures, for Fréchet distances: each names itself."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from simat.errors import EncoderError
from simat.types import ImageEncoder

INCEPTION = "inception"
OFFLINE = "efficientnet"
EDGE = 299
BATCH = 32


@runtime_checkable
class Extractor(Protocol):
    """Maps pictures to vectors."""

    @property
    def name(self) -> str:
        """What figures that look through it are called by."""
        ...

    def __call__(self, pictures: list[Image.Image]) -> Float[np.ndarray, "n d"]:
        """One row per picture."""
        ...


class EncoderFeatures:
    """The unit vectors of any encoder of images."""

    def __init__(self, encoder: ImageEncoder, name: str) -> None:
        self._encoder, self.name = encoder, name

    def __call__(self, pictures: list[Image.Image]) -> Float[np.ndarray, "n d"]:
        """Unit rows."""
        return self._encoder.encode_images([picture.convert("RGB") for picture in pictures])


class InceptionFeatures:
    """pool3 of the Inception that FID is defined on, by torch-fidelity, after a resize that does not alias.

    Parmar, Zhang and Zhu 2022: pictures are brought to 299 pixels by Pillow's bicubic filter, so that the extractor's
    own resize has nothing left to do.

    Args:
        network: uint8 [n, 3, 299, 299] to features [n, 2048].
    """

    name = INCEPTION

    def __init__(self, network: Any) -> None:
        self._network = network

    def __call__(self, pictures: list[Image.Image]) -> Float[np.ndarray, "n d"]:
        """2,048 numbers per picture."""
        import torch

        rows = []
        for start in range(0, len(pictures), BATCH):
            batch = np.stack([_resized(picture) for picture in pictures[start : start + BATCH]])
            with torch.inference_mode():
                features = self._network(torch.from_numpy(batch).permute(0, 3, 1, 2))
            rows.append(features.float().cpu().numpy())
        return np.concatenate(rows)


def load_extractor(spec: str) -> Extractor:
    """An extractor by its spec: ``inception``, or any encoder of images (``efficientnet``, ``open_clip:…``).

    Raises:
        EncoderError: torch-fidelity is not installed, its weights cannot be had, or no such encoder.
    """
    if spec != INCEPTION:
        from simat.encoders import load_image_encoder

        return EncoderFeatures(load_image_encoder(spec), spec)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise EncoderError("FID's Inception needs torch-fidelity", remedy="pip install 'simat[metrics]'") from error
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    except (OSError, RuntimeError) as error:
        raise EncoderError(
            "the weights of FID's Inception cannot be had", got=error, remedy=f"without a network: {OFFLINE}"
        ) from error
    return InceptionFeatures(lambda batch: network(batch)[0])


def _resized(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB").resize((EDGE, EDGE), Image.Resampling.BICUBIC))
