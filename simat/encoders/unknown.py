"""The encoder of imported vectors that nobody has named one for: its space can be searched, but nothing encoded."""

from __future__ import annotations

import re
from typing import NoReturn

from PIL.Image import Image

from simat.encoders.runtime import RuntimeOptions
from simat.errors import EncoderError
from simat.files import sha256_text
from simat.types import EmbeddingSpace

NAME = "unknown"
_ARGUMENT = re.compile(r"(\d+)/[0-9a-f]{12}")


class UnknownEncoder:
    """Stands where an encoder should.

    Attributes:
        space: of the vectors.
    """

    def __init__(self, space: EmbeddingSpace) -> None:
        self.space = space

    def encode_images(self, images: list[Image]) -> NoReturn:
        """Refuse: nobody knows how."""
        raise EncoderError(
            "nobody has said which encoder made the vectors of this index",
            remedy="search with ids and vectors, or import them again with --encoder",
        )


def unknown_space(dim: int, origin: str) -> EmbeddingSpace:
    """The space of ``dim``-d vectors that came from ``origin``: equal to that of no other origin."""
    spec = f"{NAME}:{dim}/{sha256_text(origin)[:12]}"
    return EmbeddingSpace(spec, sha256_text(spec), dim)


def is_unknown(space: EmbeddingSpace) -> bool:
    """Whether nobody has said which encoder makes the vectors of a space."""
    return space.encoder.partition(":")[0] == NAME


def load(argument: str, options: RuntimeOptions) -> UnknownEncoder:
    """Entry point of ``unknown``; the argument is what :func:`unknown_space` made."""
    found = _ARGUMENT.fullmatch(argument)
    if found is None:
        raise EncoderError(
            "this name marks imported vectors: it is no encoder to build with",
            got=repr(f"{NAME}:{argument}" if argument else NAME),
            remedy="see 'simat encoders'",
        )
    spec = f"{NAME}:{argument}"
    return UnknownEncoder(EmbeddingSpace(spec, sha256_text(spec), int(found[1])))
