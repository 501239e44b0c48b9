"""The nearest vectors of a collection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from simat.errors import QueryError
from simat.milvus.connection import Connection
from simat.milvus.fields import ID, VECTOR
from simat.selection import Selection
from simat.types import Hits
from simat.vectors import merge_hits

MOST = 16_384  # neighbours, or rows of one answer, that Milvus gives
TOGETHER = 256  # queries of one call
HITS = 2**17  # of one call: what pymilvus makes of them takes 80 MB
LISTED = 50_000  # ids in a condition
FEW = 1024  # selected rows: graphs lose their way among so few, and scoring them here takes milliseconds
SCANNED = 32 * 2**20  # bytes of vectors that are asked for where Milvus finds too few
EF = "ef"  # how far a search in a graph looks


class MilvusSelection(Selection):
    """Rows that Milvus selects by itself; which they are, it is asked only where somebody wants their bits.

    Attributes:
        expression: of Milvus.
        rows: how many there are to choose from.
        connection: to the collection.
    """

    expression: str
    connection: Connection

    def __init__(self, expression: str, rows: int, connection: Connection) -> None:
        self.__dict__.update(expression=expression, rows=rows, connection=connection)  # selections are frozen

    @cached_property
    def count(self) -> int:
        """How many rows are in; Milvus counts them when first asked."""
        return self.connection.count(self.expression)

    @cached_property
    def bits(self) -> UInt8[np.ndarray, " bytes"]:
        """A bit for each row, once Milvus has listed those that are in."""
        span = MOST if self.count > MOST else max(1, self.rows)  # no answer has more than MOST
        found: list[int] = []
        for first in range(0, self.rows, span):
            within = f"{ID} >= {first} and {ID} < {first + span} and ({self.expression})"
            found += [row[ID] for row in self.connection.rows(within, [ID], MOST)]
        return Selection.of_ids(np.array(found, np.int64), self.rows).bits


class MilvusSearch:
    """Searches a collection; safe to share between threads.

    Attributes:
        rows: how many there are.
        dim: of the vectors.
        exact: never promised: the index is Milvus's.

    Args:
        connection: to the collection.
        rows: see above.
        dim: of the vectors.
        parameters: of every search, such as ``ef`` or ``nprobe``.
    """

    exact = False

    def __init__(self, connection: Connection, rows: int, dim: int, parameters: Mapping[str, Any]) -> None:
        self._connection, self._parameters = connection, dict(parameters)
        self.rows, self.dim = rows, dim

    def allowed(self, among: Selection | None = None) -> Selection | None:
        """The rows that may be found: those of ``among``; None for all there are."""
        return among

    def search(self, queries: Float32[np.ndarray, "q d"], k: int, among: Selection | None = None) -> Hits:
        """The k largest inner products per query, best first, ties by smaller id.

        Args:
            queries: unit rows.
            k: how many are wanted; the hits are padded where there are fewer.
            among: the rows that may be found; None for all.

        Raises:
            QueryError: k out of Milvus's range, queries of another dimension, or a selection of too many rows.
            StorageError: Milvus does not answer.
        """
        if not 1 <= k <= MOST:
            raise QueryError(f"Milvus finds 1 to {MOST:,} images at a time", got=k)
        if queries.shape[1] != self.dim:
            raise QueryError(f"the index holds {self.dim}-d vectors", got=f"a {queries.shape[1]}-d query")
        if among is not None and among.count == 0:
            return _padded([[]] * len(queries), k)
        condition = "" if among is None else self._condition(among)
        passing = self.rows if among is None else among.count
        if among is not None and passing <= FEW:
            return self._exactly(queries, k, condition, passing)
        parameters = self._parameters
        if EF in parameters:  # which may not be less than k
            parameters = {**parameters, EF: max(k, parameters[EF])}
        found: list[Sequence[tuple[int, float]]] = []
        together = max(1, min(TOGETHER, HITS // k))
        for start in range(0, len(queries), together):
            block = queries[start : start + together]
            found += self._connection.search(block, k, VECTOR, condition, parameters)
        if min(map(len, found), default=k) < min(k, passing) <= passing <= min(MOST, SCANNED // (4 * self.dim)):
            return self._exactly(queries, k, condition, passing)
        return _padded(found, k)

    def _exactly(self, queries: np.ndarray, k: int, condition: str, passing: int) -> Hits:
        """The k best of few rows from their own vectors: an index of Milvus may find fewer than there are."""
        rows = self._connection.rows(condition, [ID, VECTOR], passing)
        ids = np.array([int(row[ID]) for row in rows], np.int64)
        vectors = np.array([row[VECTOR] for row in rows], np.float32).reshape(len(rows), self.dim)
        scores = (queries @ vectors.T).astype(np.float32)
        return merge_hits(np.broadcast_to(ids, scores.shape), scores, k)

    def _condition(self, among: Selection) -> str:
        if among.rows != self.rows:
            raise QueryError(f"the index has {self.rows} rows", got=f"a selection among {among.rows}")
        if isinstance(among, MilvusSelection):
            return among.expression
        inside = among.count <= among.rows // 2
        ids = (among if inside else ~among).ids()
        if len(ids) > LISTED:
            raise QueryError(f"Milvus is told of at most {LISTED:,} rows one by one", got=f"{len(ids):,}")
        listed = ", ".join(map(str, ids.tolist()))
        return f"{ID} in [{listed}]" if inside else f"{ID} not in [{listed}]" if listed else ""


def _padded(found: Sequence[Sequence[tuple[int, float]]], k: int) -> Hits:
    ids = np.full((len(found), k), -1, np.int64)
    scores = np.full((len(found), k), -np.inf, np.float32)
    for row, hits in enumerate(found):
        for place, (id, score) in enumerate(hits[:k]):
            ids[row, place], scores[row, place] = id, score
    return merge_hits(ids, scores, k)
