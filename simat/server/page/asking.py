"""What the page does when somebody asks: forms in, HTML out; nothing here knows how the page is laid out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from simat.documents import shown
from simat.engine import Engine
from simat.errors import SimatError
from simat.server.page import cards
from simat.server.page.columns import Column, Home, columns_html
from simat.server.page.forms import FOUND, DrawForm, EditForm, Form, SearchForm, Source
from simat.server.page.layouts import read_layout
from simat.server.page.links import to_link
from simat.server.page.pictures import read_picker
from simat.server.page.running import Queue, Runs, Work, done, followed, unexpected
from simat.server.service import Service
from simat.types import Answer, Cancel, OnStep, Query

LOG = logging.getLogger("simat")
OFFERED = {"edit": ("retrieve", "flexit", "diffedit", "sdedit"), "draw": ("zestguide", "pww", "multidiffusion")}
STARTS = 12  # pictures to start from
Ask = Callable[[], Query]
Shown = tuple[str, str | None]
"""HTML, and the query part of the address; None leaves the address as it is."""


class Asking:
    """Answers what is asked on the page.

    Args:
        service: answers the queries, and decodes what visitors send.
        queue: where the making of pictures waits for its turn.

    Attributes:
        service: as given.
        runs: what visitors have under way.
    """

    def __init__(self, service: Service, queue: Queue) -> None:
        self.service, self.runs, self._queue = service, Runs(), queue

    def offered(self, tab: str) -> tuple[str, ...]:
        """The backends that a tab offers: ``retrieve`` needs an index."""
        allowed = set(self.service.backends) - (set() if self.service.names else {FOUND})
        return tuple(name for name in OFFERED[tab] if name in allowed)

    def search(self, form: SearchForm) -> Iterator[Shown]:
        """Places for the results, then the results."""
        yield cards.waiting(min(form.count, 12)), None
        yield self._safely(lambda: self._searched(form))

    def edit(self, form: EditForm, visitor: str) -> Iterator[Shown]:
        """The columns of the chosen backends, again after every change."""
        yield from self._compared(form, form.index, form.backends, visitor, lambda: self._edits(form))

    def draw(self, form: DrawForm, visitor: str) -> Iterator[Shown]:
        """The same for a drawing."""
        yield from self._compared(form, None, form.backends, visitor, lambda: self._drawings(form))

    def cancel(self, tab: str, visitor: str) -> bool:
        """Stop what a visitor has under way on a tab; whether anything was."""
        return self.runs.cancel(f"{tab} {visitor}")

    def starts(self, index: str | None, tab: str) -> str:
        """Some pictures of an index, for those who have not asked yet."""
        if not self.service.names:
            return cards.note("No index is open", "Start the server with one: simat serve INDEX")
        engine, name = self.service.engine(index), index or self.service.names[0]
        act, title = ("like", "Start anywhere") if tab == "search" else ("edit", "Choose a picture to edit")
        text = f"Some of the {len(engine):,} pictures of “{name}”. Choose one, or bring your own."
        results = cards.sampled(engine, STARTS)
        return cards.note(title, text) + cards.cards(results, name, engine.embeddings.root, act, scores=False)

    def described(self, index: str | None, picture: Any) -> dict[str, Any] | None:
        """A picker's value with what the index knows of an image: ``caption`` and ``name``; None where it has none."""
        number = picture.get("id") if isinstance(picture, Mapping) else None
        if not self.service.names or not isinstance(number, int) or isinstance(number, bool):
            return None
        try:
            row = self.service.engine(index).rows(np.array([number]))[0]
        except SimatError:
            return None
        return {"id": number, "caption": row.caption or "", "name": shown(Path(row.path)).rpartition("/")[2]}

    def restored(self, form: Form) -> Shown:
        """What a shared address shows at once: pictures are found, but none are made before somebody asks."""
        return self._safely(lambda: self._restored(form))

    def _restored(self, form: Form) -> Shown:
        if isinstance(form, SearchForm):
            return self._searched(form)
        if isinstance(form, DrawForm) or FOUND not in self.offered("edit"):
            return cards.note("Ready", "Press the button to make the pictures of this link."), None
        column = Column(FOUND)
        engine, name = self._engine(form.index)
        done(column, lambda: self.service.answer(name, form.query(FOUND, self._source(form), len(engine))))
        return columns_html([column], self._home(name)), None

    def _searched(self, form: SearchForm) -> Shown:
        engine, name = self._engine(form.index)
        query = form.query(self._source(form), len(engine))
        answer = self.service.answer(name, query)
        title = form.words.strip() or "Pictures like this one"
        head = cards.summary(answer, len(engine), title)
        return head + cards.cards(answer.results, name, engine.embeddings.root, "like"), to_link(form)

    def _compared(
        self,
        form: EditForm | DrawForm,
        index: str | None,
        backends: Any,
        visitor: str,
        works: Callable[[], dict[str, Ask]],
    ) -> Iterator[Shown]:
        key = f"{form.tab} {visitor}"
        stop = self.runs.begin(key)
        try:
            columns = {name: Column(name) for name in self.offered(form.tab) if name in backends}
            if not columns:
                raise SimatError("no method is chosen", remedy="choose at least one")
            home, link = self._home(index), to_link(form)
            yield columns_html([*columns.values()], home), None
            queries = _asked(works(), columns)
            if FOUND in columns:
                done(columns[FOUND], lambda: self.service.answer(index, queries[FOUND]()))
            makers = {n: (c, self._work(n, queries[n], index)) for n, c in columns.items() if n != FOUND}
            yield columns_html([*columns.values()], home), link
            for _ in followed(makers, self._queue, stop):
                yield columns_html([*columns.values()], home), None
        except SimatError as error:
            yield cards.problem(error), None
        except Exception as error:
            LOG.error("unexpected error on the page", exc_info=error)
            yield cards.problem(unexpected()), None
        finally:
            stop.set()
            self.runs.end(key, stop)

    def _work(self, backend: str, query: Ask, index: str | None) -> Work:
        def work(on_step: OnStep, cancel: Cancel) -> Answer:
            return self.service.answer(index, query(), backend, on_step, cancel)

        return work

    def _edits(self, form: EditForm) -> dict[str, Ask]:
        source = self._source(form)
        images = len(self._engine(form.index)[0]) if self.service.names else 1
        return {name: lambda name=name: form.query(name, source, images) for name in self.offered("edit")}  # type: ignore[misc]

    def _drawings(self, form: DrawForm) -> dict[str, Ask]:
        layout = read_layout(form.layout)
        return {name: lambda name=name: form.query(name, layout) for name in self.offered("draw")}  # type: ignore[misc]

    def _source(self, form: SearchForm | EditForm) -> Source:
        def read(data: bytes) -> Image:
            return asyncio.run(self.service.decode(data))

        return read_picker(form.picture, self.service.options.upload_bytes, read)

    def _engine(self, index: str | None) -> tuple[Engine, str]:
        return self.service.engine(index), index or self.service.names[0]

    def _home(self, index: str | None) -> Home | None:
        if not self.service.names:
            return None
        engine, name = self._engine(index)
        return Home(name, engine.embeddings.root)

    def _safely(self, work: Callable[[], Shown]) -> Shown:
        try:
            return work()
        except SimatError as error:
            return cards.problem(error), None
        except Exception as error:
            LOG.error("unexpected error on the page", exc_info=error)
            return cards.problem(unexpected()), None


def _asked(
    queries: Mapping[str, Callable[[], Query]], columns: Mapping[str, Column]
) -> Mapping[str, Callable[[], Query]]:
    """The queries; one error for all of the columns where none of them can be asked.

    Raises:
        SimatError: the first one's.
    """
    errors = []
    for name in columns:
        try:
            queries[name]()
        except SimatError as error:
            errors.append(error)
    if len(errors) == len(columns):
        raise errors[0]
    return queries
