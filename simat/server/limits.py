"""Limits of requests, kept while they stream: bytes of one body, bytes of all bodies at once, seconds."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simat.errors import Busy, SimatError, TooLarge
from simat.files import human
from simat.server.problems import problem, status_of


class TooSlow(SimatError):
    """A body that did not come in time."""

    status = 408


@dataclass(frozen=True)
class Limits:
    """What one request may take.

    Attributes:
        body: bytes of a body.
        held: bytes of the bodies of all requests that are under way.
        drained: bytes that are read and thrown away after that, so that a client which is still sending hears why.
        idle: seconds between two parts of a body.
        whole: seconds for a whole body.
    """

    body: int
    held: int = 512 * 2**20
    drained: int = 64 * 2**20
    idle: float = 20.0
    whole: float = 300.0


class LimitedBodies:
    """ASGI middleware that answers 413, 408 or 429 itself, whatever the application made of it."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits, self._held = app, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with its body under guard."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(self, self._limits, receive, send)
        try:
            body.check_declared(_declared(scope))
            await self._app(scope, body.receive, body.send)
        except Exception:
            if body.refusal is None or body.started:
                raise
        finally:
            self._held -= body.size
        if body.refusal is not None and not body.started:
            await body.drain()
            response = problem(Request(scope), status_of(body.refusal), body.refusal)
            response.headers["Connection"] = "close"
            await response(scope, receive, send)

    def hold(self, size: int) -> None:
        """Count bytes that came.

        Raises:
            Busy: too many are held.
        """
        self._held += size
        if self._held > self._limits.held:
            raise Busy("the server is receiving too much at once", remedy="try again", retry_after=5.0)


class _Body:
    """The channels of one request."""

    def __init__(self, whole: LimitedBodies, limits: Limits, receive: Receive, send: Send) -> None:
        self._whole, self._limits, self._receive, self._send = whole, limits, receive, send
        self._until = time.monotonic() + limits.whole
        self._more, self.size, self.started = True, 0, False
        self.refusal: SimatError | None = None

    def check_declared(self, length: int | None) -> None:
        """Raise where the request itself says that it is too large."""
        if length is not None and length > self._limits.body:
            raise self._refuse(self._too_large())

    async def receive(self) -> Message:
        """The next message, counted and timed while the body lasts."""
        if self.refusal is not None:
            raise self.refusal
        if not self._more:
            return await self._receive()
        message = await self._in_time()
        self._more = message["type"] == "http.request" and message.get("more_body", False)
        size = len(message.get("body", b""))
        self.size += size
        try:
            self._whole.hold(size)
        except Busy as busy:
            raise self._refuse(busy) from None
        if self.size > self._limits.body:
            raise self._refuse(self._too_large())
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the application answers, unless the request is refused."""
        if self.refusal is not None and not self.started:
            return
        self.started = True
        await self._send(message)

    async def drain(self) -> None:
        """Read on for a while and forget it: who is still sending does not listen."""
        drained = 0
        try:
            while self._more and drained < self._limits.drained and not isinstance(self.refusal, TooSlow):
                message = await self._in_time()
                self._more = message["type"] == "http.request" and message.get("more_body", False)
                drained += len(message.get("body", b""))
        except TooSlow:
            return

    async def _in_time(self) -> Message:
        seconds = min(self._limits.idle, self._until - time.monotonic())
        try:
            async with asyncio.timeout(seconds):
                return await self._receive()
        except TimeoutError:
            raise self._refuse(TooSlow("the body did not come in time", remedy="try again")) from None

    def _refuse(self, refusal: SimatError) -> SimatError:
        self.refusal = self.refusal or refusal
        return refusal

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the request is larger than {human(self._limits.body)}", remedy="send a smaller picture")


def _declared(scope: dict[str, Any] | Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None
