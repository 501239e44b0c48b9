"""A set of rows of an index, one bit each: what a filter lets pass, what was removed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt8

from simat.errors import QueryError


@dataclass(frozen=True, eq=False)
class Selection:
    """An immutable set of rows out of ``rows``; 125 MB for a billion.

    Attributes:
        bits: row i is in if bit ``i % 8`` (0 the least significant) of byte ``i // 8`` is set, as FAISS's
            ``IDSelectorBitmap`` reads it; the bits after the last row are 0.
        rows: how many rows there are to choose from.

    Raises:
        QueryError: bytes for another number of rows.
    """

    bits: UInt8[np.ndarray, " bytes"]
    rows: int

    def __post_init__(self) -> None:
        if self.rows < 0 or len(self.bits) != -(-self.rows // 8):
            raise QueryError(f"a selection of {self.rows} rows needs a bit for each", got=f"{len(self.bits)} bytes")
        bits = np.array(self.bits)
        if self.rows % 8:
            bits[-1] &= (1 << self.rows % 8) - 1
        bits.flags.writeable = False
        object.__setattr__(self, "bits", bits)

    @classmethod
    def of(cls, mask: Bool[np.ndarray, " rows"]) -> Selection:
        """The rows where ``mask`` is true."""
        return cls(np.packbits(mask, bitorder="little"), len(mask))

    @classmethod
    def of_ids(cls, ids: Int[np.ndarray, " n"], rows: int) -> Selection:
        """The rows ``ids``, in any order, repeated or not.

        Raises:
            QueryError: an id is negative, or not below ``rows``.
        """
        wrong = ids[(ids < 0) | (ids >= rows)]
        if len(wrong):
            raise QueryError(f"ids run from 0 to {rows - 1}" if rows else "there are no rows", got=int(wrong[0]))
        mask = np.zeros(rows, bool)
        mask[ids] = True
        return cls.of(mask)

    @classmethod
    def every(cls, rows: int) -> Selection:
        """All rows."""
        return cls(np.full(-(-rows // 8), 255, np.uint8), rows)

    @classmethod
    def none(cls, rows: int) -> Selection:
        """No row."""
        return cls(np.zeros(-(-rows // 8), np.uint8), rows)

    @cached_property
    def count(self) -> int:
        """How many rows are in."""
        return int(np.bitwise_count(self.bits).sum(dtype=np.int64))

    def mask(self) -> Bool[np.ndarray, " rows"]:
        """One truth value per row."""
        return np.unpackbits(self.bits, count=self.rows, bitorder="little").view(bool)

    def ids(self) -> Int64[np.ndarray, " count"]:
        """The rows that are in, ascending."""
        return np.flatnonzero(self.mask()).astype(np.int64, copy=False)

    def __and__(self, other: Selection) -> Selection:
        return Selection(self.bits & self._same_rows(other).bits, self.rows)

    def __or__(self, other: Selection) -> Selection:
        return Selection(self.bits | self._same_rows(other).bits, self.rows)

    def __invert__(self) -> Selection:
        return Selection(~self.bits, self.rows)

    def __contains__(self, row: object) -> bool:
        if not isinstance(row, int | np.integer) or not 0 <= row < self.rows:
            return False
        return bool(self.bits[int(row) // 8] >> (int(row) % 8) & 1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selection) and self.rows == other.rows and np.array_equal(self.bits, other.bits)

    def __hash__(self) -> int:
        return hash((self.rows, self.bits.tobytes()))

    def slice(self, start: int, stop: int) -> Selection:
        """The selection among rows [start, stop), which are numbered from 0 in it; 0 ≤ start ≤ stop ≤ rows."""
        if not 0 <= start <= stop <= self.rows:
            raise QueryError(f"no such range of {self.rows} rows", got=f"{start} to {stop}")
        first = start // 8
        bits = self.bits[first : -(-stop // 8)]
        if start % 8 == 0:
            return Selection(bits, stop - start)
        mask = np.unpackbits(bits, bitorder="little")[start - 8 * first : stop - 8 * first]
        return Selection.of(mask.view(bool))

    def extended(self, rows: int, inside: bool = False) -> Selection:
        """The same selection where there are more rows; the new ones are in only if ``inside``."""
        if rows < self.rows:
            raise QueryError(f"a selection of {self.rows} rows cannot shrink", got=f"{rows} rows")
        mask = np.full(rows, inside)
        mask[: self.rows] = self.mask()
        return Selection.of(mask)

    def _same_rows(self, other: Selection) -> Selection:
        if other.rows != self.rows:
            raise QueryError(f"a selection of {self.rows} rows meets another", got=f"one of {other.rows}")
        return other
