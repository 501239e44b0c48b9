"""Backends: different ways to answer the same query; each an entry point ``(Resources) -> Backend``."""

from __future__ import annotations

from dataclasses import fields
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from simat.composers import Background
from simat.embeddings import EmbeddingSet
from simat.errors import QueryError
from simat.searcher import Searcher
from simat.types import Accepts, ImageEncoder, Query

ALWAYS = frozenset({"k", "include_self"})  # every backend may return several answers


@runtime_checkable
class Resources(Protocol):
    """What an open index offers its backends."""

    @property
    def encoder(self) -> ImageEncoder:
        """The encoder of the index's space, loaded when first asked for."""
        ...

    @property
    def embeddings(self) -> EmbeddingSet:
        """Metadata and vectors by id."""
        ...

    @property
    def searcher(self) -> Searcher:
        """The shards."""
        ...

    @property
    def background(self) -> Background:
        """What composers may know beside the query."""
        ...

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, remembered from one query to the next."""
        ...


def check_accepts(query: Query, accepts: Accepts, backend: str) -> None:
    """Raise unless the query has every field that the backend requires and none that it would ignore.

    Raises:
        QueryError: names the field and what the backend accepts.
    """
    blank = Query()
    given = {f.name for f in fields(Query) if not _same(getattr(query, f.name), getattr(blank, f.name))} - ALWAYS
    missing = accepts.requires - given
    surplus = given - accepts.requires - accepts.optional
    takes = f"it takes {', '.join(sorted(accepts.requires | accepts.optional))}"
    if missing:
        raise QueryError(f"the backend {backend!r} needs {', '.join(sorted(missing))}", remedy=takes)
    if surplus:
        raise QueryError(f"the backend {backend!r} would ignore {', '.join(sorted(surplus))}", remedy=takes)


def _same(value: object, default: object) -> bool:
    # Arrays compare element by element: identity is enough for fields whose default is None.
    return value is default if default is None else bool(value == default)
