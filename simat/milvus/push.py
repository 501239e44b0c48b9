"""Copy an index into a collection of Milvus, batch by batch; run again after any interruption, it goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simat.embeddings import EmbeddingSet
from simat.errors import StorageError
from simat.files import sha256_file, sha256_text
from simat.manifest import HEADS, NAME, IndexManifest, read_index_manifest
from simat.milvus.address import Address
from simat.milvus.card import Card, UnreadableCardError
from simat.milvus.connection import Connection
from simat.milvus.fields import ID, RAW, VECTOR, Cut, batches, collection_schema, columns_of, entities
from simat.progress import Progress, Silent
from simat.tombstones import read_removed
from simat.where.columns import Columns

if TYPE_CHECKING:
    import pyarrow as pa

TOGETHER = 2048  # rows in a unit that is there or not when a push goes on
MESSAGE = 8 * 2**20  # bytes of one call: Milvus takes 64 MB
AUTO = "auto"


@dataclass(frozen=True)
class Pushed:
    """A finished push.

    Attributes:
        rows: images in the collection.
        kept: of them, how many an earlier run had written.
        cut: what did not fit as it is.
    """

    rows: int
    kept: int
    cut: Cut


def push_index(
    folder: Path,
    address: Address,
    index: str = AUTO,
    build: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
    replace: bool = False,
    progress: Progress | None = None,
) -> Pushed:
    """Copy the index in ``folder`` to a collection. Images get new ids, from 0, where some have been removed.

    Args:
        folder: of an index.
        address: where to.
        index: Milvus's type of index: ``FLAT``, ``HNSW``, ``IVF_FLAT``, …; ``auto`` for what a server thinks best, and
            for an exact one in a file of Milvus Lite.
        build: parameters of that index, such as ``M`` or ``nlist``.
        search: parameters of every search, such as ``ef`` or ``nprobe``.
        replace: drop what was pushed from another index, or from this one as it was; never what others have put there.
        progress: told how far the push is.

    Raises:
        StorageError: no index, no Milvus, or a collection that holds something else.
    """
    progress = progress or Silent()
    manifest = read_index_manifest(folder)
    embeddings = EmbeddingSet.of_index(folder, manifest)
    embeddings.hold()  # who changes the index meanwhile does not disturb
    removed = read_removed(folder, manifest)
    connection = Connection(address, create=True)
    try:
        card = _card(folder, manifest, embeddings, search or {}, {"index_type": index, "params": dict(build or {})})
        resumed = _enter(connection, card, replace)
        kept, cut = 0, Cut()
        progress.start("push", card.rows, "images")
        for first, table in _units(embeddings, None if removed is None else (~removed).mask()):
            count = table.num_rows
            if resumed and connection.count(f"{ID} >= {first} and {ID} < {first + count}") == count:
                kept += count
            else:
                for batch in batches([*entities(table, card.columns, cut)], MESSAGE):
                    connection.write(batch)
            progress.advance(count)
        progress.start("index", None, "images")
        connection.finish()
        _check_whole(connection, card)
        return Pushed(card.rows, kept, cut)
    finally:
        connection.close()


def _card(
    folder: Path,
    manifest: IndexManifest,
    embeddings: EmbeddingSet,
    search: Mapping[str, Any],
    index: Mapping[str, Any],
) -> Card:
    import pyarrow as pa

    known = embeddings.manifest
    columns = columns_of({**Columns(embeddings).types, RAW: pa.binary()})
    source = sha256_text(sha256_file(folder / NAME) + sha256_file(embeddings.folder / manifest.embedding_manifest))
    heads = "" if manifest.space.heads is None else str((folder / HEADS).absolute())
    root, folders = str(embeddings.root), dict(known.folders)
    return Card(manifest.space, root, folders, manifest.images, source, columns, dict(search), index, heads)


def _enter(connection: Connection, card: Card, replace: bool) -> bool:
    """Make the collection, or find that an earlier run made it for the same index; tells whether it did."""
    try:
        known = Card.read(connection)
    except UnreadableCardError:
        if not replace:
            raise
        connection.drop()
        known = None
    if known == card:
        connection.load()
        return True
    if known is not None:
        if not replace:
            raise StorageError(
                "the collection holds another index, or another state of this one",
                got=f"{connection.address}: {known.rows} images of {known.space}, {known.index.get('index_type')}",
                remedy="give another name, or --replace",
            )
        connection.drop()
    index = dict(card.index)
    if index["index_type"] == AUTO:
        index["index_type"] = "AUTOINDEX" if connection.address.file is None else "FLAT"
    parameters = {"field_name": VECTOR, "metric_type": "IP", **index}
    connection.create(collection_schema(card.columns, card.space.dim), card.properties(), parameters)
    return False


def _units(embeddings: EmbeddingSet, alive: np.ndarray | None) -> Iterator[tuple[int, pa.Table]]:
    """Runs of rows that are not removed, with new ids, and the first of these."""
    import pyarrow as pa

    row = first = 0
    for part in embeddings.tables():
        for start in range(0, part.num_rows, TOGETHER):
            table = part.slice(start, TOGETHER)
            here = slice(row, row + table.num_rows)
            row = here.stop
            if alive is not None:
                table = table.filter(pa.array(alive[here]))
            if table.num_rows:
                ids = pa.array(np.arange(first, first + table.num_rows))
                yield first, table.set_column(table.column_names.index(ID), ID, ids)
                first += table.num_rows


def _check_whole(connection: Connection, card: Card) -> None:
    found = connection.count()
    if found != card.rows:
        raise StorageError(
            "not every image has arrived",
            got=f"{found:,} of {card.rows:,}",
            remedy="run the same 'simat index push' again; it goes on where it was",
        )
