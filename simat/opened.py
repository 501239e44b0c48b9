"""An open index: the parts of one generation that belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path

import numpy as np
from jaxtyping import Int, Int64

from simat.embeddings import EmbeddingSet, ImageRow
from simat.encoders.runtime import RuntimeOptions
from simat.errors import QueryError, StorageError
from simat.gpu import on_gpus, parse_devices
from simat.manifest import HEADS, IndexManifest, of_one_generation, read_embedding_manifest, read_index_manifest
from simat.searcher import Searcher, open_shards, require_faiss
from simat.selection import Selection
from simat.tombstones import read_removed
from simat.vectorstore import VectorStore
from simat.where import Filters


@dataclass(frozen=True)
class Opened:
    """What an engine answers from.

    Attributes:
        folder: where the index is.
        manifest: what it holds.
        embeddings: metadata and vectors by id, those of removed images too.
        searcher: finds what is not removed.
        removed: the rows that are; None where none are.
    """

    folder: Path
    manifest: IndexManifest
    embeddings: EmbeddingSet
    searcher: Searcher
    removed: Selection | None = None

    def __len__(self) -> int:
        return self.manifest.images

    @property
    def heads(self) -> Path:
        """The folder of the adapter heads, where the space has any."""
        return self.folder / HEADS

    def rows(self, ids: Int[np.ndarray, " n"]) -> list[ImageRow]:
        """Metadata of the images ``ids``, in that order.

        Raises:
            QueryError: there is no image with such an id, or it was removed.
        """
        if self.removed is not None:
            gone = next((int(i) for i in ids if int(i) in self.removed), None)
            if gone is not None:
                raise QueryError("the image with this id was removed", got=gone)
        return self.embeddings.rows(ids)

    def selected(self, where: str) -> Selection:
        """The rows that a filter over the metadata selects, removed ones too; remembered from one query to the next.

        Raises:
            QueryError: the filter tries to do anything but filter, or names a column that is not there.
        """
        return self.filters.selection(where)

    @cached_property
    def filters(self) -> Filters:
        """The filters that were asked for last, with what they select."""
        return Filters(self.embeddings)

    def live(self, places: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The ids of the images that are at ``places`` when those that are removed are not counted."""
        if self.removed is None:
            return places.astype(np.int64)
        alive = ~self.removed
        ends = np.cumsum(np.bitwise_count(alive.bits), dtype=np.int64)
        byte = np.searchsorted(ends, places, side="right")
        bits = np.unpackbits(alive.bits[byte, None], axis=1, bitorder="little")
        inside = places - ends[byte] + bits.sum(axis=1)
        ids: Int64[np.ndarray, " n"] = 8 * byte + (np.cumsum(bits, axis=1) == inside[:, None] + 1).argmax(axis=1)
        return ids

    def captions(self) -> Iterator[str | None]:
        """The captions of the images that are not removed, in the order of their ids."""
        captions = self.embeddings.captions()
        return captions if self.removed is None else compress(captions, (~self.removed).mask())

    def changed(self) -> bool:
        """Whether the folder holds another generation, or another index, by now."""
        try:
            index = read_index_manifest(self.folder)
            now = read_embedding_manifest(self.folder / index.embeddings, index.embedding_manifest)
        except StorageError:
            return True
        return (index, now) != (self.manifest, self.embeddings.manifest)


def open_index(folder: Path, root: Path | None = None, options: RuntimeOptions | None = None) -> Opened:
    """Open the index in ``folder`` as it is now; who changes it later does not disturb what is open.

    Args:
        folder: made by ``simat index build``.
        root: where the images are now, if they moved since the build.
        options: how many threads search.

    Raises:
        StorageError: no index, half built, damaged, or of a newer format.
        SpaceMismatchError: the shards and the embedding set are of different spaces.
    """
    require_faiss()
    return of_one_generation(folder, lambda manifest: _open(folder, manifest, root, options or RuntimeOptions()))


def _open(folder: Path, manifest: IndexManifest, root: Path | None, options: RuntimeOptions) -> Opened:
    embeddings = EmbeddingSet.of_index(folder, manifest, root)
    manifest.space.require(embeddings.manifest.space)
    removed = read_removed(folder, manifest)
    shards, vectors = open_shards(folder, manifest), VectorStore.of(embeddings)
    if devices := parse_devices(options.gpus):
        shards = on_gpus(shards, manifest.search, devices)
    searcher = Searcher(shards, manifest.search, options.cores, removed, vectors)
    return Opened(folder, manifest, embeddings, searcher, removed)
