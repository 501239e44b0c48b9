"""The service: open indices, one studio, and the queues before them; what every way of asking shares."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL.Image import Image

from simat import plugins
from simat.engine import Engine, open_engine
from simat.errors import Busy, NotFound, QueryError, SimatError
from simat.images import decode
from simat.manifest import of_one_generation
from simat.milvus.address import is_address
from simat.searcher import Searcher
from simat.server.batching import Closed
from simat.server.jobs import Jobs
from simat.server.metrics import Metrics
from simat.server.options import ServiceOptions
from simat.server.pictures import original, row_of
from simat.server.places import Place
from simat.server.uploads import Decoder
from simat.studios import Studio, makes_pictures
from simat.types import Answer, Cancel, EmbeddingSpace, OnStep, Query

LOG = logging.getLogger("simat")
T = TypeVar("T")
FOUND = "retrieve"  # the backend whose queries are answered together


class Service:
    """Answers queries over several indices and with generators; safe to share between threads.

    Args:
        indices: folders made by ``simat index build``, addresses that ``simat index push`` was given, or engines
            already open. Without any, the service draws and edits, and finds nothing.
        options: limits, and how models run.

    Attributes:
        options: as given.
        studio: makes pictures; one model for all indices.
        metrics: what is counted.
        decoder: reads the pictures that clients send.
        jobs: long work, and its answers for a time.

    Raises:
        StorageError: a folder is no index, or damaged.
    """

    def __init__(self, indices: Iterable[str | Path | Engine] = (), options: ServiceOptions | None = None) -> None:
        self.options = options or ServiceOptions()
        self.studio = Studio(self.options.model)
        self.metrics = Metrics()
        self.decoder = Decoder(self.options.pixels)
        self.jobs = Jobs(self.options.workers, self.options.queue, self.options.kept, self.options.state)
        self._reloading, self._state, self._closed = threading.Lock(), "not started", False
        self._loading = threading.Lock()  # libraries that two threads import at once fail in one of them
        self._places: dict[str, Place] = {}
        for index in indices:
            engine = index if isinstance(index, Engine) else self._open(Path(index))
            self._places[_name(engine.folder, self._places)] = self._place_of(engine)

    @property
    def names(self) -> tuple[str, ...]:
        """The indices, the first of which answers where none is named."""
        return tuple(self._places)

    @cached_property
    def backends(self) -> tuple[str, ...]:
        """The backends that may be used."""
        installed = plugins.registered(plugins.BACKENDS)
        allowed = self.options.backends
        return tuple(name for name in installed if allowed is None or name in allowed)

    def place(self, name: str | None = None) -> Place:
        """An index as it is now, with its queue; the first where none is named.

        Raises:
            NotFound: no such index; lists those there are.
        """
        if not self._places:
            raise NotFound("this server has no index", remedy="start it with one: simat serve INDEX")
        places = self._places
        place = next(iter(places.values())) if name is None else places.get(name)
        if place is None:
            raise NotFound("no such index", got=repr(name), remedy=f"there are: {', '.join(places)}")
        return place

    def name_of(self, name: str | None = None, needed: bool = True) -> str | None:
        """The index that a question is for: the named one, else the first; None where there is none and none is needed.

        Raises:
            NotFound: as :meth:`place` does.
        """
        if not (needed or name or self._places):
            return None
        self.place(name)
        return name if name is not None else next(iter(self._places))

    def engine(self, name: str | None = None) -> Engine:
        """The engine of an index, as :meth:`place` finds it."""
        return self.place(name).engine

    def reload(self, name: str | None = None) -> Engine:
        """Open the folder of an index anew; queries under way end on the old one, later ones meet the new one.

        Raises:
            NotFound: no such index.
            StorageError: what is in the folder now is no whole index; the old one goes on answering.
        """
        with self._reloading:
            known = self.name_of(name)
            assert known is not None
            self._exchange(known)
        gc.collect()  # an engine is full of cycles: its memory and its threads would stay for long
        return self.engine(known)

    def _exchange(self, name: str) -> None:
        old = self.place(name)
        folder = old.engine.folder
        if is_address(str(folder)):
            new = self._place_of(self._open(folder, old.engine))
        else:
            new = of_one_generation(folder, lambda _: self._place_of(self._open(folder, old.engine)))
        self._places = {**self._places, name: new}
        old.close()
        old.join()

    def submit(self, name: str | None, query: Query) -> Future[Answer]:
        """Hand in a query to ``retrieve``; it is answered together with others that come with it.

        Raises:
            NotFound: no such index.
            Busy: too many are waiting.
            QueryError: ``retrieve`` may not be used here.
        """
        self.check_backend(FOUND)
        return self._handed_in(name, lambda place: place.queries.submit(query))

    def answer(
        self,
        name: str | None,
        query: Query,
        backend: str = FOUND,
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Answer any query, in the calling thread; queries to ``retrieve`` of several threads are answered together.

        Args:
            name: the index, None for the first.
            query: what is asked; an image may be an id of the index.
            backend: one of :attr:`backends`.
            on_step: told after every step.
            cancel: asked before every step.
            settings: values for the ``Settings`` of a backend that makes pictures.

        Raises:
            QueryError: what the backend does not take, or a backend that may not be used here.
            Cancelled: asked for by ``cancel``.
        """
        self.check_backend(backend)
        if backend == FOUND and not settings:
            self._selected(name, query)
            return self.submit(name, query).result()
        self._await_loading()
        if name is None and not self._places:
            return self.studio.answer(query, backend, settings=settings, on_step=on_step, cancel=cancel)
        engine = self.engine(name)
        if self.makes_pictures(backend) and isinstance(query.image, int):
            query = replace(query, image=decode(original(engine.embeddings, row_of(engine, query.image)).data))
        return engine.answer(query, backend, on_step, cancel, settings)

    async def decode(self, data: bytes) -> Image:
        """The picture of an uploaded file.

        Raises:
            ImageError: as :func:`simat.images.decode` does.
        """
        return await self.decoder.decoded(data)

    async def answered(
        self, name: str | None, query: Query, backend: str, settings: Mapping[str, Any] | None = None
    ) -> Answer:
        """As :meth:`answer`, for a coroutine: what is found needs no thread, what is made waits for its turn as a job.

        Raises:
            Busy: too many jobs are waiting.
        """
        self.check_backend(backend)
        if backend == FOUND and not settings:
            if query.where is not None:
                await asyncio.to_thread(self._selected, name, query)
            return await asyncio.wrap_future(self.submit(name, query))
        job = self.jobs.submit(partial(self.answer, name, query, backend, settings=settings), backend)
        try:
            async for _ in job.stream():
                pass
            return job.wait()
        finally:
            self.jobs.cancel(job.id)  # nobody else knows of it: stop it, or forget it

    async def encode_texts(self, name: str | None, texts: list[str]) -> list[np.ndarray]:
        """Unit rows of texts, encoded together with those of others."""
        return await self._rows(name, lambda place: place.texts.submit(texts)) if texts else []

    async def encode_images(self, name: str | None, images: list[Image]) -> list[np.ndarray]:
        """Unit rows of pictures, encoded together with those of others."""
        return await self._rows(name, lambda place: place.images.submit(images)) if images else []

    def warm(self) -> None:
        """Load what first queries would have to wait for; errors are told by :meth:`state`."""
        self._state = "loading"
        try:
            with self._loading:
                for place in self._places.values():
                    place.warm()
        except Exception as error:
            LOG.error("cannot load: %s", error, exc_info=not isinstance(error, SimatError))
            self._state = error.what if isinstance(error, SimatError) else "an unexpected error"
        else:
            self._state = "ready"

    def _await_loading(self) -> None:
        with self._loading:
            pass

    def state(self) -> str:
        """``ready``, or why it is not."""
        return self._state

    def count(self) -> None:
        """Bring what is not counted as it happens up to date in :attr:`metrics`."""
        self.metrics.waiting.set(sum(place.queries.waiting for place in self._places.values()))
        for name, place in self._places.items():
            self.metrics.images.labels(name).set(len(place.engine))

    def check_backend(self, name: str) -> None:
        """Raise :class:`QueryError` unless the backend may be used here."""
        if name not in self.backends:
            raise QueryError("no such backend", got=repr(name), remedy=f"there are: {', '.join(self.backends)}")

    def makes_pictures(self, backend: str) -> bool:
        """Whether a backend makes pictures, which takes long, or finds some."""
        self.check_backend(backend)
        return backend != FOUND and makes_pictures(plugins.load(plugins.BACKENDS, backend))

    def close(self) -> None:
        """Take no more queries, answer those that are here, and end the jobs as :meth:`Jobs.close` does."""
        self._closed = True
        self.jobs.close()
        for place in self._places.values():
            place.close()
        for place in self._places.values():
            place.join()
        self.decoder.close()

    def _selected(self, name: str | None, query: Query) -> None:
        """Let the index look at its metadata now: those whose queries are answered together wait for no filter."""
        if query.where is not None:
            self.engine(name).selected(query.where)

    def _handed_in(self, name: str | None, submit: Callable[[Place], Future[T]]) -> Future[T]:
        while not self._closed:
            with suppress(Closed):  # by a reload in this very moment
                return submit(self.place(name))
        raise Busy("the server is shutting down")

    async def _rows(self, name: str | None, submit: Callable[[Place], Future[np.ndarray]]) -> list[np.ndarray]:
        return [*await asyncio.wrap_future(self._handed_in(name, submit))]

    def _open(self, folder: Path, old: Engine | None = None) -> Engine:
        engine = open_engine(folder, None, self.options.root, self.options.runtime, model=self.options.model)
        if old is not None and "encoder" in old.__dict__ and _same_space(engine.space, old.space):
            engine.encoder = old.encoder  # loaded already
        return engine

    def _place_of(self, engine: Engine) -> Place:
        engine.studio = self.studio
        engine.embeddings.hold()
        if isinstance(engine.searcher, Searcher):
            engine.searcher.hold()
        return Place(engine, self.options, self.metrics.batch)


def _same_space(new: EmbeddingSpace, old: EmbeddingSpace) -> bool:
    return (new.fingerprint, new.dim, new.heads) == (old.fingerprint, old.dim, old.heads)


def _name(folder: Path, taken: Mapping[str, object] | Sequence[str]) -> str:
    """The folder's own name; with that of the one above it, then with a number, where it is taken."""
    folder = folder.resolve()
    name = folder.name or "index"
    if name in taken:
        name = f"{folder.parent.name}-{name}"
    number = 2
    while name in taken:
        name, number = f"{folder.name}-{number}", number + 1
    return name
