"""What an engine needs of an open index, wherever that lives: in a folder, or in Milvus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float16, Float32, Int, Int64

from simat.embeddings import ImageRow
from simat.manifest import EmbeddingManifest, IndexManifest
from simat.selection import Selection
from simat.types import VectorSearch


@runtime_checkable
class Images(Protocol):
    """Metadata and vectors by id, as :class:`simat.embeddings.EmbeddingSet` has them."""

    @property
    def manifest(self) -> EmbeddingManifest:
        """What there is."""
        ...

    @property
    def root(self) -> Path:
        """The folder that paths are relative to."""
        ...

    def __len__(self) -> int:
        """How many ids there are, those of removed images too."""
        ...

    def rows(self, ids: Int[np.ndarray, " n"]) -> list[ImageRow]:
        """Metadata of the images ``ids``, in that order."""
        ...

    def vectors(self, ids: Int[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        """Stored vectors of the images ``ids``, in that order."""
        ...

    def blocks(self, start: int, stop: int) -> Iterator[Float16[np.ndarray, "n d"]]:
        """The vectors of ids [start, stop), in blocks."""
        ...

    def resolve(self, row: ImageRow) -> Path:
        """Where the image's file should be."""
        ...

    def hold(self) -> None:
        """Let what is open go on being read as it is."""
        ...


@runtime_checkable
class IndexSearch(VectorSearch, Protocol):
    """Finds the nearest vectors of an index, as :class:`simat.searcher.Searcher` does."""

    @property
    def exact(self) -> bool:
        """Whether the answers are the nearest vectors for certain."""
        ...

    def allowed(self, among: Selection | None = None) -> Selection | None:
        """The rows that may be found: those of ``among`` that are not removed; None for all there are."""
        ...


@runtime_checkable
class OpenIndex(Protocol):
    """The parts of an open index, as :class:`simat.opened.Opened` has them."""

    @property
    def folder(self) -> Path:
        """Where the index is; an address where it is in no folder."""
        ...

    @property
    def manifest(self) -> IndexManifest:
        """What it holds."""
        ...

    @property
    def heads(self) -> Path:
        """The folder of the adapter heads, where the space has any."""
        ...

    @property
    def embeddings(self) -> Images:
        """Metadata and vectors by id."""
        ...

    @property
    def searcher(self) -> IndexSearch:
        """Finds what is not removed."""
        ...

    def __len__(self) -> int:
        """How many images there are that are not removed."""
        ...

    def rows(self, ids: Int[np.ndarray, " n"]) -> list[ImageRow]:
        """Metadata of images that are not removed, in the order of ``ids``."""
        ...

    def selected(self, where: str) -> Selection:
        """The rows that a filter over the metadata selects."""
        ...

    def live(self, places: Int[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """The ids of the images that are at ``places`` when those that are removed are not counted."""
        ...

    def captions(self) -> Iterator[str | None]:
        """The captions of the images that are not removed, in the order of their ids."""
        ...

    def changed(self) -> bool:
        """Whether another state of the index is there by now."""
        ...
