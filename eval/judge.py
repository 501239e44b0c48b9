"""The judge of what was made: a classifier that says what a picture shows, a segmenter that says where.

Both are Hugging Face folders or ids. Those of the scene world were trained apart from everything that makes or finds
pictures; nothing but evaluation reads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from PIL.Image import Image

from eval.metrics.accuracy import Classifier, load_classifier, prepare_like
from simat.errors import EncoderError

SCENES = "scenes"
FACTS = ("subject", "relation", "object", "place")
BATCH = 16


class Judge:
    """Says what pictures show, by a classifier whose labels read ``subject dog``, ``relation riding`` and so on.

    Raises:
        EncoderError: labels of another kind.
    """

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        groups: dict[str, dict[int, str]] = {}
        for column, label in enumerate(classifier.labels):
            fact, _, value = label.partition(" ")
            groups.setdefault(fact, {})[column] = value
        self._groups = {fact: groups[fact] for fact in FACTS if fact in groups}
        if not self._groups:
            raise EncoderError(
                "this classifier says no facts of scenes", got=classifier.name, remedy="its labels read 'subject dog'"
            )

    @property
    def name(self) -> str:
        """Of the classifier."""
        return self._classifier.name

    def facts(self, pictures: list[Image]) -> list[dict[str, str]]:
        """For each picture, the likeliest value of every kind of fact."""
        logits = self._classifier.logits(pictures)
        return [{fact: _best(row, group) for fact, group in self._groups.items()} for row in logits]


class Segmenter:
    """Says which class every pixel of a picture shows.

    Args:
        name: what figures that look through it are called by.
        model: of ``transformers``, for semantic segmentation.
        prepare: a picture to a tensor [3, h, w].
    """

    def __init__(self, name: str, model: Any, prepare: Any) -> None:
        self.name, self._model, self._prepare = name, model, prepare

    @cached_property
    def classes(self) -> Mapping[str, int]:
        """The number of every class, by its name."""
        return {str(label): int(number) for number, label in self._model.config.id2label.items()}

    def number(self, name: str) -> int:
        """The number of a class.

        Raises:
            EncoderError: it knows no such class.
        """
        if name not in self.classes:
            known = ", ".join([*self.classes][:8])
            raise EncoderError(f"{self.name} knows no class {name!r}", remedy=f"it knows: {known}, …")
        return self.classes[name]

    def maps(self, pictures: Sequence[Image]) -> list[Int64[np.ndarray, "h w"]]:
        """The class of every pixel, at each picture's own size: logits resized bilinearly, then the best."""
        import torch
        from torch.nn.functional import interpolate

        found = []
        for start in range(0, len(pictures), BATCH):
            chosen = pictures[start : start + BATCH]
            batch = torch.stack([self._prepare(picture.convert("RGB")) for picture in chosen])
            with torch.inference_mode():
                logits = self._model(pixel_values=batch).logits.float()
                for row, picture in zip(logits, chosen, strict=True):
                    size = (picture.height, picture.width)
                    full = interpolate(row[None], size=size, mode="bilinear", align_corners=False)
                    found.append(full[0].argmax(0).cpu().numpy().astype(np.int64))
        return found


def load_judge(spec: str = SCENES) -> Judge:
    """The judge's classifier: ``scenes`` for the shipped one, or whatever :func:`load_classifier` takes.

    Raises:
        EncoderError: no such model, or labels of another kind.
    """
    return Judge(load_classifier(_shipped("classifier") if spec == SCENES else spec))


def load_segmenter(spec: str = SCENES) -> Segmenter:
    """A segmenter: ``scenes`` for the shipped one, or any Hugging Face folder or id.

    Raises:
        EncoderError: no such model, or one that segments nothing.
    """
    from transformers import AutoModelForSemanticSegmentation

    place = _shipped("segmenter") if spec == SCENES else spec
    try:
        model = AutoModelForSemanticSegmentation.from_pretrained(place).eval().float()
        return Segmenter(Path(place).name if Path(place).exists() else place, model, prepare_like(place))
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise EncoderError("no segmenter there", got=f"{spec!r} ({type(error).__name__})") from error


def _shipped(part: str) -> str:
    return str(files("simat") / "models" / "scenes" / "judge" / part)


def _best(row: np.ndarray, group: Mapping[int, str]) -> str:
    return group[max(group, key=lambda column: float(row[column]))]
