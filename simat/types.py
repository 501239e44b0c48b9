"""The types that every layer speaks: spaces, queries, hits, answers, and the two protocols."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from PIL.Image import Image

from simat.edits import Edit, parse_edits
from simat.errors import QueryError, SpaceMismatchError
from simat.images import ImageTransform
from simat.selection import Selection

ImageInput = str | Path | Image | UInt8[np.ndarray, "height width 3"] | int
"""A path, a picture, an RGB array, or the id of an image in the index."""


@dataclass(frozen=True)
class EmbeddingSpace:
    """The identity of an embedding space: two vectors may meet only if their spaces are equal.

    Attributes:
        encoder: the spec that loads the encoder, e.g. ``offline``.
        fingerprint: SHA-256 (hex) of weights and preprocessing.
        dim: length of a vector.
        heads: fingerprint of the adapter heads, None for the encoder's own space.
    """

    encoder: str
    fingerprint: str
    dim: int
    heads: str | None = None

    def require(self, other: EmbeddingSpace) -> None:
        """Raise :class:`SpaceMismatchError` unless ``other`` is this very space (specs may differ)."""
        if (self.fingerprint, self.dim, self.heads) != (other.fingerprint, other.dim, other.heads):
            raise SpaceMismatchError(
                f"the index holds vectors of {self}",
                got=f"an encoder of {other}",
                remedy=f"open it with --encoder {self.encoder}, or build a new index with {other.encoder}",
            )

    def __str__(self) -> str:
        heads = f" + heads {self.heads[:12]}" if self.heads else ""
        return f"{self.encoder}{heads} ({self.dim}-d, {self.fingerprint[:12]})"


@dataclass(frozen=True)
class Query:
    """One question to a backend; a backend says which fields it needs, may use, or refuses.

    Attributes:
        image: the picture to start from.
        text: words to search for.
        edits: what to change; a text is parsed by :func:`simat.edits.parse_edits`.
        scale: λ of eq. 3.2; the length of the step along the delta vector.
        k: how many answers (None: ten, or all where there are fewer).
        composer: name of the function in :mod:`simat.compose` that makes the query vector.
        include_self: let the query image itself be among the answers.
        reference: words for the image as it is (generators).
        mask: where to edit, 1 = edit (generators).
        layout: named segments, 1 = inside (generators).
        where: a condition on the metadata, as in SQL: only images for which it is true; see :mod:`simat.where`.
        seed: the random seed (generators).
        samples: how many pictures to generate.
        strength: how far to go from the input, in [0, 1] (generators).
        vector: the picture to start from, already encoded: a vector of the index's space, of any length.
    """

    image: ImageInput | None = None
    text: str | None = None
    edits: Sequence[Edit] | str = ()
    scale: float = 1.0
    k: int | None = None
    composer: str = "delta"
    include_self: bool = False
    reference: str | None = None
    mask: np.ndarray | None = None
    layout: Mapping[str, np.ndarray] | None = None
    where: str | None = None
    seed: int | None = None
    samples: int | None = None
    strength: float | None = None
    vector: np.ndarray | None = None

    def __post_init__(self) -> None:
        _ = self.parsed_edits  # a text that does not parse is refused at once
        if not math.isfinite(self.scale):
            raise QueryError("the scale must be a finite number", got=self.scale)
        if self.k is not None and self.k < 1:
            raise QueryError("k must be at least 1", got=self.k)
        if self.strength is not None and not 0 <= self.strength <= 1:
            raise QueryError("the strength must lie in [0, 1]", got=self.strength)
        if self.samples is not None and self.samples < 1:
            raise QueryError("the number of samples must be at least 1", got=self.samples)
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise QueryError("the seed must lie in [0, 2⁶³)", got=self.seed)

    @property
    def parsed_edits(self) -> tuple[Edit, ...]:
        """The edits, parsed where they were given as text."""
        return parse_edits(self.edits) if isinstance(self.edits, str) else tuple(self.edits)


@dataclass(frozen=True)
class Hits:
    """Neighbours of q queries, best first, padded with id −1 and score −inf.

    Attributes:
        ids: rows of the embedding set.
        scores: inner products of unit vectors, in [−1, 1].
    """

    ids: Int64[np.ndarray, "q k"]
    scores: Float32[np.ndarray, "q k"]


@dataclass(frozen=True)
class Result:
    """One picture of an answer: found (``path``, ``id``) or made (``image``)."""

    score: float
    id: int | None = None
    path: Path | None = None
    caption: str | None = None
    image: Image | None = None


@dataclass(frozen=True)
class Answer(Sequence[Result]):
    """What a backend answers; a sequence of its results.

    Attributes:
        results: best first.
        backend: who answered.
        timings: seconds by stage.
        extras: whatever else the backend has to tell.
    """

    results: tuple[Result, ...]
    backend: str
    timings: Mapping[str, float] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)


@dataclass(frozen=True)
class Step:
    """A progress event of a backend: ``step`` of ``total`` in ``stage``, with a preview where there is one."""

    stage: str
    step: int
    total: int
    preview: Image | None = None


OnStep = Callable[[Step], None]
Cancel = Callable[[], bool]


@runtime_checkable
class ImageEncoder(Protocol):
    """Maps images to unit vectors of one space."""

    @property
    def space(self) -> EmbeddingSpace:
        """The space that the vectors live in."""
        ...

    def encode_images(self, images: list[Image]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per upright RGB image."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """Maps texts to unit vectors of one space."""

    @property
    def space(self) -> EmbeddingSpace:
        """The space that the vectors live in."""
        ...

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text."""
        ...


@runtime_checkable
class PixelImageEncoder(ImageEncoder, Protocol):
    """An image encoder whose preprocessing can run elsewhere: in decode workers, on another machine."""

    @property
    def transform(self) -> ImageTransform:
        """From an image to the fixed-size pixels that the network takes."""
        ...

    def encode_pixels(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per transformed image."""
        ...


@runtime_checkable
class Encoder(ImageEncoder, TextEncoder, Protocol):
    """Maps images and texts to unit vectors of one space."""


@runtime_checkable
class PixelEncoder(Encoder, PixelImageEncoder, Protocol):
    """An encoder of both kinds whose images may be prepared elsewhere."""


@dataclass(frozen=True)
class Accepts:
    """Which fields of a :class:`Query` a backend requires and may use; any other one given is an error."""

    requires: frozenset[str]
    optional: frozenset[str]


@runtime_checkable
class VectorSearch(Protocol):
    """Finds the nearest vectors of an index, wherever they are."""

    rows: int
    dim: int

    def search(self, queries: Float32[np.ndarray, "q d"], k: int, among: Selection | None = None) -> Hits:
        """The k largest inner products per query, best first, ties by smaller id; only of the rows ``among``."""
        ...


@runtime_checkable
class Backend(Protocol):
    """Answers queries, by finding or by making pictures."""

    name: str
    accepts: Accepts

    def answer(self, query: Query, on_step: OnStep | None = None, cancel: Cancel | None = None) -> Answer:
        """Answer one query; calls ``on_step`` after and asks ``cancel`` before every step."""
        ...
