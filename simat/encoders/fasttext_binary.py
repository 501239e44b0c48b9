"""The layout of a fastText ``.bin`` file, checked to the last byte before native code reads it.

The library believes what a file says: one that was cut short makes it abort the process, or read for ever.

Little-endian: magic, version; 12 × int32 and a double of settings; int32 size, words, labels, int64 tokens, pruned;
per entry its UTF-8 bytes, NUL, int64 count, int8 type; then twice (input, output): a byte that says whether the matrix
is quantised, int64 rows, int64 columns, rows × columns float32.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from simat.errors import EncoderError

MAGIC = struct.pack("<i", 793_712_314)
VERSIONS = (11, 12)
_SETTINGS = struct.Struct("<12i8x")
_DICTIONARY = struct.Struct("<3i2q")
_ENTRY = struct.Struct("<qb")  # after the word and its NUL
_WORD, _SUPERVISED, _MAX_DIM = 0, 3, 1 << 16


def word_counts(path: Path) -> Int64[np.ndarray, " words"]:
    """How often each word of the vocabulary was seen in training, most frequent first.

    Raises:
        EncoderError: no fastText model, one that was cut short or altered, or a quantised one.
    """
    with path.open("rb") as file:
        try:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file
            raise EncoderError("this is no fastText model", got=f"{path}, which is empty") from error
        with data:
            try:
                return _Reader(data, path).counts()
            except struct.error as error:
                raise EncoderError("this fastText model is cut short", got=f"{path} of {len(data):,} bytes") from error


class _Reader:
    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data, self._path, self._at = data, path, 0

    def counts(self) -> Int64[np.ndarray, " words"]:
        if self._data[: len(MAGIC)] != MAGIC:
            raise EncoderError("this is no fastText model", got=str(self._path), remedy="give a .bin or a .vec file")
        _, version = self._take(struct.Struct("<2i"))
        settings = self._take(_SETTINGS)
        dim, model, bucket = settings[0], settings[7], settings[8]
        if version not in VERSIONS or not 0 < dim <= _MAX_DIM or bucket < 0:
            raise self._altered(f"version {version}, {dim} dimensions, {bucket} buckets")
        size, words, labels, _, pruned = self._take(_DICTIONARY)
        if words < 1 or labels < 0 or size != words + labels or pruned > 0 or size * 10 > len(self._data):
            raise self._altered(f"{size} entries, {words} words, {labels} labels, {pruned} pruned")
        counts = self._entries(size)
        if len(counts) != words:
            raise self._altered(f"{len(counts)} words instead of {words}")
        self._matrix(dim, words + bucket)
        self._matrix(dim, labels if model == _SUPERVISED else words)
        if self._at != len(self._data):
            raise self._altered(f"{len(self._data):,} bytes instead of {self._at:,}")
        return counts

    def _entries(self, size: int) -> Int64[np.ndarray, " words"]:
        counts = []
        for _ in range(size):
            end = self._data.find(b"\0", self._at)
            if end < 0:
                raise struct.error
            self._at = end + 1
            count, kind = self._take(_ENTRY)
            if count < 0:
                raise self._altered(f"a word seen {count} times")
            if kind == _WORD:
                counts.append(count)
        return np.array(counts, np.int64)

    def _matrix(self, dim: int, expected: int) -> None:
        (quantised,) = self._take(struct.Struct("<?"))
        if quantised:
            raise EncoderError(
                "a quantised fastText model", got=str(self._path), remedy="give the .bin it was made from"
            )
        rows, columns = self._take(struct.Struct("<2q"))
        if rows != expected or columns != dim:
            raise self._altered(f"a matrix of {rows} × {columns} instead of {expected} × {dim}")
        self._at += 4 * rows * columns
        if self._at > len(self._data):
            raise struct.error

    def _take(self, layout: struct.Struct) -> tuple[int, ...]:
        values = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return values

    def _altered(self, got: str) -> EncoderError:
        return EncoderError(f"this fastText model is damaged: {self._path}", got=got, remedy="fetch it again")
