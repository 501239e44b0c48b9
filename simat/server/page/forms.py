"""What is filled in on each tab, and the query that it makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeVar

import numpy as np
from PIL.Image import Image

from simat import plugins
from simat.edits import Edit, parse_edits
from simat.errors import QueryError
from simat.types import Query

FOUND = "retrieve"
BOTH = ("weighted", "slerp", "product", "basic")  # composers of a picture and words
CHANGED = ("delta", "sentence_delta", "edited_caption", "image_text_image", "pdv", "text", *BOTH)  # of one and edits
WORDS, SENTENCE = "Words", "Sentence"
Source = Image | int | None


@dataclass(frozen=True)
class SearchForm:
    """Words, a picture, or both; ``picture`` is the value of a picker."""

    tab: ClassVar[str] = "search"
    index: str | None = None
    words: str = ""
    picture: Mapping[str, Any] | None = None
    composer: str = "weighted"
    scale: float = 1.0
    count: int = 12
    where: str = ""

    def query(self, source: Source, images: int) -> Query:
        """The question to an index of ``images`` images.

        Raises:
            QueryError: there is neither a word nor a picture.
        """
        words = self.words.strip() or None
        if words is None and source is None:
            raise QueryError("nothing to search for yet", remedy="type some words, or choose a picture")
        alone = "text" if source is None else "image"
        composer = self.composer if words and source is not None else alone
        k, where = min(self.count, images), self.where.strip() or None
        return Query(image=source, text=words, composer=composer, scale=self.scale, k=k, where=where)


@dataclass(frozen=True)
class EditForm:
    """A picture and what to change, in words or in a sentence, by one backend or several."""

    tab: ClassVar[str] = "edit"
    index: str | None = None
    picture: Mapping[str, Any] | None = None
    mode: str = WORDS
    source: str = ""
    target: str = ""
    more: str = ""
    sentence: str = ""
    shows: str = ""
    backends: Sequence[str] = (FOUND,)
    scale: float = 1.0
    composer: str = "delta"
    count: int = 12
    strength: float | None = None
    seed: int | None = None
    samples: int = 1

    def query(self, backend: str, source: Source, images: int) -> Query:
        """The question as one backend takes it.

        Raises:
            QueryError: no picture, or nothing to change.
        """
        if source is None:
            raise QueryError("there is no picture to edit yet", remedy="choose one, or start from a result")
        if backend == FOUND:
            composer, change = self._found()
            return Query(image=source, composer=composer, scale=self.scale, k=min(self.count, images), **change)
        samples = self.samples if self.samples > 1 else None
        own = {"reference": self.shows.strip() or None, "strength": self.strength, "seed": self.seed}
        return Query(image=source, **self._change(), **_taken(backend, {**own, "samples": samples}))

    def _found(self) -> tuple[str, dict[str, Any]]:
        """Retrieval takes no description: a sentence and what the picture shows are the two ends of one edit."""
        if self.mode == SENTENCE and self.shows.strip() and self.sentence.strip():
            return self.composer, {"edits": (Edit(self.shows.strip(), self.sentence.strip()),)}
        if self.mode == SENTENCE and self.composer not in BOTH:
            return "weighted", self._change()
        return self.composer, self._change()

    def _change(self) -> dict[str, Any]:
        if self.mode == SENTENCE:
            if not self.sentence.strip():
                raise QueryError("there is no sentence yet", remedy="describe the picture that you would like")
            return {"text": self.sentence.strip()}
        source, target = self.source.strip() or None, self.target.strip() or None
        edits = (Edit(source, target),) if source or target else ()
        edits = (*edits, *(parse_edits(self.more) if self.more.strip() else ()))
        if not edits:
            raise QueryError("there is nothing to change yet", remedy="say what to replace, and by what")
        return {"edits": edits}


@dataclass(frozen=True)
class DrawForm:
    """A text and where its words belong; ``layout`` is the value of the canvas."""

    tab: ClassVar[str] = "draw"
    text: str = ""
    layout: Mapping[str, Any] = field(default_factory=dict)
    backends: Sequence[str] = ("zestguide",)
    seed: int | None = None
    samples: int = 1

    def query(self, backend: str, layout: Mapping[str, np.ndarray]) -> Query:
        """The question as one backend takes it; without a text, the names of the segments are the text."""
        text = self.text.strip() or ", ".join(layout)
        samples = self.samples if self.samples > 1 else None
        return Query(text=text, layout=layout, **_taken(backend, {"seed": self.seed, "samples": samples}))


Form = SearchForm | EditForm | DrawForm
F = TypeVar("F", SearchForm, EditForm, DrawForm)


def filled(kind: type[F], given: Sequence[Any]) -> F:
    """A form from its fields in their order; nothing, where a browser sends none, is the default."""
    names = [each.name for each in fields(kind)]
    return kind(**{name: value for name, value in zip(names, given, strict=True) if value is not None})


def values(form: Form) -> list[Any]:
    """The fields of a form, in their order, as the parts of the page take them."""
    given = [getattr(form, each.name) for each in fields(form)]
    return [[*value] if isinstance(value, tuple) else value for value in given]


def _taken(backend: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that a backend takes, of those that are given."""
    accepts = plugins.load(plugins.BACKENDS, backend).accepts
    known = accepts.requires | accepts.optional
    return {name: value for name, value in given.items() if value is not None and name in known}
