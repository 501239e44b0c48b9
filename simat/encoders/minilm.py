"""``minilm``: the all-MiniLM-L6-v2 inside the wheel (Wang et al. 2020), texts alone; no network needed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from simat.encoders.offline import sentence_model
from simat.encoders.runtime import RuntimeOptions
from simat.encoders.sentences import SentenceNetwork
from simat.errors import EncoderError
from simat.files import sha256_text
from simat.types import EmbeddingSpace


def load(argument: str, options: RuntimeOptions) -> MiniLM:
    """Entry point of ``minilm``; takes no argument."""
    if argument:
        raise EncoderError("the encoder minilm takes no argument", got=repr(argument), remedy="leave it out")
    return MiniLM(options)


class MiniLM:
    """Texts to the sentence space of all-MiniLM-L6-v2."""

    def __init__(self, options: RuntimeOptions) -> None:
        self._sentences = SentenceNetwork(sentence_model(), options)
        fingerprint = sha256_text(f"mean-pooled/1\n{self._sentences.fingerprint}")
        self._space = EmbeddingSpace("minilm", fingerprint, self._sentences.dim)

    @property
    def space(self) -> EmbeddingSpace:
        """The 384-d sentence space; no image lives in it."""
        return self._space

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text; texts over 256 tokens are cut."""
        return self._sentences.encode(texts)
