"""Long work on a server: handed in, followed by its events, ended when nobody waits for it any more."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from simat.client.answers import answer_of, decoded
from simat.client.channel import Channel, error_from
from simat.errors import FetchError, SimatError
from simat.types import Answer, Cancel, OnStep, Step

ASKING_S = 0.1  # between two questions whether to cancel
RETRIES = 5  # connections that break one after another without an event between them
PAUSE_S = 1.0  # before the next connection
FINAL = frozenset({"done", "failed", "cancelled"})
JPEG = "data:image/jpeg;base64,"


@dataclass(frozen=True)
class Event:
    """One server-sent event.

    Attributes:
        kind: its name.
        id: by which to go on after it.
        told: its data.
    """

    kind: str
    id: str
    told: Mapping[str, Any]

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self.kind == "state" and self.told.get("state") in FINAL


class Job:
    """One job of a server; leaving the block ends it there, and lets the server forget it.

    Args:
        channel: to the server.
        fields: what is asked, and ``kind``.

    Raises:
        Busy: the server's queue is full; says when to try again.
    """

    def __init__(self, channel: Channel, fields: Mapping[str, Any]) -> None:
        self._channel = channel
        self._path = f"/v1/jobs/{channel.post('/v1/jobs', fields)['id']}"
        self._left = threading.Event()

    def __enter__(self) -> Job:
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        with contextlib.suppress(SimatError):  # gone already, or the server is
            self._channel.delete(self._path)

    def answer(self, on_step: OnStep | None = None, cancel: Cancel | None = None) -> Answer:
        """The answer, once it is there.

        Args:
            on_step: told after every step.
            cancel: asked every ``ASKING_S`` seconds.

        Raises:
            Cancelled: asked for by ``cancel``, or ended on the server.
            FetchError: the server cannot be reached any more.
        """
        for event in self._events(cancel):
            if event.kind == "step" and on_step is not None:
                on_step(step_of(event.told))
        document = self._channel.get(self._path)
        if document.get("answer") is None:
            raise error_from(document.get("problem") or {"title": "the job has no answer"})
        return answer_of(document["answer"])

    def _events(self, cancel: Cancel | None) -> Iterator[Event]:
        """What happens, to the end; a thread listens, so that we can ask whether to cancel."""
        heard: queue.Queue[Event | SimatError] = queue.Queue()
        threading.Thread(target=self._listen, args=(heard,), name="simat-events", daemon=True).start()
        asked = False
        while True:
            if not asked and cancel is not None and cancel():
                asked = True
                self._channel.delete(self._path)
            try:
                event = heard.get(timeout=ASKING_S)
            except queue.Empty:
                continue
            if isinstance(event, SimatError):
                raise event
            yield event
            if event.is_final:
                return

    def _listen(self, heard: queue.Queue[Event | SimatError]) -> None:
        after, failures = "", 0
        while not self._left.is_set():
            try:
                for event in read_events(self._channel.lines(f"{self._path}/events", **{"Last-Event-ID": after})):
                    after, failures = event.id or after, 0
                    heard.put(event)
                    if event.is_final or self._left.is_set():
                        return
                failures += 1  # ended by something between us and the server
            except FetchError as error:
                failures += 1
                if failures > RETRIES:
                    heard.put(error)
                    return
            except SimatError as error:
                heard.put(error)
                return
            time.sleep(PAUSE_S if failures > 1 else 0)


def read_events(lines: Iterable[str]) -> Iterator[Event]:
    """Server-sent events from the lines of their stream; one that the stream breaks off is left out.

    Raises:
        FetchError: the data of an event is no JSON object.
    """
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line and name:  # a line that begins with a colon is a comment
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value
        elif not line and fields:
            if "data" in fields:
                yield Event(fields.get("event", "message"), fields.get("id", ""), _told(fields["data"]))
            fields = {}


def step_of(told: Mapping[str, Any]) -> Step:
    """The step that an event tells."""
    preview = told.get("preview")
    picture = None if preview is None else decoded(str(preview).removeprefix(JPEG))
    return Step(str(told["stage"]), int(told["step"]), int(told["total"]), picture)


def _told(data: str) -> dict[str, Any]:
    try:
        told = json.loads(data)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise FetchError("the server's events are no JSON objects", got=data[:40])
    return told
