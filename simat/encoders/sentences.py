"""A sentence-transformers folder with mean pooling, run without importing torch once it is converted."""

from __future__ import annotations

import json
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from simat.encoders.runtime import Network, Runtime, RuntimeOptions, start
from simat.errors import EncoderError
from simat.files import sha256_file, sha256_text

if TYPE_CHECKING:
    import torch

BATCH = 32


def build_sentence_encoder(folder: Path) -> torch.nn.Module:
    """The transformer of a sentence-transformers folder, mean-pooled and normalised."""
    from transformers import AutoModel

    from simat.encoders.networks import MeanPooled

    silence_transformers()
    return MeanPooled(AutoModel.from_pretrained(folder, attn_implementation="eager"))


def silence_transformers() -> None:
    """Let loading be silent: a user's terminal is for what the user asked."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


class SentenceNetwork:
    """Texts to unit vectors.

    Args:
        folder: holds ``config.json``, ``model.safetensors``, ``tokenizer.json``, ``sentence_bert_config.json``.
        options: where to run.

    Raises:
        EncoderError: a file is missing.
    """

    def __init__(self, folder: Path, options: RuntimeOptions) -> None:
        self._folder, self._options = folder, options
        names = ("config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise EncoderError("the sentence model lacks files", got=f"{', '.join(missing)} in {folder}")
        self.fingerprint = sha256_text("\n".join(sha256_file(folder / name) for name in names))
        self.dim: int = json.loads((folder / "config.json").read_text())["hidden_size"]

    def encode(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text; texts over the model's length are cut, as its authors do."""
        if not texts:
            return np.empty((0, self.dim), np.float32)
        # Texts of one length go together, so that padding costs nothing.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        rows = np.empty((len(texts), self.dim), np.float32)
        for start_row in range(0, len(order), BATCH):
            chosen = order[start_row : start_row + BATCH]
            encodings = self._tokenizer.encode_batch([texts[i] for i in chosen])
            tokens = np.array([e.ids for e in encodings], np.int64)
            mask = np.array([e.attention_mask for e in encodings], np.int64)
            rows[chosen] = self._network(tokens, mask)
        return rows

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        limit = json.loads((self._folder / "sentence_bert_config.json").read_text())["max_seq_length"]
        tokenizer.enable_truncation(limit)
        tokenizer.enable_padding()
        return tokenizer

    @cached_property
    def _network(self) -> Runtime:
        def example() -> tuple[np.ndarray, ...]:
            mask = np.array([[1] * 7, [1] * 5 + [0] * 2], np.int64)
            return 100 + np.arange(14, dtype=np.int64).reshape(2, 7), mask

        network = Network(
            key=f"sentences-{self.fingerprint[:16]}",
            build=partial(build_sentence_encoder, self._folder),
            example=example,
            batch=BATCH,
            fixed=False,
        )
        return start(network, self._options)
