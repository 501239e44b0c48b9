"""From an image and words to the vector to search for: one short function per published method.

Every function takes unit vectors and returns a unit vector; ``E`` in the equations is the encoder's unit output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from simat.errors import QueryError
from simat.types import Query
from simat.vectors import unit_rows

Vector = Float32[np.ndarray, " d"]
EncodeTexts = Callable[[list[str]], Float32[np.ndarray, "n d"]]
EncodeImage = Callable[[], Vector]


@dataclass(frozen=True)
class Parts:
    """What a composer may ask for; nothing is encoded before it is asked for.

    Attributes:
        query: the question.
        image: encodes the query's image.
        texts: encodes words.
    """

    query: Query
    image: EncodeImage
    texts: EncodeTexts


def delta(parts: Parts) -> Vector:
    """x = E_img(I) + λ·Σ(E_txt(target) − E_txt(source)), normalised (thesis eq. 3.2).

    A missing source or target contributes nothing: ``+ snow`` adds its vector, ``- person`` subtracts it.
    """
    edits = parts.query.parsed_edits
    if not edits:
        raise QueryError("the composer 'delta' needs edits", remedy='write for example "dog -> cat"')
    words = [word for edit in edits for word in (edit.target, edit.source) if word]
    signs = [sign for edit in edits for sign, word in ((1, edit.target), (-1, edit.source)) if word]
    step = np.asarray(signs, np.float32) @ parts.texts(words)
    return _unit(parts.image() + np.float32(parts.query.scale) * step)


def text(parts: Parts) -> Vector:
    """x = E_txt(T): the words alone, the edits' targets where no text is given (Text→Image, thesis 3.4.1)."""
    words = (parts.query.text or "").strip() or " ".join(
        edit.target for edit in parts.query.parsed_edits if edit.target
    )
    if not words:
        raise QueryError("the composer 'text' needs words", remedy="give a text, or an edit with a target")
    return _unit(parts.texts([words])[0])


def image(parts: Parts) -> Vector:
    """x = E_img(I): the image alone; where every edit starts from."""
    return _unit(parts.image())


COMPOSERS: dict[str, Callable[[Parts], Vector]] = {"delta": delta, "text": text, "image": image}


def compose(parts: Parts) -> Vector:
    """The query vector by the composer that the query names.

    Raises:
        QueryError: an unknown composer, or parts that give no direction.
    """
    if parts.query.composer not in COMPOSERS:
        raise QueryError("no such composer", got=parts.query.composer, remedy=f"there are: {', '.join(COMPOSERS)}")
    return COMPOSERS[parts.query.composer](parts)


def _unit(vector: Vector) -> Vector:
    unit: Vector = unit_rows(vector[None], "query vector")[0]
    return unit
