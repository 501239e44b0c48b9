"""CLIPScore: how well a picture and a text agree in the space of a dual encoder."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL.Image import Image

from simat.types import Encoder

BATCH = 32


def clip_scores(encoder: Encoder, pictures: list[Image], texts: list[str]) -> Float[np.ndarray, " n"]:
    """100·cos of each picture with its text (Hessel et al. 2021 without their factor of 2.5, as thesis 5.4.4 has it).

    Args:
        encoder: of images and texts.
        pictures: n of them.
        texts: one per picture.
    """
    assert len(pictures) == len(texts), "one text per picture"
    parts = [np.empty(0)]
    for start in range(0, len(pictures), BATCH):
        images = encoder.encode_images([p.convert("RGB") for p in pictures[start : start + BATCH]])
        words = encoder.encode_texts(texts[start : start + BATCH])
        parts.append(100 * (images.astype(np.float64) * words).sum(1))
    return np.concatenate(parts)
