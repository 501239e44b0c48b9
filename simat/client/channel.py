"""The wire: requests to one server, its problems as the errors that they were there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from simat import errors
from simat.errors import Busy, Denied, FetchError, NotFound, QueryError, SimatError, StorageError, TooLarge

if TYPE_CHECKING:
    import httpx

CONNECTING_S = 10.0
PREFIX = "urn:simat:"  # of the types of problems
BY_STATUS = {401: Denied, 403: Denied, 404: NotFound, 413: TooLarge, 429: Busy, 503: StorageError}


class Channel:
    """Requests to one server; safe to share between threads.

    Args:
        url: ``http://`` or ``https://``, a host, a port, and a path where the server has one.
        token: what the server wants to know.
        timeout: seconds that one answer may take.

    Raises:
        QueryError: not such an address.
        FetchError: httpx is not installed.
    """

    def __init__(self, url: str, token: str | None, timeout: float) -> None:
        try:
            import httpx
        except ImportError as error:
            raise FetchError("httpx is not installed", remedy="pip install 'simat[serve]'") from error
        if not url.startswith(("http://", "https://")):
            raise QueryError("not the address of a server", got=repr(url), remedy="write http://HOST:PORT")
        self.url = url.rstrip("/")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        limits = httpx.Timeout(timeout, connect=CONNECTING_S)
        try:
            self._http = httpx.Client(base_url=self.url, headers=headers, timeout=limits)
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise QueryError("not the address of a server", got=repr(url), remedy="write http://HOST:PORT") from error

    def get(self, path: str) -> Any:
        """The document at a path."""
        return self._document(self._send("GET", path))

    def get_bytes(self, path: str) -> bytes:
        """The file at a path."""
        return self._send("GET", path).content

    def post(self, path: str, document: Mapping[str, Any]) -> Any:
        """What the server answers to a document."""
        return self._document(self._send("POST", path, json=document))

    def delete(self, path: str) -> None:
        """Ask for something to be removed."""
        self._send("DELETE", path)

    def lines(self, path: str, **headers: str) -> Iterator[str]:
        """The lines of an answer, as they come."""
        with self._told(), self._http.stream("GET", path, headers=headers) as response:
            if response.is_error:
                response.read()
                raise error_of(response)
            yield from response.iter_lines()

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def _send(self, method: str, path: str, **body: Any) -> httpx.Response:
        with self._told():
            response = self._http.request(method, path, **body)
        if not response.is_success:
            raise error_of(response)
        return response

    def _document(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise FetchError("the server's answer is no JSON", got=str(response.url)) from error

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Failures of the network as errors."""
        import httpx

        try:
            yield
        except httpx.TimeoutException as error:
            raise FetchError(
                "the server took too long", got=self.url, remedy="connect with a longer timeout"
            ) from error
        except httpx.HTTPError as error:
            raise FetchError(f"no answer: {error}", got=self.url, remedy="is 'simat serve' running there?") from error


def error_of(response: httpx.Response) -> SimatError:
    """The error that an answer tells: of the class that it had on the server, or of its status."""
    problem = _problem(response)
    what = str(problem.get("title") or f"the server answered with status {response.status_code}")
    got = problem.get("got") if problem else response.url
    kind = _kind(str(problem.get("type", "")), response.status_code)
    error = kind(what, got=got, remedy=problem.get("remedy"))
    if isinstance(error, Busy):
        wait = response.headers.get("retry-after", "")
        error.retry_after = float(wait) if wait.isdigit() else error.retry_after
    return error


def error_from(problem: Mapping[str, Any]) -> SimatError:
    """The error of a problem that came as a part of an answer."""
    kind = _kind(str(problem.get("type", "")), int(problem.get("status") or 500))
    return kind(str(problem.get("title")), got=problem.get("got"), remedy=problem.get("remedy"))


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        document = json.loads(response.content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _kind(type_: str, status: int) -> type[SimatError]:
    kind = getattr(errors, type_.removeprefix(PREFIX), None) if type_.startswith(PREFIX) else None
    if isinstance(kind, type) and issubclass(kind, SimatError):
        return kind
    return BY_STATUS.get(status, QueryError if 400 <= status < 500 else SimatError)
