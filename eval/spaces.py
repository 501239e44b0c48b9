"""The spaces that are measured: two towers, and perhaps heads after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from data.corpus import Corpus
from eval.features import corpus_vectors, image_files, require_files, stored_vectors
from simat.encoders.combined import joint_space
from simat.errors import EncoderError
from simat.heads import Heads, load_heads
from simat.progress import Progress
from simat.types import EmbeddingSpace, ImageEncoder, TextEncoder

BATCH = 256  # texts per call of an encoder


@dataclass(eq=False)
class Towers:
    """An image and a text encoder; every text and every corpus is encoded once, whatever heads come after.

    Attributes:
        image: encodes images.
        text: encodes texts.
        features: a folder of vectors of the corpus's images; None: encoded into the cache.
    """

    image: ImageEncoder
    text: TextEncoder
    features: Path | None = None
    _texts: dict[str, Float32[np.ndarray, " d"]] = field(default_factory=dict)
    _images: dict[Path, Float32[np.ndarray, "r d"]] = field(default_factory=dict)

    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Rows of the text tower."""
        new = [*dict.fromkeys(text for text in texts if text not in self._texts)]
        for start in range(0, len(new), BATCH):
            part = new[start : start + BATCH]
            self._texts.update(zip(part, self.text.encode_texts(part), strict=True))
        return np.stack([self._texts[text] for text in texts])

    def images(self, corpus: Corpus, progress: Progress | None = None) -> Float32[np.ndarray, "r d"]:
        """Rows of the image tower, one per image of the corpus.

        Raises:
            SpaceMismatchError: the features are of another encoder.
            StorageError: the features lack an image, or are of other images of the same names.
        """
        if corpus.folder not in self._images:
            if self.features is None:
                found = corpus_vectors(corpus, self.image, progress)
            else:
                files = image_files(corpus)
                found = stored_vectors(self.features, files, self.image.space)
                require_files(self.features, corpus.images, files)
            self._images[corpus.folder] = found
        return self._images[corpus.folder]


@dataclass(frozen=True, eq=False)
class Space:
    """Where images and texts meet.

    Attributes:
        name: how tables call it.
        towers: both encoders.
        heads: after them; None where the towers share a space.

    Raises:
        EncoderError: two towers that share no space, without heads.
        SpaceMismatchError: the heads were made for other towers.
    """

    name: str
    towers: Towers
    heads: Heads | None = None

    def __post_init__(self) -> None:
        image, text = self.towers.image.space, self.towers.text.space
        if self.heads is not None:
            self.heads.check(image, text)
        elif image.fingerprint != text.fingerprint or image.dim != text.dim:
            raise EncoderError("the two towers share no space", got=f"{image} and {text}", remedy="give heads for them")

    @property
    def space(self) -> EmbeddingSpace:
        """Its identity."""
        return joint_space(self.name, self.towers.image.space, self.towers.text.space, self.heads)

    @property
    def tau(self) -> float | None:
        """The temperature of the heads, None without them."""
        return None if self.heads is None else self.heads.tau

    def texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text."""
        rows = self.towers.texts(texts)
        return rows if self.heads is None else self.heads.project_texts(rows)

    def images(self, corpus: Corpus, progress: Progress | None = None) -> Float32[np.ndarray, "r d"]:
        """Unit rows, one per image of the corpus."""
        rows = self.towers.images(corpus, progress)
        return rows if self.heads is None else self.heads.project_images(rows)


def load_space(encoder: str, heads: Path | None = None, features: Path | None = None) -> Space:
    """The space of an encoder, with heads after it where they are given.

    Args:
        encoder: a spec; see ``simat encoders``.
        heads: a folder of heads.
        features: a folder of vectors of the corpus's images.

    Raises:
        EncoderError: no such encoder, or towers that share no space.
        SpaceMismatchError: the heads were made for another encoder.
        StorageError: no heads.
    """
    from simat.encoders import load_towers

    loaded = None if heads is None else load_heads(heads)
    image, text = load_towers(encoder)
    name = encoder if heads is None else f"{encoder} + {heads.name}"
    return Space(name, Towers(image, text, features), loaded)
