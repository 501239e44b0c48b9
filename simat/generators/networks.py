"""Dual encoders with gradients: open_clip networks as FlexIT's multimodal encoder takes them.

Imported only with torch. The encoders of :mod:`simat.encoders` answer queries fast and without gradients; here the
same checkpoints run in torch, from pixels in [0, 1] to unit vectors, with the same preprocessing as torch operations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from simat.encoders.open_clip import Checkpoint, locate, transform_of
from simat.encoders.scenes import FOLDER
from simat.errors import EncoderError
from simat.generators.augment import Pictures, resize
from simat.generators.prompts import check_words
from simat.images import ImageTransform

HELP = "write scenes, open_clip:MODEL/TAG, open_clip:MODEL//path/to/checkpoint or open_clip:/path/to/folder"
Rows = Float[Tensor, "n d"]
Prepared = Float[Tensor, "n 3 size size"]


@runtime_checkable
class DualNetwork(Protocol):
    """A multimodal encoder (C_i, C_t) that gradients pass through."""

    @property
    def name(self) -> str:
        """What loads it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names architecture and weights."""
        ...

    @property
    def size(self) -> int:
        """Width and height of the pictures that the network sees."""
        ...

    def prepared(self, pictures: Pictures) -> Prepared:
        """Square pictures in [0, 1] at the network's size, by its own resizing."""
        ...

    def embed_images(self, pictures: Prepared) -> Rows:
        """Unit rows of pictures in [0, 1] at the network's size."""
        ...

    def embed_texts(self, texts: list[str]) -> Rows:
        """Unit rows of texts, without gradients."""
        ...


class OpenClipNetwork:
    """A checkpoint of open_clip, frozen, in single precision.

    Attributes:
        name: what loads it.
        fingerprint: of configuration and weights.
    """

    def __init__(self, name: str, checkpoint: Checkpoint, device: str = "cpu") -> None:
        import open_clip

        self.name, self.fingerprint = name, checkpoint.fingerprint
        self._model: Any = checkpoint.create().float().to(device).requires_grad_(False)
        self._tokenizer: Any = open_clip.get_tokenizer(checkpoint.model)
        inner = getattr(self._tokenizer, "tokenizer", None)  # of the transformers library, where open_clip takes one
        self._words = [inner] if hasattr(inner, "unk_token_id") else []
        transform = transform_of(self._model)
        self._transform, self._device = _square(transform, name), device
        self._mean = torch.tensor(transform.mean, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(transform.std, device=device).view(1, 3, 1, 1)

    @property
    def size(self) -> int:
        """Width and height of the pictures that the network sees."""
        return self._transform.height

    def prepared(self, pictures: Pictures) -> Prepared:
        """Square pictures in [0, 1] at the network's size, by its own resizing."""
        return resize(pictures, self.size, self._transform.interpolation.lower())

    def embed_images(self, pictures: Prepared) -> Rows:
        """Unit rows of pictures in [0, 1] at the network's size."""
        rows: Tensor = self._model.encode_image((pictures - self._mean) / self._std)
        return functional.normalize(rows, dim=-1)

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> Rows:
        """Unit rows of texts; those over the context length are cut, as open_clip does.

        Raises:
            QueryError: a word that the tokenizer would replace by one for all unknown words.
        """
        check_words(self._words, *texts)
        rows: Tensor = self._model.encode_text(self._tokenizer(texts).to(self._device))
        return functional.normalize(rows, dim=-1)


def load_networks(specs: Sequence[str], device: str = "cpu") -> tuple[DualNetwork, ...]:
    """Load the networks whose embeddings are concatenated (Couairon 2023, Figure 4.3).

    Args:
        specs: as :mod:`simat.encoders` writes them: ``scenes`` or ``open_clip:…``; the weights of OpenAI go with the
            names that end in ``-quickgelu``.
        device: of torch.

    Raises:
        EncoderError: none is given, one twice, an encoder without gradients, unknown or missing weights, or weights
            that were trained with another activation than the model's.
    """
    if not specs:
        raise EncoderError("no network to embed pictures and words with", remedy=HELP)
    twice = {spec for spec in specs if list(specs).count(spec) > 1}
    if twice:
        raise EncoderError("a network is named twice", got=", ".join(sorted(twice)), remedy="name it once")
    checkpoints = [checkpoint_of(spec) for spec in specs]  # all are found before any is loaded
    return tuple(OpenClipNetwork(spec, found, device) for spec, found in zip(specs, checkpoints, strict=True))


def checkpoint_of(spec: str) -> Checkpoint:
    """The checkpoint behind the spec of an encoder.

    Raises:
        EncoderError: as :func:`load_networks`.
    """
    name, _, argument = spec.partition(":")
    if name == "scenes" and not argument:
        return locate(str(FOLDER))
    if name != "open_clip":
        raise EncoderError("no gradients pass through this encoder", got=repr(spec), remedy=HELP)
    return locate(argument)


def _square(transform: ImageTransform, name: str) -> ImageTransform:
    if transform.height != transform.width:
        raise EncoderError("a network for pictures that are no squares", got=name, remedy="choose another")
    if transform.interpolation not in {"BICUBIC", "BILINEAR"}:
        raise EncoderError("a way of resizing without gradients", got=f"{name}: {transform.interpolation}")
    return transform
