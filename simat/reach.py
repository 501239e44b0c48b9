"""Whether anybody listens at an address: asked before a library that would wait for minutes."""

from __future__ import annotations

import contextlib
import socket

SECONDS = 4.0


def listens(host: str, port: int, seconds: float = SECONDS) -> str | None:
    """None where a connection to ``host:port`` is accepted within ``seconds``; else why not, in words."""
    try:
        with contextlib.closing(socket.create_connection((host.strip("[]"), port), timeout=seconds)):
            return None
    except TimeoutError:
        return f"no answer within {seconds:.0f} s"
    except UnicodeError:
        return "no host can have this name"
    except OSError as error:
        return error.strerror or str(error)
