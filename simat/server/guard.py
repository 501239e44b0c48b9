"""The guards around the application: ids and logs, then who may ask, then how much; and the headers of every answer."""

from __future__ import annotations

from urllib.parse import urlsplit

from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from simat.errors import Denied
from simat.server.doors import Doors
from simat.server.limits import LimitedBodies, Limits
from simat.server.logs import Requests
from simat.server.problems import problem
from simat.server.security import LOOPBACK, Security, name_of

FOREIGN = frozenset({"/knn-service", "/metadata", "/indices-list", "/config.json"})
"""Routes that pages of other origins use: those of clip-retrieval's front end."""
OPEN = frozenset({"/healthz", "/readyz"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_PAGE = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_DATA = "default-src 'none'; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # "no-referrer" would hide from us where our own forms come from
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def install(app: FastAPI, security: Security | None, upload_bytes: int) -> None:
    """Put the guards around an application: ids and logs, then who may ask, then how much.

    Args:
        app: the application; its routes are guarded whenever they are added.
        security: None where others look after that; limits, logs and headers stay.
        upload_bytes: the greatest picture of a request.
    """
    words = security is not None and security.words
    app.add_middleware(LimitedBodies, limits=Limits(2 * upload_bytes + 2**20))  # several pictures, or one in base64
    app.add_middleware(Guard, security=security)
    app.add_middleware(Requests, words=words)


class Guard:
    """ASGI middleware: names, origins, tokens, paths, and the headers of every answer."""

    def __init__(self, app: ASGIApp, security: Security | None) -> None:
        self._app, self._security = app, security
        self._doors = Doors(security.token) if security is not None and security.token is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "websocket":  # nothing here speaks it
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        headed = _Headed(request, send, self._shared(request))
        answer = await self._answer(request)
        await (answer or self._app)(scope, receive, headed.send)

    async def _answer(self, request: Request) -> Response | None:
        """The answer to a request that goes no further."""
        if _is_crooked(request.scope["path"]):
            return problem(request, 400, Denied("a path that leads elsewhere"))
        if self._security is None:
            return None
        refusal = self._refusal(request)
        if refusal is not None:
            return problem(request, 403, refusal)
        if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
            return Response(status_code=204)
        if self._doors is None or _plain(request) in OPEN:
            return None
        return await self._doors.answer(request)

    def _refusal(self, request: Request) -> Denied | None:
        assert self._security is not None
        host = request.headers.get("host", "").lower()
        if self._security.hosts is not None and name_of(host) not in self._security.hosts:
            return Denied("this server is not known by that name", got=host[:100], remedy="name it with --allow-host")
        origin = request.headers.get("origin")
        if origin is None or request.method in _SAFE or _host_of(origin) == host:
            return None
        if self._shared(request) is not None:
            return None
        return Denied("pages of other sites may not ask this", got=origin[:100])

    def _shared(self, request: Request) -> str | None:
        """The foreign origin that may read the answer."""
        origin = request.headers.get("origin")
        if self._security is None or origin is None or _plain(request) not in FOREIGN:
            return None
        allowed = self._security.origins
        near = urlsplit(origin).scheme in {"http", "https"} and name_of(_host_of(origin) or "") in LOOPBACK
        return origin if near or origin in allowed or "*" in allowed else None


class _Headed:
    """Adds the headers to an answer."""

    def __init__(self, request: Request, send: Send, shared: str | None) -> None:
        self._request, self._send, self._shared = request, send, shared

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._add(MutableHeaders(scope=message))
        await self._send(message)

    def _add(self, headers: MutableHeaders) -> None:
        path = _plain(self._request)
        headers.update(_HEADERS)
        kind = headers.get("content-type", "")
        headers["Content-Security-Policy"] = _PAGE if "html" in kind or "javascript" in kind else _DATA
        headers["Cross-Origin-Resource-Policy"] = "same-site"  # other ports of this machine, and no other site
        if path.startswith("/v1/") or path in FOREIGN:
            headers.setdefault("Cache-Control", "no-store")
        self._share(headers)

    def _share(self, headers: MutableHeaders) -> None:
        for name in ("Origin", "Methods", "Headers", "Credentials", "Private-Network"):
            del headers[f"Access-Control-Allow-{name}"]  # whoever set them did not know who asks
        if _plain(self._request) in FOREIGN:
            headers.add_vary_header("Origin")
        if self._shared is not None:
            headers["Access-Control-Allow-Origin"] = self._shared
            if self._request.method == "OPTIONS":
                headers["Access-Control-Allow-Methods"] = "GET, POST"
                headers["Access-Control-Allow-Headers"] = "Content-Type, Authorization"
                headers["Access-Control-Allow-Private-Network"] = "true"
                headers["Access-Control-Max-Age"] = "600"


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _plain(request: Request) -> str:
    path: str = request.scope["path"]
    return "/" + path.strip("/")


def _is_crooked(path: str) -> bool:
    return "\\" in path or not path.isprintable() or bool({".", ".."} & set(path.split("/")))
