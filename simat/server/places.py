"""One open index and the queues before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from PIL.Image import Image

from simat.engine import Engine
from simat.errors import SimatError
from simat.server.batching import Batcher
from simat.server.options import ServiceOptions
from simat.types import Answer, Query, TextEncoder

T = TypeVar("T")
Rows = np.ndarray


class Place:
    """An engine that answers the queries of many together.

    Attributes:
        engine: the open index.
        queries: to ``retrieve``.
        texts, images: lists of what is to be encoded.
    """

    def __init__(self, engine: Engine, options: ServiceOptions, on_batch: Callable[[int], None] | None = None) -> None:
        self.engine = engine
        limits = (options.window, options.batch, options.waiting)
        self.queries: Batcher[Query, Answer] = Batcher(engine.answer_many, *limits, on_batch)
        self.texts: Batcher[list[str], Rows] = Batcher(_joined(engine.encode_texts), *limits)
        self.images: Batcher[list[Image], Rows] = Batcher(_joined(self._encode_images), *limits)

    def warm(self) -> None:
        """Load what the first query would have to wait for.

        Raises:
            SimatError: it cannot be loaded.
        """
        words = isinstance(self.engine.encoder, TextEncoder)
        first = Query(text="a photo", composer="text", k=1) if words else Query(image=0, composer="image", k=1)
        if len(self.engine):
            self.queries.submit(first).result()

    def close(self) -> None:
        """Take no more; what was handed in is answered."""
        for batcher in (self.queries, self.texts, self.images):
            batcher.close()

    def join(self) -> None:
        """Wait until it is; after :meth:`close`."""
        for batcher in (self.queries, self.texts, self.images):
            batcher.join()

    def _encode_images(self, images: list[Image]) -> Rows:
        return self.engine.encoder.encode_images(images)


def _joined(encode: Callable[[list[T]], Rows]) -> Callable[[list[list[T]]], Sequence[Rows | SimatError]]:
    """One call for the lists of many; an error is everybody's, until the batcher asks one by one."""

    def work(lists: list[list[T]]) -> Sequence[Rows | SimatError]:
        rows = encode([item for one in lists for item in one])
        return np.split(rows, np.cumsum([len(one) for one in lists])[:-1])

    return work
