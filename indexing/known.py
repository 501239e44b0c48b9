"""Which files an index holds already, by path and by content, without its names being kept in memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt64

from simat.embeddings import EmbeddingSet, join_path, split_path
from simat.selection import Selection

if TYPE_CHECKING:
    import pyarrow as pa

SHA_DIGITS, KEY_DIGITS = 64, 16
_DIGIT = np.full(256, 0, np.uint64)
_DIGIT[np.frombuffer(b"0123456789abcdef", np.uint8)] = np.arange(16)


def rows_at(embeddings: EmbeddingSet, removed: Selection, paths: Collection[str]) -> Iterator[tuple[str, int]]:
    """Every row that is not removed and has one of ``paths``: its path and id, in the order of the ids.

    A row without a file has the path "", and is never found.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted, first = {path for path in paths if path}, 0
    values = pa.array(sorted({split_path(path)[0] for path in wanted}), pa.string())
    for table in embeddings.tables(["path", "path_bytes"]):
        maybe = np.flatnonzero(pc.is_in(table["path"], value_set=values).to_numpy())
        for row, names in zip(maybe.tolist(), table.take(maybe).to_pylist(), strict=True):
            path = join_path(names["path"], names["path_bytes"])
            if path in wanted and first + row not in removed:
                yield path, first + row
        first += len(table)


class KnownContents:
    """Finds rows by the SHA-256 of their files; 16 bytes of memory a row.

    Args:
        embeddings: whose rows.
        removed: rows that are not to be found.
    """

    def __init__(self, embeddings: EmbeddingSet, removed: Selection) -> None:
        self._embeddings = embeddings
        ids, keys, first = [np.empty(0, np.int64)], [np.empty(0, np.uint64)], 0
        for table in embeddings.tables(["sha256"]):
            rows, found = content_keys(table["sha256"])
            live = ~removed.slice(first, first + len(table)).mask()[rows]
            ids.append(rows[live] + first)
            keys.append(found[live])
            first += len(table)
        self._ids, self._keys = np.concatenate(ids), np.concatenate(keys)
        order = np.argsort(self._keys, kind="stable")
        self._ids, self._keys = self._ids[order], self._keys[order]

    def find(self, sha256: str) -> int | None:
        """The smallest id of a row with this content; None where there is none, or the content is not known."""
        if len(sha256) != SHA_DIGITS:
            return None
        key = np.uint64(int(sha256[:KEY_DIGITS], 16))
        first, last = (int(np.searchsorted(self._keys, key, side)) for side in ("left", "right"))
        for id in self._ids[first:last]:  # as good as always one, or none
            if self._embeddings.rows(np.array([id]))[0].sha256 == sha256:
                return int(id)
        return None


def content_keys(column: pa.ChunkedArray) -> tuple[Int64[np.ndarray, " n"], UInt64[np.ndarray, " n"]]:
    """The rows of a column of SHA-256s that hold one, and 64 bits of each; rows from elsewhere may hold none."""
    import pyarrow.compute as pc

    rows = np.flatnonzero(pc.equal(pc.binary_length(column), SHA_DIGITS).to_numpy()).astype(np.int64)
    texts = "".join(column.take(rows).to_pylist())
    digits = _DIGIT[np.frombuffer(texts.encode(), np.uint8).reshape(-1, SHA_DIGITS)[:, :KEY_DIGITS]]
    shifts = np.arange(4 * (KEY_DIGITS - 1), -1, -4, dtype=np.uint64)
    return rows, np.bitwise_or.reduce(digits << shifts, axis=1)
