"""Recall of images by their captions and of captions by their image: the two ways of cross-modal retrieval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

TIE = 1e-6  # scores this close cannot be told apart in float32
BLOCK = 256  # images scored at once


def recall_both_ways(
    images: Float32[np.ndarray, "n d"],
    texts: Float32[np.ndarray, "m d"],
    image_of_text: Int64[np.ndarray, " m"],
    ks: Sequence[int] = (1, 5, 10),
) -> dict[str, dict[str, float]]:
    """R@k in both directions (Hodosh et al. 2013), as COCO reports it.

    Args:
        images: unit rows, each with at least one text.
        texts: unit rows.
        image_of_text: the row in ``images`` that each text describes, ascending.
        ks: how many answers are looked at.

    Returns:
        ``text_to_image``: share of texts whose image is among the k nearest; ``image_to_text``: share of images
        with one of their own texts among the k nearest; each by k as text. A wrong answer that ties with the right
        one stands before it, so that vectors that say nothing find nothing.
    """
    of_texts, of_images = _ranks(images, texts, image_of_text)
    return {
        "text_to_image": {str(k): float(np.mean(of_texts < k)) for k in ks},
        "image_to_text": {str(k): float(np.mean(of_images < k)) for k in ks},
    }


def _ranks(
    images: Float32[np.ndarray, "n d"], texts: Float32[np.ndarray, "m d"], image_of_text: Int64[np.ndarray, " m"]
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " n"]]:
    """How many wrong images stand before each text's own, and wrong texts before the best of each image's own."""
    own = np.einsum("md,md->m", texts, images[image_of_text])
    of_texts, of_images = np.zeros(len(texts), np.int64), np.empty(len(images), np.int64)
    for start in range(0, len(images), BLOCK):
        scores = images[start : start + BLOCK] @ texts.T
        rows = np.arange(start, start + len(scores))
        mine: Bool[np.ndarray, "b m"] = image_of_text == rows[:, None]
        best = np.where(mine, scores, -np.inf).max(1, initial=-np.inf)
        # `not behind` instead of `before`: a score that is not a number counts against.
        of_texts += (~(scores < own - TIE) & ~mine).sum(0)
        of_images[rows] = (~(scores < best[:, None] - TIE) & ~mine).sum(1)
    return of_texts, of_images
