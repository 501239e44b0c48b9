"""What a collection knows of its images, by id: the part of an embedding set."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int

from simat.embeddings import ImageRow
from simat.errors import QueryError, StorageError
from simat.manifest import EmbeddingManifest
from simat.milvus.card import Card
from simat.milvus.connection import Connection
from simat.milvus.fields import ID, KNOWN, VECTOR, image_row

TOGETHER = 1024  # rows asked for at a time, with their vectors: well below the 64 MB of an answer
REMEMBERED = 65_536  # rows


class MilvusImages:
    """Metadata and vectors of the images of a collection. Safe to share between threads.

    Args:
        connection: to the collection.
        card: what it says of itself.
        root: where the images are now, if they moved.

    Attributes:
        root: folder that paths are relative to.
        manifest: as an embedding set has it, without parts.
    """

    def __init__(self, connection: Connection, card: Card, root: Path | None = None) -> None:
        self._connection, self._card, self._lock = connection, card, Lock()
        self._rows: OrderedDict[int, ImageRow] = OrderedDict()
        self.root = root or Path(card.root)
        self.manifest = EmbeddingManifest(card.space, card.root, (), card.rows, folders=card.folders)

    def __len__(self) -> int:
        return self._card.rows

    def rows(self, ids: Int[np.ndarray, " n"]) -> list[ImageRow]:
        """Metadata of the images ``ids``, in that order; the last ``REMEMBERED`` are kept.

        Raises:
            QueryError: there is no such image.
        """
        wanted = [int(i) for i in ids]
        with self._lock:
            known = {i: self._rows[i] for i in wanted if i in self._rows}
        missing = [i for i in dict.fromkeys(wanted) if i not in known]
        known.update({i: image_row(row) for i, row in self._asked(missing, [ID, *KNOWN]).items()})
        with self._lock:
            for i in wanted:
                self._rows[i] = known[i]
                self._rows.move_to_end(i)
            while len(self._rows) > REMEMBERED:
                self._rows.popitem(last=False)
        return [known[i] for i in wanted]

    def vectors(self, ids: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        """Stored vectors of the images ``ids``, in that order.

        Raises:
            QueryError: there is no such image.
        """
        found = self._asked([*dict.fromkeys(int(i) for i in ids)], [ID, VECTOR])
        vectors = [np.asarray(found[int(i)][VECTOR], np.float32) for i in ids]
        return np.stack([np.empty(self.manifest.space.dim, np.float32), *vectors])[1:]

    def blocks(self, start: int, stop: int) -> Iterator[Float16[np.ndarray, "n d"]]:
        """The vectors of ids [start, stop), in blocks."""
        for rows in self._range(start, stop, VECTOR):
            yield np.array([row[VECTOR] for row in rows], np.float16)

    def captions(self) -> Iterator[str | None]:
        """The captions of all images, in the order of their ids."""
        for rows in self._range(0, len(self), "caption"):
            yield from (row.get("caption") for row in rows)

    def resolve(self, row: ImageRow) -> Path:
        """Where the image's file should be."""
        first, _, rest = row.path.partition("/")
        known = self._card.folders.get(first)
        return self.root / row.path if known is None else Path(known, rest)

    def hold(self) -> None:
        """Nothing to hold: what Milvus has, it has."""

    def _range(self, start: int, stop: int, field: str) -> Iterator[list[dict[str, Any]]]:
        """The rows of ids [start, stop) in blocks, in order."""
        for first in range(start, stop, TOGETHER):
            last = min(first + TOGETHER, stop)
            rows = self._connection.rows(f"{ID} >= {first} and {ID} < {last}", [ID, field], TOGETHER)
            if len(rows) != last - first:
                raise StorageError("the collection has lost rows", got=f"{len(rows)} of {last - first} from id {first}")
            yield sorted(rows, key=lambda row: int(row[ID]))

    def _asked(self, ids: Sequence[int], fields: Sequence[str]) -> dict[int, Mapping[str, Any]]:
        found: dict[int, Mapping[str, Any]] = {}
        for first in range(0, len(ids), TOGETHER):
            some = ids[first : first + TOGETHER]
            rows = self._connection.rows(f"{ID} in [{', '.join(map(str, some))}]", fields, len(some))
            found.update({int(row[ID]): row for row in rows})
        gone = next((i for i in ids if i not in found), None)
        if gone is not None and 0 <= gone < len(self):
            raise StorageError("the collection has lost an image", got=gone, remedy="push the index again")
        if gone is not None:
            raise QueryError("no image with this id", got=gone, remedy=f"ids run from 0 to {len(self) - 1}")
        return found
