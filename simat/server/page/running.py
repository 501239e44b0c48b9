"""Backends at work for a visitor: handed in as jobs, followed step by step, cancelled."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from simat.errors import Cancelled, SimatError
from simat.server.page.columns import Column
from simat.types import Answer, Cancel, OnStep, Step

LOG = logging.getLogger("simat")
OFTEN = 0.2  # seconds between two looks at the jobs
Work = Callable[[OnStep, Cancel], Answer]


@runtime_checkable
class Queue(Protocol):
    """Where long work waits for its turn."""

    def submit(self, work: Work, name: str, /) -> Any:
        """Hand in work; the job has a ``state``, ``cancelled`` where it was before it began, and ``cancel()``."""
        ...


class Runs:
    """What every visitor has under way: one run for each tab; a new one ends the one before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, threading.Event] = {}

    def begin(self, key: str) -> threading.Event:
        """A new run; its event is set when it is cancelled."""
        event = threading.Event()
        with self._lock:
            before = self._running.pop(key, None)
            self._running[key] = event
        if before is not None:
            before.set()
        return event

    def cancel(self, key: str) -> bool:
        """Cancel what runs; whether anything did."""
        with self._lock:
            event = self._running.pop(key, None)
        if event is not None:
            event.set()
        return event is not None

    def end(self, key: str, event: threading.Event) -> None:
        """Forget a run, unless another has taken its place."""
        with self._lock:
            if self._running.get(key) is event:
                del self._running[key]

    def __len__(self) -> int:
        with self._lock:
            return len(self._running)


def followed(works: Mapping[str, tuple[Column, Work]], queue: Queue, stop: threading.Event) -> Iterator[None]:
    """Hand in the work of every column, and yield whenever there is something new to show.

    Args:
        works: columns and what they wait for, by backend.
        queue: takes the work.
        stop: set by whoever wants no more; set here, too, where nobody listens any longer.
    """
    jobs: list[tuple[Column, Any]] = []
    try:
        for backend, (column, work) in works.items():
            job = _handed_in(backend, column, work, queue, stop)
            if job is not None:
                jobs.append((column, job))
        yield
        yield from _watched(jobs, [column for column, _ in works.values()], stop)
    finally:
        stop.set()
        for column, job in jobs:
            if not column.ended:
                job.cancel()


def done(column: Column, work: Callable[[], Answer]) -> None:
    """Do short work at once, in this thread."""
    try:
        column.answer, column.state = work(), "done"
    except SimatError as error:
        column.error, column.state = error, "failed"
    except Exception as error:
        LOG.error("unexpected error of %s on the page", column.backend, exc_info=error)
        column.error, column.state = unexpected(), "failed"


def unexpected() -> SimatError:
    """What a visitor is told where the cause is for the log alone."""
    return SimatError("something went wrong on the server", remedy="the log of the server has the cause")


def _handed_in(backend: str, column: Column, work: Work, queue: Queue, stop: threading.Event) -> Any:
    def observed(on_step: OnStep, cancel: Cancel) -> Answer:
        column.state = "running"

        def told(step: Step) -> None:
            column.step = step
            on_step(step)

        try:
            answer = work(told, lambda: stop.is_set() or cancel())
        except Cancelled:
            column.state = "cancelled"
            raise
        except SimatError as error:
            column.error, column.state = error, "failed"
            raise
        except Exception:
            column.error, column.state = unexpected(), "failed"
            raise
        column.answer, column.state = answer, "done"
        return answer

    try:
        return queue.submit(observed, backend)
    except SimatError as error:
        column.error, column.state = error, "failed"
        return None


def _watched(jobs: Sequence[tuple[Column, Any]], columns: Sequence[Column], stop: threading.Event) -> Iterator[None]:
    before: Any = None
    while True:
        for column, job in jobs:
            if column.state == "waiting" and stop.is_set():
                job.cancel()
            if column.state == "waiting" and job.state == "cancelled":
                column.state = "cancelled"
        now = [(column.state, column.step and (column.step.stage, column.step.step)) for column in columns]
        if now != before:
            before = now
            yield
        if all(column.ended for column in columns):
            return
        time.sleep(OFTEN)
