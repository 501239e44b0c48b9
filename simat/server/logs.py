"""Logs of the server: a line per request with its id, as text or as JSON, and never what was searched for.

Neither query words nor pictures are written unless asked for: of an address the path alone, of an unexpected error its
kind and place without its message.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
import traceback
import uuid
from contextvars import ContextVar
from datetime import UTC, datetime
from io import TextIOBase
from itertools import count
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simat.errors import SimatError
from simat.server.problems import MEDIA_TYPE, problem_document

LOG = logging.getLogger("simat.requests")
FIELDS = ("method", "path", "query", "status", "ms", "received", "sent", "client")
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered."""

_RUN, _NUMBERS = uuid.uuid4().hex[:12], count()  # to ask the system for randomness with every request costs time
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


class JsonLines(logging.Formatter):
    """One JSON object per record: ``time``, ``level``, ``logger``, ``message``, ``request``, and the record's fields.

    Args:
        words: write the messages of unexpected errors too, which may hold what a client asked.
    """

    def __init__(self, words: bool = False) -> None:
        super().__init__()
        self._words = words

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        return json.dumps(self.document(record), ensure_ascii=False, default=str)

    def document(self, record: logging.LogRecord) -> dict[str, Any]:
        """A record as a dictionary."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request": getattr(record, "request", None) or request_id.get(),
            **{name: getattr(record, name) for name in FIELDS if hasattr(record, name)},
        }
        if record.exc_info and record.exc_info[1] is not None:
            told["error"] = _told(record.exc_info[1], self._words)
        return {name: value for name, value in told.items() if value is not None}


class TextLines(JsonLines):
    """The same in one line for people, and the place of an error below it."""

    def format(self, record: logging.LogRecord) -> str:
        """A record as a line."""
        told = self.document(record)
        fields = " ".join(str(told[name]) for name in FIELDS if name in told)
        line = f"{told['time'][11:19]} {told['level']:<7} {told['message']} {fields}".rstrip()
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)
        return f"{line}\n{told['error'].rstrip()}" if "error" in told else line


def configure(as_json: bool, words: bool = False, stream: TextIOBase | None = None) -> logging.Handler:
    """Send all logs of this process to one stream, the standard error unless another is given.

    Args:
        as_json: a JSON object per line, else text.
        words: let logs hold what clients ask.
        stream: where to.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(words) if as_json else TextLines(words))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("simat").setLevel(logging.INFO)
    for name in ("simat", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.error").setLevel(logging.INFO)
    logging.getLogger("uvicorn.access").disabled = True  # it writes whole addresses
    return handler


class Requests:
    """ASGI middleware: gives every request an id, logs its end, and answers what nobody else caught.

    Args:
        app: what answers.
        words: log the query of addresses.
    """

    def __init__(self, app: ASGIApp, words: bool = False) -> None:
        self._app, self._words = app, words

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        name = given if _ID.fullmatch(given) else f"{_RUN}-{next(_NUMBERS):06x}"
        scope.setdefault("state", {})["request_id"] = name
        token = request_id.set(name)
        told = _Told(scope, name, self._words, receive, send)
        try:
            await self._app(scope, told.receive, told.send)
        except Exception as error:
            LOG.error("an unexpected error", exc_info=error)
            if told.status:  # half an answer cannot be mended: let the connection break
                raise
            await _answer_unexpected(scope, told)
        finally:
            told.log()
            request_id.reset(token)


class _Told:
    """What is known of one request."""

    def __init__(self, scope: Scope, name: str, words: bool, receive: Receive, send: Send) -> None:
        self._scope, self._name, self._words = scope, name, words
        self._receive, self._send = receive, send
        self._begun, self._received, self._sent, self.status = time.perf_counter(), 0, 0, 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["X-Request-ID"] = self._name
        self._sent += len(message.get("body", b""))
        await self._send(message)

    def log(self) -> None:
        path = self._scope["path"]
        client = self._scope.get("client")
        fields: dict[str, Any] = {
            "method": self._scope["method"],
            "path": path[:500],
            "status": self.status,
            "ms": round((time.perf_counter() - self._begun) * 1000, 1),
            "received": self._received,
            "sent": self._sent,
            "client": client[0] if client else None,
        }
        if self._words:
            fields["query"] = self._scope.get("query_string", b"").decode("latin-1")[:2000]
        LOG.log(logging.DEBUG if path in _QUIET else logging.INFO, "request", extra=fields)


async def _answer_unexpected(scope: Scope, told: _Told) -> None:
    error = SimatError("an unexpected error", remedy="the log of the server has the cause")
    document = problem_document(500, error, scope["state"]["request_id"])
    await JSONResponse(document, 500, media_type=MEDIA_TYPE)(scope, told.receive, told.send)


def _told(error: BaseException, words: bool) -> str:
    """The kind of an error and where it came from; its message may quote a query."""
    if words:
        return "".join(traceback.format_exception(error))
    frames = traceback.format_tb(error.__traceback__)
    return f"{''.join(frames)}{type(error).__module__}.{type(error).__qualname__}"
