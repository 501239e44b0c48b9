"""What happens in a job, one event after another, for any number of listeners that may come late or come back."""

from __future__ import annotations

import asyncio
import io
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from simat.types import Step

REMEMBERED = 512  # events; a job tells its state first and last, and its steps in between
PREVIEWS = 2  # pictures kept of the steps: who comes late sees where the job is
PREVIEW_EDGE = 384


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        number: from 1, without gaps.
        kind: ``state`` or ``step``.
        told: ``state``, and ``problem`` where it failed; or ``stage``, ``step`` and ``total``.
        preview: of a step, as the bytes of a JPEG.
    """

    number: int
    kind: str
    told: Mapping[str, Any] = field(default_factory=dict)
    preview: bytes | None = None


class Events:
    """The record of one job; safe to share between threads. Only the last ``REMEMBERED`` are kept."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._kept: deque[Event] = deque(maxlen=REMEMBERED)
        self._number, self._ended = 0, False
        self._listeners: set[Callable[[], None]] = set()

    def add(self, kind: str, told: Mapping[str, Any], preview: bytes | None = None, last: bool = False) -> None:
        """Record an event; after the last one, nothing more."""
        with self._changed:
            if self._ended:
                return
            self._number, self._ended = self._number + 1, last
            self._kept.append(Event(self._number, kind, told, preview))
            self._forget_previews()
            self._changed.notify_all()
            for wake in [*self._listeners]:
                wake()

    def add_step(self, step: Step) -> None:
        """Record a step of the work."""
        told = {"stage": step.stage, "step": step.step, "total": step.total}
        self.add("step", told, None if step.preview is None else jpeg(step.preview))

    @property
    def step(self) -> Mapping[str, Any] | None:
        """The last step, None before the first."""
        with self._changed:
            return next((event.told for event in reversed(self._kept) if event.kind == "step"), None)

    def since(self, after: int) -> tuple[list[Event], bool]:
        """The events with higher numbers than ``after``, and whether there will be no more."""
        with self._changed:
            return [event for event in self._kept if event.number > after], self._ended

    def follow(self, after: int = 0) -> Iterator[Event]:
        """Events as they come, to the last; blocks between them."""
        ended = False
        while not ended:
            with self._changed:
                while self._number <= after and not self._ended:
                    self._changed.wait()
                events, ended = self.since(after)
            for event in events:
                after = event.number
                yield event

    async def stream(self, after: int = 0) -> AsyncIterator[Event]:
        """The same for a coroutine."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(news.set)

        with self._changed:
            self._listeners.add(wake)
        try:
            ended = False
            while not ended:
                news.clear()
                events, ended = self.since(after)
                for event in events:
                    after = event.number
                    yield event
                if not ended and not events:
                    await news.wait()
        finally:
            with self._changed:
                self._listeners.discard(wake)

    def _forget_previews(self) -> None:
        shown = [place for place, event in enumerate(self._kept) if event.preview is not None]
        for place in shown[:-PREVIEWS]:
            self._kept[place] = replace(self._kept[place], preview=None)


def jpeg(picture: Image.Image) -> bytes:
    """A small picture as the bytes of a JPEG, its longest edge at most ``PREVIEW_EDGE``."""
    small = picture.convert("RGB")
    small.thumbnail((PREVIEW_EDGE, PREVIEW_EDGE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
