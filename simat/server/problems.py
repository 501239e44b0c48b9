"""Errors over HTTP: problem details (RFC 9457) with what went wrong, what was got, and the remedy."""

from __future__ import annotations

import logging
import re
from http import HTTPStatus
from math import ceil
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from simat.errors import (
    Busy,
    Cancelled,
    Denied,
    EncoderError,
    FetchError,
    ImageError,
    ModelError,
    NotFound,
    QueryError,
    SimatError,
    SpaceMismatchError,
    StorageError,
    TooLarge,
)

LOG = logging.getLogger("simat")
MEDIA_TYPE = "application/problem+json"
_FOLDER = re.compile(r"(?<![\w…])/\w")
MOST_GOT = 500  # characters of what was got: an error is no echo of a whole body


class BadBody(QueryError):
    """A body that is no JSON or no multipart form, or that lacks what its route needs."""


class Unsupported(QueryError):
    """A body of a media type that the route does not read."""


STATUS: dict[type[SimatError], int] = {
    BadBody: 400,
    Denied: 403,
    NotFound: 404,
    TooLarge: 413,
    Unsupported: 415,
    Busy: 429,
    QueryError: 422,
    ImageError: 422,
    FetchError: 422,
    SpaceMismatchError: 409,
    Cancelled: 409,
    StorageError: 503,
    EncoderError: 503,
    ModelError: 503,
}


def status_of(error: SimatError) -> int:
    """The status of an error: its own ``status`` where its class has one, else that of its nearest class in STATUS."""
    own = getattr(error, "status", None)
    if isinstance(own, int):
        return own
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 400)


def problem(request: Request, status: int, error: SimatError) -> Response:
    """One problem as a response, its body :func:`problem_document`; trouble of the server's own is logged whole."""
    if status >= 500:
        LOG.error("%s %s: %s", request.method, request.url.path, error)
    body = problem_document(status, error, getattr(request.state, "request_id", None))
    headers = {"Retry-After": str(ceil(getattr(error, "retry_after", 1)))} if status in {429, 503} else None
    return Response(orjson.dumps(body), status, headers, MEDIA_TYPE)


def problem_document(status: int, error: SimatError, request: str | None = None) -> dict[str, Any]:
    """One problem as a dictionary.

    It has ``type`` (a name for programs: the error's class), ``title`` (what), ``status``, ``detail`` (one
    line), ``got`` and ``remedy`` (null where there is none), and ``request``, the id of the request.
    """
    got, remedy = None if error.got is None else str(error.got)[:MOST_GOT], error.remedy
    if status >= 500:  # the server's own trouble: where its folders are is nobody's business
        got, remedy = None, None if remedy and _FOLDER.search(remedy) else remedy
    return {
        "type": f"urn:simat:{type(error).__name__}",
        "title": error.what,
        "status": status,
        "detail": str(SimatError(error.what, got=got, remedy=remedy)),
        "got": got,
        "remedy": remedy,
        "request": request,
    }


def invalid(errors: list[Any]) -> QueryError:
    """One error for what a schema refused: the first field, and why."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"]) or "the body"
    return QueryError(f"{where}: {first['msg'].lower()}", got=repr(first.get("input"))[:MOST_GOT])


def install(app: FastAPI) -> None:
    """Let every error of an app be told as a problem; what is unexpected is logged and told without its inside."""

    async def known(request: Request, error: Exception) -> Response:
        assert isinstance(error, SimatError)
        return problem(request, status_of(error), error)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError | ValidationError)
        return problem(request, 422, invalid([*error.errors()]))

    async def routed(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        told = SimatError(str(error.detail), got=f"{request.method} {request.url.path}")
        response = problem(request, error.status_code, told)
        response.headers.update(error.headers or {})
        return response

    async def unexpected(request: Request, error: Exception) -> Response:
        LOG.error("an unexpected error", exc_info=error)
        told = SimatError(HTTPStatus(500).phrase.lower(), remedy="the log of the server has the cause")
        return problem(request, 500, told)

    app.add_exception_handler(SimatError, known)
    app.add_exception_handler(RequestValidationError, refused)
    app.add_exception_handler(ValidationError, refused)
    app.add_exception_handler(HTTPException, routed)
    app.add_exception_handler(Exception, unexpected)
