"""What composers know beside the query: sentences, a bank of captions, statistics of the index; each computed once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int64

from simat.composers.sentences import OBJECTS, STYLES, TEMPLATES, Sentences, captions, shipped
from simat.errors import QueryError
from simat.files import atomic, cache_folder, sha256_text
from simat.vectors import unit_rows

Rows = Float32[np.ndarray, "n d"]
EncodeTexts = Callable[[list[str]], Float32[np.ndarray, "n d"]]
SAMPLE = 4096  # vectors from which the statistics of an index are estimated
RUN = 32  # of them lie side by side: a random vector costs as much to read as its neighbours
SEED = 0
MAX_BANK = 20_000  # captions of an index that are encoded; of more, a seeded sample
KEPT = 1024  # texts: encoding fewer takes no longer than finding them on disk
NEGATIVE = 0.2  # α of BASIC
COMPONENTS = 250  # directions that BASIC keeps


@dataclass(frozen=True)
class Bank:
    """Captions and their unit vectors, row by row."""

    texts: tuple[str, ...]
    vectors: Rows

    def nearest(self, images: Float32[np.ndarray, "m d"]) -> Int64[np.ndarray, " m"]:
        """Row of the caption nearest to each image."""
        return np.asarray((images @ self.vectors.T).argmax(1), np.int64)


@dataclass(frozen=True)
class Projection:
    """The semantic subspace of BASIC.

    Attributes:
        mean: μ_t, the mean vector of the positive texts.
        basis: orthonormal columns P.
    """

    mean: Float32[np.ndarray, " d"]
    basis: Float32[np.ndarray, "d c"]

    def keep(self, rows: Rows) -> Rows:
        """P·Pᵀ·x of each row."""
        kept: Rows = rows @ self.basis @ self.basis.T
        return kept


class Background:
    """What a composer may know beside the query; nothing is read or encoded before it is asked for.

    Args:
        encode: texts to unit rows.
        sample: vectors of the index, or a seeded sample of them; None where there is no index.
        captions: captions of the index's images.
        texts: templates and captions given by the user; None for those that come with the package.
        key: identifies the encoder; with it, a large bank is kept in the cache folder.
        bank: captions to describe images with, before those of the user and of the index.
    """

    def __init__(
        self,
        encode: EncodeTexts,
        sample: Callable[[], Rows] | None = None,
        captions: Callable[[], Sequence[str]] | None = None,
        texts: Sequence[str] | None = None,
        key: str | None = None,
        bank: Sequence[str] = (),
    ) -> None:
        self._encode, self._sample, self._captions, self._texts, self._key = encode, sample, captions, texts, key
        self._bank = bank

    @cached_property
    def sentences(self) -> Sentences:
        """The user's texts where there are any, else the templates that come with the package."""
        return Sentences(shipped(TEMPLATES) if self._texts is None else tuple(self._texts))

    @cached_property
    def bank(self) -> Bank:
        """The user's captions where there are any, else those of the index.

        Raises:
            QueryError: there are none.
        """
        texts = captions(self._bank or self._texts or ())
        if not texts and self._captions is not None:
            texts = captions(self._captions())
        if not texts:
            raise QueryError(
                "there are no captions to describe the image with", remedy="give some with --texts FILE, or texts="
            )
        if len(texts) > MAX_BANK:
            chosen = np.random.default_rng(SEED).choice(len(texts), MAX_BANK, replace=False)
            texts = tuple(texts[i] for i in np.sort(chosen))
        return Bank(texts, self._encoded(texts))

    @cached_property
    def sample(self) -> Rows:
        """Vectors of the index, all of them or a seeded sample.

        Raises:
            QueryError: there is no index.
        """
        if self._sample is None:
            raise QueryError("this composer needs an index", remedy="ask an engine: simat.open(INDEX).edit(…)")
        return self._sample()

    @cached_property
    def mean(self) -> Float32[np.ndarray, " d"]:
        """μ_v: the mean vector of the index's images."""
        return np.asarray(self.sample.mean(0, dtype=np.float64), np.float32)

    @cached_property
    def projection(self) -> Projection:
        """The subspace of BASIC, from lists of objects and styles that come with the package."""
        return contrastive_projection(self._objects, self._encode([*shipped(STYLES)]))

    @cached_property
    def least(self) -> tuple[float, float]:
        """s_min of BASIC: the least product of two centred images of the sample, and of an object and an image."""
        images, objects = self.sample - self.mean, self._objects - self.projection.mean
        return float((images @ images.T).min()), float((objects @ images.T).min())

    @cached_property
    def _objects(self) -> Rows:
        return self._encode([*shipped(OBJECTS)])

    def _encoded(self, texts: tuple[str, ...]) -> Rows:
        if self._key is None or len(texts) < KEPT:
            return unit_rows(self._encode([*texts]), "text vector")
        path = cache_folder("banks") / f"{sha256_text(json.dumps([self._key, texts]))}.npy"
        if not path.is_file():
            vectors = unit_rows(self._encode([*texts]), "text vector")
            with atomic(path) as temporary, temporary.open("wb") as file:
                np.save(file, vectors)
        kept: Rows = np.load(path)
        return kept


def contrastive_projection(
    positive: Float32[np.ndarray, "p d"],
    negative: Float32[np.ndarray, "m d"],
    alpha: float = NEGATIVE,
    components: int = COMPONENTS,
) -> Projection:
    """Contrastive PCA of texts: the leading eigenvectors of C = (1 − α)·C₊ − α·C₋.

    C₊ and C₋ are the second moments of the positive and negative texts about the mean of the positive ones, the sums
    divided by their numbers less one (BASIC, arXiv 2510.25387). Only eigenvectors with positive eigenvalues are kept:
    there, what pictures are of outweighs how they look.
    """
    mean = positive.mean(0, dtype=np.float64)
    ours, theirs = positive - mean, negative - mean
    contrast = (1 - alpha) * ours.T @ ours / (len(ours) - 1) - alpha * theirs.T @ theirs / (len(theirs) - 1)
    values, vectors = np.linalg.eigh(contrast)
    best = vectors[:, ::-1][:, : min(components, max(1, int((values > values[-1] * 1e-6).sum())))]
    return Projection(np.asarray(mean, np.float32), np.ascontiguousarray(best, np.float32))


def sample_ids(count: int, size: int = SAMPLE) -> Int64[np.ndarray, " s"]:
    """Ids of a seeded sample of ``count`` vectors, in runs of neighbours; all of them where they are few."""
    if count <= size:
        return np.arange(count, dtype=np.int64)
    runs = np.random.default_rng(SEED).choice(count // RUN, size // RUN, replace=False)
    return np.asarray((np.sort(runs)[:, None] * RUN + np.arange(RUN)).ravel(), np.int64)
