"""Open a collection as an index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64

from simat.embeddings import ImageRow
from simat.errors import StorageError
from simat.manifest import IndexManifest
from simat.milvus.address import Address
from simat.milvus.card import Card
from simat.milvus.condition import expression
from simat.milvus.connection import Connection
from simat.milvus.images import MilvusImages
from simat.milvus.search import MilvusSearch, MilvusSelection
from simat.where import Filter

REMEMBERED = 256  # filters


@dataclass(frozen=True)
class MilvusOpened:
    """What an engine answers from, where the index lives in Milvus; see :class:`simat.opened.OpenIndex`.

    Attributes:
        folder: the address, where others have a folder.
        manifest: what the index holds.
        embeddings: metadata and vectors by id.
        searcher: finds the nearest.
        connection: to the collection.
        card: what it said of itself when it was opened.
        removed: no row is: those that were have not been pushed.
    """

    folder: Path
    manifest: IndexManifest
    embeddings: MilvusImages
    searcher: MilvusSearch
    connection: Connection
    card: Card
    removed: None = None

    def __len__(self) -> int:
        return self.card.rows

    @property
    def heads(self) -> Path:
        """The folder of the adapter heads, where the space has any: that of the index that was pushed."""
        return Path(self.card.heads)

    def rows(self, ids: Int[np.ndarray, " n"]) -> list[ImageRow]:
        """Metadata of the images ``ids``, in that order.

        Raises:
            QueryError: there is no image with such an id.
        """
        return self.embeddings.rows(ids)

    def selected(self, where: str) -> MilvusSelection:
        """The rows that a filter over the metadata selects: Milvus looks for them when it searches.

        Raises:
            QueryError: the filter tries to do anything but filter, names a column that is not there, or cannot be
                said to Milvus.
        """
        return self._selected(where)

    @cached_property
    def _selected(self) -> Callable[[str], MilvusSelection]:
        return lru_cache(REMEMBERED)(self._select)

    def _select(self, where: str) -> MilvusSelection:
        said = expression(Filter.parse(where).condition, self.card.columns)
        selection = MilvusSelection(said, self.card.rows, self.connection)
        _ = selection.count  # what Milvus refuses after all, it refuses now: in a search it would spoil those beside it
        return selection

    def live(self, places: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The ids of the images at ``places``: the same, as none is removed."""
        return places.astype(np.int64)

    def captions(self) -> Iterator[str | None]:
        """The captions of the images, in the order of their ids."""
        return self.embeddings.captions()

    def changed(self) -> bool:
        """Whether the collection holds another index by now."""
        try:
            return Card.read(self.connection) != self.card
        except StorageError:
            return True


def open_milvus(address: Address, root: Path | None = None) -> MilvusOpened:
    """Open the collection at ``address``.

    Args:
        address: of a collection made by ``simat index push``.
        root: where the images are now, if they moved since the index was built.

    Raises:
        StorageError: no Milvus, no such collection, one of something else, or one that is half pushed.
    """
    connection = Connection(address)
    try:
        return _opened(connection, root)
    except StorageError:
        connection.close()
        raise


def _opened(connection: Connection, root: Path | None) -> MilvusOpened:
    address, card = connection.address, Card.read(connection)
    if card is None:
        raise StorageError("no such collection", got=str(address), remedy="make it with 'simat index push INDEX'")
    connection.load()
    found = connection.count()  # which waits for all that was written: searches may be seconds behind
    if found != card.rows:
        raise StorageError(
            "the collection is half pushed",
            got=f"{found:,} of {card.rows:,} images",
            remedy="run the same 'simat index push' again; it goes on where it was",
        )
    manifest = IndexManifest(card.space, "", "Milvus", (), card.rows, dict(card.parameters))
    images = MilvusImages(connection, card, root)
    search = MilvusSearch(connection, card.rows, card.space.dim, card.parameters)
    return MilvusOpened(Path(str(address)), manifest, images, search, connection, card)
