"""How often a classifier sees the target class, among the classes that a protocol allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int64
from PIL.Image import Image

from simat.errors import EncoderError

OFFLINE = "efficientnet"
BATCH = 16


@runtime_checkable
class Classifier(Protocol):
    """Maps pictures to one number per class."""

    @property
    def name(self) -> str:
        """What figures that look through it are called by."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each column; empty where the classifier has no names."""
        ...

    def logits(self, pictures: list[Image]) -> Float[np.ndarray, "n classes"]:
        """One row per picture."""
        ...


def correct(
    logits: Float[np.ndarray, "n classes"], targets: Int64[np.ndarray, " n"], allowed: Sequence[int]
) -> Bool[np.ndarray, " n"]:
    """Whether the target has the highest logit of the allowed classes (thesis 4.4.1).

    Args:
        logits: one row per picture.
        targets: column of the class that each picture shall show.
        allowed: columns that count; the targets are among them.
    """
    columns = np.array(sorted(set(allowed)), np.int64)
    best: Bool[np.ndarray, " n"] = columns[logits[:, columns].argmax(1)] == targets
    return best


class NetworkClassifier:
    """A network in PyTorch and what prepares pictures for it.

    Args:
        prepare: a picture to a tensor [3, h, w].
        network: a batch of them to logits [n, classes].
    """

    def __init__(
        self, name: str, labels: Sequence[str], prepare: Callable[[Image], Any], network: Callable[[Any], Any]
    ) -> None:
        self.name, self.labels = name, tuple(labels)
        self._prepare, self._network = prepare, network

    def logits(self, pictures: list[Image]) -> Float[np.ndarray, "n classes"]:
        """One row per picture."""
        import torch

        rows = []
        for start in range(0, len(pictures), BATCH):
            batch = torch.stack([self._prepare(p.convert("RGB")) for p in pictures[start : start + BATCH]])
            with torch.inference_mode():
                rows.append(self._network(batch).float().cpu().numpy())
        return np.concatenate(rows) if rows else np.empty((0, len(self.labels)), np.float32)


def load_classifier(spec: str) -> Classifier:
    """A classifier: ``timm:MODEL``, ``efficientnet`` (no network needed), or a Hugging Face folder or id.

    Raises:
        EncoderError: no such model, or weights that cannot be had.
    """
    if spec == OFFLINE:
        return _efficientnet()
    kind, _, name = spec.partition(":")
    try:
        return _timm(name, spec) if kind == "timm" else _transformers(spec)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise EncoderError(
            "no classifier there", got=f"{spec!r} ({type(error).__name__})", remedy=f"without a network: {OFFLINE}"
        ) from error


def prepare_like(folder: str) -> Callable[[Image], Any]:
    """How a transformers folder says that pictures are prepared: a picture to a tensor [3, h, w].

    Raises:
        OSError: no such folder.
    """
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(folder)
    return lambda picture: processor(picture, return_tensors="pt")["pixel_values"][0]


def _transformers(spec: str) -> Classifier:
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(spec).eval().float()
    labels = [str(model.config.id2label[number]) for number in range(model.config.num_labels)]
    return NetworkClassifier(_short(spec), labels, prepare_like(spec), lambda batch: model(batch).logits)


def _timm(name: str, spec: str) -> Classifier:
    import timm

    model = timm.create_model(name, pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    return NetworkClassifier(spec, (), transform, model)


def _efficientnet() -> Classifier:
    import torch

    from simat.encoders.offline import TRANSFORM, build_classifier, classifier_weights

    network = build_classifier(classifier_weights()).eval()
    return NetworkClassifier(OFFLINE, (), lambda picture: torch.from_numpy(TRANSFORM.pixels(picture).copy()), network)


def _short(spec: str) -> str:
    return Path(spec).name if Path(spec).exists() else spec
