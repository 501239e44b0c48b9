"""``fasttext:FILE``: a sentence is the weighted sum of its word vectors (Bojanowski et al. 2017; thesis 3.4.2).

The thesis names no weights; ours are those of SIF (Arora et al. 2017, "A simple but tough-to-beat baseline for
sentence embeddings", eq. 1): a/(a + p(w)) with a = 10⁻³, without the removal of the first principal component, which
would make a text's vector depend on the other texts. p(w) is the word's share of the training text where the file
counts words (``.bin``); a ``.vec`` file only ranks them, and p(w) is that of Zipf's law, 1/(rank·Σ 1/r).

Text is cut at blanks. What the vocabulary does not have, as written or in lower case, is cut again into letters and
signs; a piece that is still unknown gets the vector of its subwords, with weight 1, where the file has subwords
(``.bin``), and is left out otherwise. A text of which nothing is left is an error.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from simat.encoders.fasttext_binary import MAGIC, word_counts
from simat.encoders.runtime import RuntimeOptions
from simat.encoders.word_vectors import WordVectors
from simat.errors import EncoderError, QueryError
from simat.files import sha256_file, sha256_text
from simat.plugins import required
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

SMOOTHING = 1e-3  # a of SIF
RECIPE = "sif-1e-3/1"  # changes whenever the same file would give other vectors
HELP = "write fasttext:/path/to/vectors.bin or fasttext:/path/to/vectors.vec"
_PIECES = re.compile(r"\w+|[^\w\s]")
Vector = Float32[np.ndarray, " d"]


@runtime_checkable
class Words(Protocol):
    """Word vectors with the probability of every word."""

    @property
    def dim(self) -> int:
        """Length of a vector."""
        ...

    def known(self, word: str) -> tuple[Vector, float] | None:
        """Vector and probability of a word of the vocabulary."""
        ...

    def guessed(self, word: str) -> Vector | None:
        """The vector of a word that is not in the vocabulary, from its subwords."""
        ...


def load(argument: str, options: RuntimeOptions) -> FastTextTower:
    """Entry point of ``fasttext``.

    Raises:
        EncoderError: no such file, or no fastText file.
    """
    path = Path(argument).expanduser()
    if not argument or not path.is_file():
        raise EncoderError("no such file of word vectors", got=repr(argument), remedy=HELP)
    digest = sha256_file(path)
    with path.open("rb") as file:
        binary = file.read(len(MAGIC)) == MAGIC
    words = BinaryWords(path) if binary or path.suffix in {".bin", ".ftz"} else WordVectors.read(path, digest)
    return FastTextTower(f"fasttext:{argument}", digest, words)


class BinaryWords:
    """A ``.bin`` model, run by the library itself once its layout has been checked."""

    def __init__(self, path: Path) -> None:
        counts = word_counts(path)
        fasttext = required("fasttext", EncoderError, "pip install 'simat[text]'")
        try:
            self._model = fasttext.load_model(str(path))
        except (ValueError, RuntimeError, MemoryError) as error:
            raise EncoderError("the library cannot read this fastText model", got=f"{path}: {error}") from error
        self._probability = counts / max(1, counts.sum())

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._model.get_dimension())

    def known(self, word: str) -> tuple[Vector, float] | None:
        """Vector and probability of a word of the vocabulary."""
        row = self._model.get_word_id(word)
        return (self._model.get_word_vector(word), float(self._probability[row])) if row >= 0 else None

    def guessed(self, word: str) -> Vector | None:
        """The mean of the vectors of a word's subwords; None for a model or a word without them."""
        _, rows = self._model.get_subwords(word)
        return self._model.get_word_vector(word) if len(rows) else None


class FastTextTower:
    """Texts to normalised weighted sums of word vectors."""

    def __init__(self, spec: str, digest: str, words: Words) -> None:
        self._words = words
        self._space = EmbeddingSpace(spec, sha256_text(f"{RECIPE}\n{digest}"), words.dim)
        self._piece = lru_cache(maxsize=65_536)(self._weighted)  # a corpus of captions says the same words

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the word vectors; no image lives in it."""
        return self._space

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text.

        Raises:
            QueryError: a text without any word that has a vector.
        """
        if not texts:
            return np.empty((0, self._space.dim), np.float32)
        return unit_rows(np.stack([self._sum(text) for text in texts]), "text vector")

    def _sum(self, text: str) -> Vector:
        vectors = [vector for piece in self._pieces(text) if (vector := self._piece(piece)) is not None]
        total: Vector = np.sum([np.zeros(self._space.dim, np.float32), *vectors], axis=0)
        if not total.any():
            raise QueryError(
                f"no word of this text has a vector in {self._space.encoder}", got=repr(text), remedy="use other words"
            )
        return total

    def _pieces(self, text: str) -> list[str]:
        words = ([word] if self._known(word) else _PIECES.findall(word) for word in text.split())
        return [piece for pieces in words for piece in pieces]

    def _known(self, word: str) -> tuple[Vector, float] | None:
        return self._words.known(word) or self._words.known(word.lower())

    def _weighted(self, piece: str) -> Vector | None:
        found = self._known(piece)
        if found is not None:
            vector, probability = found
            weighted: Vector = vector * np.float32(SMOOTHING / (SMOOTHING + probability))
            return weighted
        return self._words.guessed(piece.lower()) if piece[0].isalnum() else None
