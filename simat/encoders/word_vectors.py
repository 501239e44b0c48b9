"""Word vectors in text, fastText's ``.vec``: a line with their number and dimension, then one line per word.

The file is read as a stream, once: its numbers are kept in the cache as one array, from which later runs map the rows
that they need.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
import warnings
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float32

from simat.errors import EncoderError
from simat.files import cache_folder

_MAX_DIM = 1 << 16
_WORD_BYTES, _NUMBER_BYTES = 4096, 32  # the longest we take
_VECTORS, _WORDS = "vectors.npy", "words.txt"


class WordVectors:
    """Words by rank, most frequent first, and their vectors; no subwords."""

    def __init__(self, folder: Path) -> None:
        self._vectors: Float32[np.ndarray, "words d"] = np.load(folder / _VECTORS, mmap_mode="r", allow_pickle=False)
        words = (folder / _WORDS).read_bytes().decode().split("\n")
        self._row = {word: row for row, word in reversed([*enumerate(words)])}  # the first of two equal words counts

    @classmethod
    def read(cls, path: Path, digest: str) -> WordVectors:
        """Read a file of word vectors, or what the cache keeps of it.

        Args:
            path: the file.
            digest: its SHA-256.

        Raises:
            EncoderError: no such format, cut short, numbers that are none, or more than the file can hold.
        """
        folder = cache_folder("word_vectors") / digest
        if not folder.exists():
            temporary = folder.with_name(f".{digest}.{uuid.uuid4().hex}")
            temporary.mkdir()
            try:
                _convert(path, temporary)
                with contextlib.suppress(OSError):  # another process converted the same file first
                    temporary.rename(folder)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        return cls(folder)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    def known(self, word: str) -> tuple[Float32[np.ndarray, " d"], float] | None:
        """Vector of a word, and its probability by Zipf's law: 1/(rank·Σ 1/r)."""
        row = self._row.get(word)
        return None if row is None else (np.array(self._vectors[row]), 1 / ((row + 1) * self._harmonic))

    def guessed(self, word: str) -> None:
        """A text file has no subwords: nothing is known of other words."""

    @cached_property
    def _harmonic(self) -> float:
        return float((1 / np.arange(1, len(self._vectors) + 1)).sum())


def _convert(path: Path, folder: Path) -> None:
    with path.open("rb") as file, (folder / _WORDS).open("wb") as words, warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # numpy only warns where text is no number
        count, dim = _header(file, path)
        vectors = np.lib.format.open_memmap(folder / _VECTORS, "w+", np.dtype("<f4"), (count, dim))
        for row in range(count):
            word, vectors[row] = _line(file, path, row + 2, dim)
            words.write((b"\n" if row else b"") + word)
        if file.readline(_WORD_BYTES).strip():
            raise _wrong(path, count + 2, f"more than the {count} words of line 1")


def _header(file: BinaryIO, path: Path) -> tuple[int, int]:
    numbers = file.readline(64).split()
    if len(numbers) != 2 or not all(number.isdigit() for number in numbers):
        raise EncoderError("this is no file of word vectors", got=str(path), remedy="line 1 must be: WORDS DIMENSION")
    count, dim = int(numbers[0]), int(numbers[1])
    if count < 1 or not 0 < dim <= _MAX_DIM or 2 * count * dim > path.stat().st_size:
        raise _wrong(path, 1, f"{count} words of {dim} numbers in {path.stat().st_size:,} bytes")
    return count, dim


def _line(file: BinaryIO, path: Path, number: int, dim: int) -> tuple[bytes, Float32[np.ndarray, " dim"]]:
    line = file.readline(_WORD_BYTES + _NUMBER_BYTES * dim)
    if not line:
        raise _wrong(path, number, "the end of a file that was cut short")
    word, _, text = line.partition(b" ")
    try:
        vector = np.fromstring(text.decode("ascii"), np.float32, sep=" ")
    except (ValueError, DeprecationWarning):
        vector = np.empty(0, np.float32)
    if not word or len(vector) != dim or not np.isfinite(vector).all():
        raise _wrong(path, number, f"no word with {dim} numbers")
    return word.decode("utf-8", "replace").encode(), vector


def _wrong(path: Path, number: int, got: str) -> EncoderError:
    return EncoderError(f"wrong word vectors in line {number} of {path}", got=got, remedy="fetch the file again")
