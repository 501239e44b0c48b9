"""What the tests of the guards share: a guarded server in a thread, and raw conversations with it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from simat.server.connections import uvicorn_options


@contextmanager
def listening(app: Any, **options: Any) -> Iterator[int]:
    """Run an ASGI application on loopback with the connections of the real server; gives the port."""
    server = uvicorn.Server(uvicorn.Config(app, **uvicorn_options(host="127.0.0.1", port=0, lifespan="off", **options)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(10)


def talk(port: int, *parts: bytes, pause: float = 0.0, seconds: float = 60.0) -> bytes:
    """Send bytes as they are, with pauses between, and read all that comes until the server closes.

    Raises:
        TimeoutError: it neither takes, nor answers, nor closes.
    """
    return tell(port, parts, pause, seconds)


def tell(port: int, parts: Iterable[bytes], pause: float = 0.0, seconds: float = 60.0) -> bytes:
    """As :func:`talk`, with parts that are made as they are sent."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        with suppress(ConnectionError):  # closed before all was sent: read what came
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        with suppress(ConnectionError):
            while chunk := connection.recv(65536):
                answer += chunk
    return answer


def head(path: str = "/", method: str = "GET", **headers: object) -> bytes:
    """The head of a request that asks for the connection to be closed."""
    fields = {"Host": "localhost", "Connection": "close", **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()
