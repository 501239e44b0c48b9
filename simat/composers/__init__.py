"""From an image and words to what to search for: one short function per published method."""

from __future__ import annotations

from collections.abc import Callable

from simat.composers.arithmetic import delta, image, sentence_delta, slerp, text, weighted
from simat.composers.background import Background
from simat.composers.captioned import edited_caption, image_text_image, pdv
from simat.composers.fused import basic, product
from simat.composers.parts import Fusion, Parts, Vector
from simat.errors import QueryError

__all__ = ["COMPOSERS", "Background", "Composition", "Fusion", "Parts", "Vector", "compose", "summary"]

Composition = Vector | Fusion
Composer = Callable[[Parts], Composition]

COMPOSERS: dict[str, Composer] = {
    "delta": delta,
    "sentence_delta": sentence_delta,
    "image_text_image": image_text_image,
    "edited_caption": edited_caption,
    "text": text,
    "image": image,
    "weighted": weighted,
    "slerp": slerp,
    "product": product,
    "pdv": pdv,
    "basic": basic,
}


def compose(parts: Parts) -> Composition:
    """What to search for, by the composer that the query names: a unit vector, or two similarities and their fusion.

    Raises:
        QueryError: an unknown composer, or parts that give no direction.
    """
    if parts.query.composer not in COMPOSERS:
        raise QueryError("no such composer", got=parts.query.composer, remedy=f"there are: {', '.join(COMPOSERS)}")
    return COMPOSERS[parts.query.composer](parts)


def summary(name: str) -> str:
    """The equation and the source of a composer, in one line."""
    return (COMPOSERS[name].__doc__ or "").partition("\n")[0].removesuffix(".")
