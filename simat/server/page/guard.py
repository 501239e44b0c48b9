"""Of what Gradio serves, the page needs little; all else is closed: uploads, files, proxies, recordings, its API."""

from __future__ import annotations

import re
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = {
    "GET": re.compile(
        r"/|/config|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(?:assets|static)/.+"
        r"|/gradio_api/(?:queue/data|heartbeat/\w+|startup-events|theme\.css|info)"
    ),
    "POST": re.compile(r"/gradio_api/(?:queue/join|cancel|reset)/?"),
}
OPEN["HEAD"] = OPEN["GET"]
FILE = "gradio.FileData"  # what makes Gradio read a file or fetch an address; no part of the page holds any


class Narrow:
    """Lets through to Gradio what the page needs, and bodies of at most ``limit`` bytes that name no file.

    Args:
        app: Gradio's application.
        limit: the greatest body, in bytes.
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or raise the status that the application around it tells: 404, 413, or 400."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
        allowed = OPEN.get(method)
        if allowed is None or not allowed.fullmatch(path or "/") or ".." in path:
            raise HTTPException(404)
        if method != "POST":
            await self._app(scope, receive, send)
            return
        body = await _read(receive, self._limit)
        if body is None:
            raise HTTPException(413)
        try:
            document = orjson.loads(body) if body else None
        except orjson.JSONDecodeError as error:
            raise HTTPException(400) from error
        if names_file(document):
            raise HTTPException(400)
        # As it was read here: of two equal keys another reader might take the other one.
        await self._app(scope, _replayed(orjson.dumps(document), receive), send)


def names_file(document: Any) -> bool:
    """Whether a file of Gradio's stands anywhere in a document."""
    left = [document]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if part.get("_type") == FILE:
                return True
            left.extend(part.values())
        elif isinstance(part, list):
            left.extend(part)
    return False


async def _read(receive: Receive, limit: int) -> bytes | None:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Receive) -> Receive:
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
