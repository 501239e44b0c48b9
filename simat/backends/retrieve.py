"""Answer by finding: compose a query, rank the images, leave out the query image itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from simat.backends import Resources, check_accepts
from simat.backends.composing import composed
from simat.backends.ranking import Task, best_of_many
from simat.backends.sources import QueryImage, Sources
from simat.compose import Composition
from simat.errors import QueryError, SimatError
from simat.selection import Selection
from simat.types import Accepts, Answer, Cancel, Hits, OnStep, Query, Result, Step

DEFAULT_K = 10


@dataclass
class _Asked:
    """One query on its way to its answer.

    Attributes:
        query: what is asked.
        k: how many images.
        among: the rows that its filter selects, None without one.
        source: what it starts from, where that is to be left out of the answers.
        composition: what is searched for.
        wanted: how many hits are looked at.
        seen: how many have been.
        results: the answers so far.
        error: why there are none.
    """

    query: Query
    k: int = 0
    among: Selection | None = None
    source: QueryImage | None = None
    composition: Composition | None = None
    wanted: int = 0
    seen: int = 0
    results: list[Result] = field(default_factory=list)
    error: SimatError | None = None


class Retrieve:
    """Retrieval over one open index; the ``simat.backends`` entry point ``retrieve``."""

    name = "retrieve"
    accepts = Accepts(frozenset(), frozenset({"image", "vector", "text", "edits", "scale", "composer", "where"}))

    def __init__(self, resources: Resources) -> None:
        self._resources, self._sources = resources, Sources(resources)

    def answer(self, query: Query, on_step: OnStep | None = None, cancel: Cancel | None = None) -> Answer:
        """The k images nearest to what the composer makes of the query, best first.

        Raises:
            QueryError: a query that cannot be composed, k out of range, or a filter that is none.
            ImageError: the query image cannot be read.
            SpaceMismatchError: the encoder is not the one the index was built with.
        """
        (answer,) = self.answer_many([query])
        if isinstance(answer, SimatError):
            raise answer
        if on_step:
            on_step(Step("search", 1, 1))
        return answer

    def answer_many(self, queries: Sequence[Query]) -> list[Answer | SimatError]:
        """The answers that :meth:`answer` gives to each query, or the errors that it raises.

        All images are encoded together, then all words, and what comes of them is searched for together: the work of
        each stage is shared, and so are its timings. An error is of one query and spoils no other.
        """
        started = time.perf_counter()
        asked = [_Asked(query) for query in queries]
        self._check(asked)
        self._select(_sound(asked))
        selected = time.perf_counter()
        self._compose(_sound(asked))
        composed = time.perf_counter()
        self._search(_sound(asked))
        timings = {"compose": composed - selected, "search": time.perf_counter() - composed}
        if any(query.where is not None for query in queries):
            timings = {"filter": selected - started, **timings}
        return [one.error or Answer(tuple(one.results), self.name, timings) for one in asked]

    def _check(self, asked: Sequence[_Asked]) -> None:
        for one in asked:
            try:
                check_accepts(one.query, self.accepts, self.name)
                one.k = self._count(one.query.k)
            except SimatError as error:
                one.error = error

    def _count(self, k: int | None) -> int:
        images = len(self._resources)
        if k is None:
            return min(DEFAULT_K, images)
        if k > images:
            raise QueryError(f"k is more than the {images} images of the index", got=k, remedy="ask for fewer")
        return k

    def _select(self, asked: Sequence[_Asked]) -> None:
        known: dict[str, Selection] = {}
        for one in asked:
            where = one.query.where
            try:
                if where is not None:
                    one.among = known[where] = known.get(where) or self._resources.selected(where)
            except SimatError as error:
                one.error = error

    def _compose(self, asked: Sequence[_Asked]) -> None:
        sources: list[QueryImage | None] = []
        for one, source in zip(asked, self._sources.read([one.query for one in asked]), strict=True):
            one.error = source if isinstance(source, SimatError) else None
            sources.append(None if isinstance(source, SimatError) else source)
        ready = [(one, source) for one, source in zip(asked, sources, strict=True) if one.error is None]
        encode, queries = self._resources.encode_texts, [one.query for one, _ in ready]
        made = composed(queries, [source for _, source in ready], encode, lambda: self._resources.background)
        for (one, source), composition in zip(ready, made, strict=True):
            if isinstance(composition, SimatError):
                one.error = composition
            else:
                one.composition, one.source = composition, None if one.query.include_self else source

    def _search(self, asked: Sequence[_Asked]) -> None:
        for one in asked:
            one.wanted = min(one.k + (one.source is not None), self._most(one))
        asked = [one for one in asked if one.wanted]
        while asked:
            tasks = [Task(one.composition, one.wanted, one.among) for one in asked if one.composition is not None]
            self._take(asked, best_of_many(self._resources.searcher, self._resources.embeddings, tasks))
            asked = [one for one in asked if self._goes_on(one)]
            for one in asked:  # more copies of the query image than expected
                one.wanted = min(2 * one.wanted, self._most(one))

    def _most(self, one: _Asked) -> int:
        """How many images there may be to find."""
        images = len(self._resources)
        return images if one.among is None else min(images, one.among.count)

    def _goes_on(self, one: _Asked) -> bool:
        return one.error is None and len(one.results) < one.k and one.wanted < self._most(one)

    def _take(self, asked: Sequence[_Asked], found: Sequence[Hits | SimatError]) -> None:
        fresh: list[tuple[_Asked, int, float]] = []
        for one, hits in zip(asked, found, strict=True):
            if isinstance(hits, SimatError):
                one.error = hits
                continue
            new = [(one, int(i), float(s)) for i, s in zip(hits.ids[0], hits.scores[0], strict=True) if i >= 0]
            fresh += new[one.seen :]
            one.seen = max(one.seen, len(new))
        rows = self._resources.embeddings.rows(np.array([id for _, id, _ in fresh], np.int64))
        for (one, id, score), row in zip(fresh, rows, strict=True):
            if len(one.results) < one.k and not (one.source and self._sources.is_source(one.source, id, row)):
                one.results.append(Result(score, id, self._resources.embeddings.resolve(row), row.caption))


def _sound(asked: Sequence[_Asked]) -> list[_Asked]:
    return [one for one in asked if one.error is None]
