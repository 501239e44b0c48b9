"""The two questions that are asked most, in terms of :meth:`Asking.answer`: of an index here or on a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from simat.edits import Edit
from simat.errors import QueryError
from simat.types import Answer, Cancel, ImageInput, OnStep, Query


class Asking(ABC):
    """Whoever answers queries can be asked to search and to edit."""

    @abstractmethod
    def answer(
        self,
        query: Query,
        backend: str = "retrieve",
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Answer any query."""

    def search(
        self,
        text: str | None = None,
        *,
        image: ImageInput | None = None,
        k: int | None = None,
        include_self: bool = False,
        composer: str | None = None,
        scale: float = 1.0,
        where: str | None = None,
    ) -> Answer:
        """Images nearest to words, or to an image, or to both.

        Args:
            text: words to search for.
            image: a path, a PIL image, an RGB array, or an id in the index.
            k: how many answers (None: ten, or all where there are fewer).
            include_self: let the query image be among its own answers.
            composer: how words and an image are brought together: ``weighted``, ``slerp``, ``product`` or ``basic``.
            scale: how much the words weigh then; 0 is the image alone.
            where: only images for which this condition on the metadata is true, as
                ``"width >= 640 and caption like '%beach%'"``; see :mod:`simat.where`.

        Raises:
            QueryError: neither is given, or both without a composer, or k is out of range, or the filter is none.
        """
        if (text is None and image is None) or (text is not None and image is not None and composer is None):
            raise QueryError(
                "search for words or for an image",
                got="both" if text else "neither",
                remedy="to search for both, name a composer: weighted, slerp, product or basic" if text else None,
            )
        composer = composer or ("text" if image is None else "image")
        return self.answer(
            Query(image=image, text=text, scale=scale, k=k, composer=composer, include_self=include_self, where=where)
        )

    def edit(
        self,
        image: ImageInput,
        edits: str | Sequence[Edit],
        *,
        scale: float = 1.0,
        k: int | None = None,
        composer: str = "delta",
        include_self: bool = False,
        where: str | None = None,
    ) -> Answer:
        """Images like ``image``, but edited: ``engine.edit("dog.jpg", "dog -> cat")``.

        Args:
            image: a path, a PIL image, an RGB array, or an id in the index.
            edits: edits or their text; see :func:`simat.edits.parse_edits`.
            scale: λ of eq. 3.2; what it means to the other composers is said there.
            k: how many answers (None: ten, or all where there are fewer).
            composer: a name in :data:`simat.composers.COMPOSERS`.
            include_self: let the query image be among its own answers.
            where: only images for which this condition on the metadata is true, as in :meth:`search`.
        """
        return self.answer(
            Query(image=image, edits=edits, scale=scale, k=k, composer=composer, include_self=include_self, where=where)
        )
