"""Questions of many that are answered together: run at once when idle, collect while busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from simat.errors import Busy, SimatError

Q = TypeVar("Q")
A = TypeVar("A")


class Closed(SimatError):
    """A batcher that takes no more questions."""


class Batcher(Generic[Q, A]):
    """One worker thread that answers whatever has come since it last looked, as one batch.

    A question that comes alone is answered at once. Where the batch before had several, as many are expected again,
    and the worker waits for them, for at most the window: clients that wait for their answers ask again together.

    Args:
        work: answers a list of questions with one answer or error each, in order.
        window: seconds to wait for questions that are expected.
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
        self._asked: SimpleQueue[tuple[Q, Future[A]] | None] = SimpleQueue()
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="simat-batch", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Questions that wait for their batch."""
        return self._asked.qsize()

    def submit(self, question: Q) -> Future[A]:
        """Hand in one question; its future may be cancelled until its batch begins.

        Raises:
            Busy: too many are waiting.
            Closed: after :meth:`close`.
        """
        if self._asked.qsize() >= self._waiting:
            raise Busy("too many queries are waiting", got=self._waiting, remedy="try again in a moment")
        future: Future[A] = Future()
        with self._lock:
            if self._closed:
                raise Closed("closed")
            self._asked.put((question, future))
        return future

    def close(self) -> None:
        """Take no more questions; those handed in are answered."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._asked.put(None)

    def join(self) -> None:
        """Wait until everything handed in is answered; after :meth:`close`."""
        self._thread.join()

    def _run(self) -> None:
        expected, going_on = 1, True
        while going_on:
            batch, going_on = self._collect(expected)
            expected = len(batch)
            running = [(question, future) for question, future in batch if future.set_running_or_notify_cancel()]
            if running:
                if self._on_batch:
                    self._on_batch(len(running))
                self._answer(running)

    def _collect(self, expected: int) -> tuple[list[tuple[Q, Future[A]]], bool]:
        """The next batch, and whether there may be another."""
        first = self._asked.get()
        batch = [] if first is None else [first]
        until = time.monotonic() + self._window
        while batch and len(batch) < self._most:
            try:
                missing = len(batch) < expected
                item = self._asked.get(timeout=max(until - time.monotonic(), 0)) if missing else self._asked.get(False)
            except Empty:
                return batch, True
            if item is None:
                return batch, False
            batch.append(item)
        return batch, first is not None

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
