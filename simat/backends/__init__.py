"""Backends: different ways to answer the same query; each an entry point.

One that finds takes what an open index offers: ``(Resources) -> Backend``. One that makes pictures takes what all
generators share, with or without an index: ``(Tools) -> Generator``, and declares ``Settings``, a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int

from simat.composers import Background
from simat.embeddings import ImageRow
from simat.errors import QueryError
from simat.generators.options import ModelOptions
from simat.protocols import Images, IndexSearch
from simat.selection import Selection
from simat.types import Accepts, Answer, Cancel, ImageEncoder, OnStep, Query

if TYPE_CHECKING:
    from simat.generators.inversion import Trajectories
    from simat.generators.model import Diffusion

ALWAYS = frozenset({"k", "include_self"})  # every backend may return several answers


@runtime_checkable
class Resources(Protocol):
    """What an open index offers its backends."""

    @property
    def encoder(self) -> ImageEncoder:
        """The encoder of the index's space, loaded when first asked for."""
        ...

    @property
    def embeddings(self) -> Images:
        """Metadata and vectors by id."""
        ...

    def rows(self, ids: Int[np.ndarray, " n"]) -> list[ImageRow]:
        """Metadata of images that are not removed, in the order of ``ids``."""
        ...

    def selected(self, where: str) -> Selection:
        """The rows that a filter over the metadata selects."""
        ...

    def __len__(self) -> int:
        """How many images there are that are not removed."""
        ...

    @property
    def searcher(self) -> IndexSearch:
        """Finds the nearest vectors."""
        ...

    @property
    def background(self) -> Background:
        """What composers may know beside the query."""
        ...

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, remembered from one query to the next."""
        ...


@runtime_checkable
class Tools(Protocol):
    """What generators get: loaded when first asked for, once for all of them."""

    @property
    def options(self) -> ModelOptions:
        """Which model, where it runs, how precisely."""
        ...

    @property
    def diffusion(self) -> Diffusion:
        """The diffusion model that the options name."""
        ...

    @property
    def trajectories(self) -> Trajectories:
        """Inversions of pictures, kept from one answer to the next."""
        ...


@runtime_checkable
class Generator(Protocol):
    """A backend that makes pictures, and can be tuned.

    Its answers hold ``extras``: ``config`` (the settings as used), ``seed`` (of the first sample), ``models``
    (fingerprints by role), and what the method has to show.
    """

    name: str
    accepts: Accepts
    Settings: type[Any]

    def answer(
        self,
        query: Query,
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Answer one query; ``settings`` are values for the fields of ``Settings``, as they are or as text."""
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
