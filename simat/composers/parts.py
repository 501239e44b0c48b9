"""What goes into a composer and what comes out: parts of a query in, a unit vector or a fusion of two out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from simat.composers.background import Background, EncodeTexts, Rows
from simat.edits import Edit
from simat.errors import QueryError
from simat.types import Query
from simat.vectors import unit_rows

Vector = Float32[np.ndarray, " d"]
EncodeImage = Callable[[], Vector]
Scores = Float[np.ndarray, "..."]


@dataclass(frozen=True)
class Parts:
    """What a composer may ask for; nothing is encoded before it is asked for.

    Attributes:
        query: the question.
        image: encodes the query's image.
        texts: encodes words.
        background: what is known beside the query; without an index, the sentences that come with the package.
    """

    query: Query
    image: EncodeImage
    texts: EncodeTexts
    background: Background | None = None

    def known(self) -> Background:
        """The background, or one without an index."""
        return self.background or Background(self.texts)

    def changes(self) -> tuple[Edit, ...]:
        """The edits, without those from a word to itself.

        Raises:
            QueryError: the query has no edits at all.
        """
        edits = self.query.parsed_edits
        if not edits:
            name = self.query.composer
            raise QueryError(f"the composer {name!r} needs edits", remedy='write for example "dog -> cat"')
        return tuple(edit for edit in edits if edit.source != edit.target)


@dataclass(frozen=True)
class Half:
    """One of the two similarities of a fusion: (vector·x − low) / span of every image x.

    Attributes:
        vector: what an index is searched with; not of unit length in general.
        low: what counts as no similarity.
        span: what counts as one.
    """

    vector: Vector
    low: float
    span: float

    def __call__(self, products: Scores) -> Scores:
        """Similarities from the inner products vector·x."""
        scores: Scores = (products - np.float32(self.low)) / np.float32(self.span)
        return scores


@dataclass(frozen=True)
class Fusion:
    """Late fusion: every image gets two similarities, v to the image and t to the words, and one score of both.

    Attributes:
        image: the similarity v.
        text: the similarity t; negative ones count as 0.
        power: t is raised to it, so that 0 silences the words.
        combine: the score of v and t^power, elementwise.
        bound: no score of a v ≤ a and a t^power ≤ b is greater than ``bound(a, b)``.
    """

    image: Half
    text: Half
    power: float
    combine: Callable[[Scores, Scores], Scores]
    bound: Callable[[float, float], float]

    def score(self, rows: Rows) -> Float32[np.ndarray, " n"]:
        """Scores of images given as rows.

        Raises:
            QueryError: the power is so great that a score is no number.
        """
        v, t = self.image(rows @ self.image.vector), self.text(rows @ self.text.vector)
        return np.asarray(finite(self.combine(v, weighed(t, self.power)), self.power), np.float32)

    def limit(self, image_product: float, text_product: float) -> float:
        """The best score that products no greater than these can give."""
        v, t = self.image(np.array([image_product])), self.text(np.array([text_product]))
        return self.bound(float(v[0]), float(weighed(t, self.power)[0]))


def weighed(similarities: Scores, power: float) -> Scores:
    """max(t, 0)^power, with 0^0 = 1; infinite where that is too large a number."""
    positive: Scores = np.maximum(similarities, 0)
    if power != 1:
        with np.errstate(over="ignore"):
            positive = positive ** np.asarray(power, positive.dtype)
    return positive


def finite(scores: Scores, power: float) -> Scores:
    """The scores.

    Raises:
        QueryError: one of them is infinite or not a number.
    """
    if not np.isfinite(scores).all():
        raise QueryError("the scale is too great for this composer", got=power, remedy="take a smaller one")
    return scores


def unit(vector: Vector) -> Vector:
    """The vector divided by its length.

    Raises:
        QueryError: it has none.
    """
    row: Vector = unit_rows(vector[None], "query vector")[0]
    return row


def not_negative(query: Query) -> float:
    """The scale of a query whose composer has no meaning for a negative one.

    Raises:
        QueryError: the scale is negative.
    """
    if query.scale < 0:
        raise QueryError(f"the composer {query.composer!r} needs a scale of at least 0", got=query.scale)
    return query.scale
