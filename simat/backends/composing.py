"""Many queries composed together: all the words that they need are encoded at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32

from simat.backends.sources import QueryImage
from simat.compose import Composition, Parts, Vector, compose
from simat.composers import Background
from simat.composers.background import EncodeTexts
from simat.errors import QueryError, SimatError
from simat.types import Query

Source = QueryImage | None


class _Unknown(Exception):
    """Words that have no vector yet."""


class _Vocabulary:
    """Vectors of words; notes those that it does not have, so that they can be encoded together."""

    def __init__(self, encode: EncodeTexts) -> None:
        self._encode, self._known = encode, {}  # type: EncodeTexts, dict[str, Vector]
        self._wanted: dict[str, None] = {}

    def __call__(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, as an encoder gives them.

        Raises:
            _Unknown: one of the texts is to be learnt first.
        """
        new = [text for text in texts if text not in self._known]
        if new:
            self._wanted.update(dict.fromkeys(new))
            raise _Unknown
        return np.stack([self._known[text] for text in texts])

    def learn(self) -> None:
        """Encode what was asked for and not known."""
        texts, self._wanted = list(self._wanted), {}
        self._known.update(zip(texts, self._encode(texts), strict=True))


def composed(
    queries: Sequence[Query], sources: Sequence[Source], encode: EncodeTexts, background: Callable[[], Background]
) -> list[Composition | SimatError]:
    """What every query makes of its image and its words, or why it makes nothing.

    A composer is a function without memory: it runs until it needs words that nobody has encoded, and once more when
    they are there. So the words of all queries go through the encoder in one call for each time that a composer asks.
    """
    if len(queries) == 1:
        return [_attempt(queries[0], sources[0], encode, background)]
    vocabulary = _Vocabulary(encode)
    made: dict[int, Composition | SimatError] = {}
    left = list(range(len(queries)))
    while left:
        waiting = []
        for i in left:
            try:
                made[i] = _attempt(queries[i], sources[i], vocabulary, background)
            except _Unknown:
                waiting.append(i)
        left = waiting
        try:
            if left:
                vocabulary.learn()
        except SimatError:  # of one text; the others are not to blame
            made.update({i: _attempt(queries[i], sources[i], encode, background) for i in left})
            break
    return [made[i] for i in range(len(queries))]


def _attempt(
    query: Query, source: Source, encode: EncodeTexts, background: Callable[[], Background]
) -> Composition | SimatError:
    try:
        return compose(Parts(query, lambda: _vector(source), encode, background()))
    except SimatError as error:
        return error


def _vector(source: Source) -> Vector:
    if source is None:
        raise QueryError("this query needs an image", remedy="give a path, a picture, or an id of the index")
    return source.vector
