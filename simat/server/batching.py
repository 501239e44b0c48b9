"""Questions of many that are answered together: run at once when idle, collect while busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from simat.errors import Busy, SimatError

Q = TypeVar("Q")
A = TypeVar("A")


class Closed(SimatError):
    """A batcher that takes no more questions."""


class Batcher(Generic[Q, A]):
    """One worker thread that answers whatever has come since it last looked, as one batch.

    A question that comes alone is answered at once. Where the batch before had several, as many are expected again, for
    clients that wait for their answers ask again together: the worker waits for them while they keep coming, at most
    as long as that batch took. It is woken when they are there, and not for each of them.

    Args:
        work: answers a list of questions with one answer or error each, in order.
        window: seconds without a new question after which no more are expected.
        most: questions in one batch.
        waiting: questions that may wait.
        on_batch: told the size of every batch.
    """

    def __init__(
        self,
        work: Callable[[list[Q]], Sequence[A | Exception]],
        window: float = 0.003,
        most: int = 64,
        waiting: int = 1024,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._work, self._window, self._most, self._waiting = work, window, most, waiting
        self._on_batch = on_batch
        self._asked: list[tuple[Q, Future[A]]] = []
        self._changed, self._enough, self._closed = threading.Condition(), 1, False
        self._thread = threading.Thread(target=self._run, name="simat-batch", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions that wait for their batch."""
        return len(self._asked)

    def submit(self, question: Q) -> Future[A]:
        """Hand in one question; its future may be cancelled until its batch begins.

        Raises:
            Busy: too many are waiting.
            Closed: after :meth:`close`.
        """
        future: Future[A] = Future()
        with self._changed:
            if self._closed:
                raise Closed("closed")
            if len(self._asked) >= self._waiting:
                raise Busy("too many queries are waiting", got=self._waiting, remedy="try again in a moment")
            self._asked.append((question, future))
            if len(self._asked) == self._enough:
                self._changed.notify()
        return future

    def close(self) -> None:
        """Take no more questions; those handed in are answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self) -> None:
        """Wait until everything handed in is answered; after :meth:`close`."""
        self._thread.join()

    def _run(self) -> None:
        expected, patience = 1, 0.0
        while expected:
            expected, patience = self._serve(expected, patience)

    def _serve(self, expected: int, patience: float) -> tuple[int, float]:
        """One batch: its size, 0 at the end of all, and its seconds.

        Nothing of it is held while the next is awaited: pictures may be great.
        """
        batch = self._collect(expected, patience)
        started = time.monotonic()
        running = [(question, future) for question, future in batch if future.set_running_or_notify_cancel()]
        if running:
            if self._on_batch:
                self._on_batch(len(running))
            self._answer(running)
        return len(batch), time.monotonic() - started

    def _collect(self, expected: int, patience: float) -> list[tuple[Q, Future[A]]]:
        with self._changed:
            self._enough = 1
            self._changed.wait_for(lambda: self._asked or self._closed)
            self._enough, before = min(expected, self._most), 0
            until = time.monotonic() + max(patience, self._window)
            while before < len(self._asked) < self._enough and not self._closed and time.monotonic() < until:
                before = len(self._asked)
                self._changed.wait(self._window)
            batch, self._asked = self._asked[: self._most], self._asked[self._most :]
            return batch

    def _answer(self, batch: list[tuple[Q, Future[A]]]) -> None:
        try:
            answers: Sequence[A | Exception] = self._work([question for question, _ in batch])
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for one in batch:  # whoever is to blame, the others shall not suffer
                self._answer([one])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
