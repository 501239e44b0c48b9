"""Connections that may not be held open for nothing: the protocol that uvicorn speaks with each client."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S = 10.0  # for the head of a request
HEADERS_BYTES = 1 << 16
UNREAD_S = 60  # for which a client may leave an answer unread


class PatientProtocol(HttpToolsProtocol):
    """HTTP/1.1 that ends a connection whose head of a request is slow or long, or whose answer is not taken.

    Uvicorn itself waits for ever for the head, and keeps whatever comes.
    """

    def connection_made(self, transport: Any) -> None:  # uvloop's are of a class of their own
        """Start the clock of the first request."""
        super().connection_made(transport)
        self._head_bytes = 0
        self._clock: asyncio.TimerHandle | None = None
        self._wait_for_head()
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in {socket.AF_INET, socket.AF_INET6} and hasattr(socket, "TCP_USER_TIMEOUT"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_S * 1000)

    def data_received(self, data: bytes) -> None:
        """Read on, unless a head grows too long."""
        if self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()
        if self._clock is not None:
            self._head_bytes += len(data)
        for first in range(0, len(data), HEADERS_BYTES):
            if self.transport.is_closing():
                return
            super().data_received(data[first : first + HEADERS_BYTES])
        if self._clock is not None and self._head_bytes > HEADERS_BYTES:
            self._end()

    def on_headers_complete(self) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock for good."""
        self._stop_clock()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        if self._clock is None:
            self._head_bytes = 0
            self._clock = self.loop.call_later(HEADERS_S, self._end)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _end(self) -> None:
        self._stop_clock()
        self.transport.abort()


def uvicorn_options(**more: Any) -> dict[str, Any]:
    """What a server that strangers reach is run with: ``uvicorn.Config(app, **uvicorn_options(host=…))``."""
    return {
        "http": PatientProtocol,
        "ws": "none",
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,
        "timeout_keep_alive": 30,
        "limit_concurrency": 1000,
        "backlog": 256,
        **more,
    }
