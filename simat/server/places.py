"""One open index and the queue before it."""

from __future__ import annotations

from concurrent.futures import Future

from simat.engine import Engine
from simat.server.batching import Batcher, Closed
from simat.server.options import ServiceOptions
from simat.types import Answer, Query


class Place:
    """An engine that answers the queries of many together.

    Attributes:
        engine: the open index.
    """

    def __init__(self, engine: Engine, options: ServiceOptions) -> None:
        self.engine = engine
        self._queries: Batcher[Query, Answer] = Batcher(
            engine.answer_many, options.window, options.batch, options.waiting
        )

    def submit(self, query: Query) -> Future[Answer] | None:
        """Hand in a query to ``retrieve``; None where the place is closed.

        Raises:
            Busy: too many are waiting.
        """
        try:
            return self._queries.submit(query)
        except Closed:
            return None

    def close(self) -> None:
        """Take no more queries; those handed in are answered."""
        self._queries.close()

    def join(self) -> None:
        """Wait until they are; after :meth:`close`."""
        self._queries.join()
