"""One piece of long work, and what becomes of it."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from enum import StrEnum

from simat.errors import Cancelled, SimatError
from simat.server.events import Event, Events
from simat.server.keeping import Kept
from simat.types import Answer, Cancel, OnStep

LOG = logging.getLogger("simat.jobs")
Work = Callable[[OnStep, Cancel], Answer]


class State(StrEnum):
    """Where a job is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing comes after."""
        return self not in {State.WAITING, State.RUNNING}


class Job:
    """One piece of work and what became of it; made by :meth:`Jobs.submit`.

    Attributes:
        id: a name that nobody can guess.
        kind: what was asked.
        about: whatever who asked wants to know later, as words.
        created, finished: seconds since 1970; None before the end.
        state: where it is.
        answer: the result of one that is done.
        error: why it failed or was cancelled.
    """

    def __init__(self, work: Work | None, kind: str, about: Mapping[str, str | None], id: str | None = None) -> None:
        self.id, self.kind, self.about = id or secrets.token_urlsafe(18), kind, dict(about)
        self.created, self.finished = time.time(), None  # type: float, float | None
        self.state, self.answer, self.error = State.WAITING, None, None  # type: State, Answer | None, SimatError | None
        self._work, self._events, self._cancel = work, Events(), threading.Event()
        self._lock = threading.Lock()
        self._events.add("state", {"state": str(self.state)})

    @classmethod
    def of(cls, kept: Kept) -> Job:
        """A job of an earlier server."""
        job = cls(None, kept.kind, kept.about, kept.id)
        job._end(State.DONE, answer=kept.answer)
        job.created = job.finished = kept.finished
        return job

    @property
    def step(self) -> Mapping[str, object] | None:
        """``stage``, ``step`` and ``total`` of the last step."""
        return self._events.step

    def events(self, after: int = 0) -> Iterator[Event]:
        """What happens, from the event after the numbered one to the end; blocks."""
        return self._events.follow(after)

    def stream(self, after: int = 0) -> AsyncIterator[Event]:
        """The same for a coroutine."""
        return self._events.stream(after)

    def wait(self) -> Answer:
        """The answer, once it is there.

        Raises:
            SimatError: why there is none.
        """
        for _ in self.events():
            pass
        if self.answer is None:
            raise self.error or SimatError("the job has no answer")
        return self.answer

    def cancel(self, why: str = "cancelled") -> None:
        """Ask it to stop: at once where it waits, before its next step where it runs."""
        self._cancel.set()
        with self._lock:
            if self.state is State.WAITING:
                self._end(State.CANCELLED, error=Cancelled(why))

    def run(self) -> None:
        """Do the work, in the calling thread; whatever happens becomes the state."""
        with self._lock:
            if self.state is not State.WAITING or self._work is None:
                return
            self.state, work = State.RUNNING, self._work
        self._events.add("state", {"state": str(self.state)})
        try:
            answer = work(self._events.add_step, self._cancel.is_set)
        except Cancelled as error:
            self._end(State.CANCELLED, error=error)
        except SimatError as error:
            self._end(State.FAILED, error=error)
        except Exception as error:
            LOG.error("a job failed unexpectedly", exc_info=error, extra={"job": self.id})
            self._end(
                State.FAILED, error=SimatError("an unexpected error", remedy="the log of the server has the cause")
            )
        else:
            self._end(State.DONE, answer=answer)

    def _end(self, state: State, answer: Answer | None = None, error: SimatError | None = None) -> None:
        self._work = None  # and with it the pictures that it was asked of
        self.answer, self.error, self.finished, self.state = answer, error, time.time(), state
        told = {"state": str(state)} | ({} if error is None else {"error": str(error)})
        self._events.add("state", told, last=True)
