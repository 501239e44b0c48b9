"""BLIP as an oracle: its image-text matching head says how probable a caption is (Li et al. 2022, arXiv 2201.12086)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64

from data.corpus import Corpus
from eval.features import image_files
from eval.simat_score import Judge
from simat.errors import EncoderError
from simat.images import decode, read_bytes

BATCH = 32  # pairs per call of the model
MATCHES = 1  # of the two logits of the matching head: no, yes


class Blip:
    """``BlipForImageTextRetrieval`` with its processor.

    Args:
        model: a local folder, or a name on the hub.

    Raises:
        EncoderError: no such model, or one of another kind.
    """

    def __init__(self, model: str) -> None:
        import torch
        from transformers import BlipForImageTextRetrieval, BlipProcessor

        try:
            self._processor: Any = BlipProcessor.from_pretrained(model)
            self._model: Any = BlipForImageTextRetrieval.from_pretrained(model)
        except (OSError, ValueError, KeyError, TypeError) as error:
            remedy = "give the folder of a BlipForImageTextRetrieval with its processor, or its name on the hub"
            raise EncoderError("cannot load BLIP", got=model, remedy=remedy) from error
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model.eval().to(self._device)

    def probabilities(self, images: Sequence[Path], captions: Sequence[str]) -> Float[np.ndarray, " n"]:
        """P(the caption matches the image), pair by pair.

        Raises:
            ImageError: an image that cannot be read.
        """
        import torch

        found = []
        for start in range(0, len(images), BATCH):
            pictures = [decode(read_bytes(path)) for path in images[start : start + BATCH]]
            texts = list(captions[start : start + BATCH])
            inputs = self._processor(images=pictures, text=texts, padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                logits = self._model(**inputs.to(self._device), use_itm_head=True)[0]
            found.append(logits.softmax(-1)[:, MATCHES].double().cpu().numpy())
        return np.concatenate(found) if found else np.empty(0)


def blip_judge(model: str, corpus: Corpus) -> Judge:
    """A judge that asks BLIP about every pair once.

    Raises:
        EncoderError: as :class:`Blip`.
    """
    blip, files = Blip(model), image_files(corpus)
    captions = corpus.table("triplets")["caption"].to_pylist()
    known: dict[tuple[int, int], float] = {}

    def judge(regions: Int64[np.ndarray, " n"], goals: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        pairs = list(zip(regions.tolist(), goals.tolist(), strict=True))
        new = sorted({pair for pair in pairs if pair not in known})
        paths = [corpus.images / files[region] for region, _ in new]
        known.update(zip(new, blip.probabilities(paths, [captions[goal] for _, goal in new]).tolist(), strict=True))
        return np.array([known[pair] for pair in pairs], np.float64)

    return judge
