"""Any image encoder with any text encoder: ``combined:image=SPEC,text=SPEC,heads=FOLDER`` (thesis 3.4.2, Figure 3.3).

The heads carry both towers into one space. Without them the towers must have one dimension, and are combined as they
are: two spaces that never met, where retrieval is chance.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8
from PIL.Image import Image

from simat.encoders.runtime import RuntimeOptions
from simat.errors import EncoderError
from simat.files import sha256_text
from simat.images import ImageTransform
from simat.types import EmbeddingSpace, ImageEncoder, PixelImageEncoder, TextEncoder

if TYPE_CHECKING:
    from simat.heads import Heads

NAME = "combined"
HELP = "write combined:image=SPEC,text=SPEC,heads=FOLDER"
_KEYS = ("image", "text", "heads")
_SPLIT = re.compile(rf",(?=(?:{'|'.join(_KEYS)})=)")  # a comma elsewhere belongs to a spec


@dataclass(frozen=True)
class Parts:
    """What a combined spec names.

    Attributes:
        image: spec of the image tower.
        text: spec of the text tower.
        heads: folder of the heads, None for the towers' own spaces.
    """

    image: str
    text: str
    heads: Path | None = None

    @classmethod
    def parse(cls, argument: str) -> Parts:
        """Read ``image=SPEC,text=SPEC[,heads=FOLDER]``, in any order.

        Raises:
            EncoderError: an unknown, repeated, empty or missing part, or a combined encoder inside another.
        """
        items = [item.partition("=") for item in _SPLIT.split(argument)]
        values = {key: value for key, _, value in items if value}
        if len(values) != len(items) or not set(values) <= {*_KEYS} or not {"image", "text"} <= set(values):
            raise EncoderError("this names no combined encoder", got=repr(argument), remedy=HELP)
        if any(values[key].partition(":")[0] == NAME for key in ("image", "text")):
            raise EncoderError("a combined encoder holds no other one", got=repr(argument), remedy=HELP)
        heads = Path(values["heads"]).expanduser() if "heads" in values else None
        return cls(values["image"], values["text"], heads)

    def load(self, options: RuntimeOptions) -> tuple[ImageEncoder, TextEncoder]:
        """Both towers; one object where both specs are the same.

        Raises:
            EncoderError: a tower does not read what is asked of it.
        """
        from simat.encoders import load_tower

        image = load_tower(self.image, options)
        text = image if self.text == self.image else load_tower(self.text, options)
        if not isinstance(image, ImageEncoder):
            raise EncoderError("this encoder reads no images", got=f"image={self.image}", remedy=HELP)
        if not isinstance(text, TextEncoder):
            raise EncoderError("this encoder reads no texts", got=f"text={self.text}", remedy=HELP)
        return image, text


def joint_space(spec: str, image: EmbeddingSpace, text: EmbeddingSpace, heads: Heads | None) -> EmbeddingSpace:
    """The space in which the vectors of two towers meet.

    Raises:
        SpaceMismatchError: the heads were trained on other towers.
        EncoderError: no heads, and two dimensions.
    """
    if heads is not None:
        return heads.space(spec, image, text)
    if image.dim != text.dim:
        raise EncoderError(
            "towers of two dimensions meet only through heads",
            got=f"{image.dim} for {image.encoder} and {text.dim} for {text.encoder}",
            remedy="add heads=FOLDER",
        )
    both = sha256_text(f"{image.fingerprint}\n{text.fingerprint}")
    return EmbeddingSpace(spec, image.fingerprint if image.fingerprint == text.fingerprint else both, image.dim)


class CombinedEncoder:
    """Two towers, and the heads after them where there are any."""

    def __init__(self, spec: str, image: ImageEncoder, text: TextEncoder, heads: Heads | None) -> None:
        self._image, self._text, self._heads = image, text, heads
        self._space = joint_space(spec, image.space, text.space, heads)

    @property
    def space(self) -> EmbeddingSpace:
        """The space after the heads."""
        return self._space

    def encode_images(self, images: list[Image]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per upright RGB image."""
        return self._projected_images(self._image.encode_images(images))

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text."""
        rows = self._text.encode_texts(texts)
        return rows if self._heads is None else self._heads.project_texts(rows)

    def _projected_images(self, rows: Float32[np.ndarray, "n before"]) -> Float32[np.ndarray, "n d"]:
        return rows if self._heads is None else self._heads.project_images(rows)


class PixelCombinedEncoder(CombinedEncoder):
    """A combined encoder whose images may be prepared elsewhere."""

    def __init__(self, spec: str, image: PixelImageEncoder, text: TextEncoder, heads: Heads | None) -> None:
        super().__init__(spec, image, text, heads)
        self._pixels = image

    @property
    def transform(self) -> ImageTransform:
        """The preprocessing of the image tower."""
        return self._pixels.transform

    def encode_pixels(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per transformed image."""
        return self._projected_images(self._pixels.encode_pixels(pixels))


def load(argument: str, options: RuntimeOptions) -> CombinedEncoder:
    """Entry point of ``combined``."""
    parts = Parts.parse(argument)
    heads = _heads(parts.heads)  # before the towers: a wrong folder is told at once
    image, text = parts.load(options)
    spec = f"{NAME}:{argument}"
    if isinstance(image, PixelImageEncoder):
        return PixelCombinedEncoder(spec, image, text, heads)
    return CombinedEncoder(spec, image, text, heads)


def _heads(folder: Path | None) -> Heads | None:
    if folder is None:
        return None
    from simat.heads import load_heads

    return load_heads(folder)


def with_heads(spec: str, heads: Path) -> str:
    """The spec of an encoder, of two towers or of one for both, with heads after it.

    Raises:
        EncoderError: it has heads already.
    """
    name, _, argument = spec.partition(":")
    if name != NAME:
        return f"{NAME}:image={spec},text={spec},heads={heads}"
    if Parts.parse(argument).heads is not None:
        raise EncoderError("this encoder has heads already", got=repr(spec), remedy="name the towers alone")
    return f"{NAME}:{argument},heads={heads}"


def heads_of(spec: str) -> Path | None:
    """The folder of heads that a spec names."""
    name, _, argument = spec.partition(":")
    return Parts.parse(argument).heads if name == NAME else None


def moved_heads(spec: str, folder: Path) -> str:
    """The same spec with its heads, where it has any, taken from ``folder``."""
    name, _, argument = spec.partition(":")
    if name != NAME or (parts := Parts.parse(argument)).heads is None:
        return spec
    return f"{NAME}:image={parts.image},text={parts.text},heads={folder}"
