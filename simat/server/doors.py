"""The doors of a server with a token: the bearer for programs, a form and a cookie for the page."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import html
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from simat.errors import Denied
from simat.server.problems import problem

COOKIE = "simat"
LOGIN, LOGOUT = "/login", "/logout"
PAUSE_S = 0.5  # after a wrong token
LONGEST = 8192  # bytes of a form with a token
_REMEMBERED_S = 30 * 24 * 3600
_FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>simat</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:22rem;margin:18vh auto;padding:0 1rem}
input,button{font:inherit;width:100%;box-sizing:border-box;padding:.6rem;margin:.3rem 0}[role=alert]{color:#c22}</style>
<h1>simat</h1>ALERT<form method="post" action="LOGIN"><label>Token
<input type="password" name="token" autocomplete="current-password" required autofocus></label>
<button>Enter</button></form></html>"""


class Doors:
    """Lets in who knows the token.

    Args:
        token: the secret.
    """

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        # The cookie is derived from the token: it tells nobody what the token is, and holds over a restart.
        self._cookie = hmac.new(self._token, b"simat: the cookie of the page", hashlib.sha256).hexdigest()

    async def answer(self, request: Request) -> Response | None:
        """None for who may enter, else what they are told; the form's own pages are answered here."""
        path = request.scope["path"]
        if path == LOGIN and request.method == "POST":
            return await self._enter(request)
        if path == LOGOUT and request.method == "POST":
            response: Response = RedirectResponse("/", 303)
            response.delete_cookie(COOKIE)
            return response
        if self.knows(request):
            return RedirectResponse("/", 303) if path == LOGIN else None
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            return _form(_local(str(request.url)), 401)
        return self._denied(request)

    def knows(self, request: Request) -> bool:
        """Whether a request brings the token, or the cookie that stands for it; in constant time."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(given.strip().encode(), self._token)
        return hmac.compare_digest(request.cookies.get(COOKIE, "").encode(), self._cookie.encode())

    async def _enter(self, request: Request) -> Response:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LONGEST:
                return self._denied(request)
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0].strip()
        onward = _local(request.query_params.get("next", "/"))
        if not hmac.compare_digest(given.encode(), self._token):
            await asyncio.sleep(PAUSE_S)
            return _form(onward, 401, "That is not the token.")
        response = RedirectResponse(onward, 303)
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, self._cookie, _REMEMBERED_S, httponly=True, samesite="lax", secure=secure)
        return response

    def _denied(self, request: Request) -> Response:
        given = "authorization" in request.headers
        error = Denied(
            "a wrong token" if given else "this server needs a token", remedy="send Authorization: Bearer TOKEN"
        )
        response = problem(request, 401, error)
        response.headers["WWW-Authenticate"] = "Bearer"
        return response


def _form(onward: str, status: int, alert: str = "") -> Response:
    told = f'<p role="alert">{html.escape(alert)}</p>' if alert else ""
    address = html.escape(f"{LOGIN}?next={quote(onward, safe='')}")
    return HTMLResponse(_FORM.replace("ALERT", told).replace("LOGIN", address), status, {"Cache-Control": "no-store"})


def _local(address: str) -> str:
    """The path and query of an address, never another site."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "/"
    path = "/" + parts.path.lstrip("/\\")
    if path in {LOGIN, LOGOUT} or not address.isprintable() or "\\" in path:
        return "/"
    return f"{path}?{parts.query}" if parts.query else path
