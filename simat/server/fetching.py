"""Fetching a picture from elsewhere for a client, without becoming the client's way into our own network.

Only https, only hosts that the operator named, only addresses that everybody can reach. The address that was checked
is the one that is connected to: the name is not resolved a second time.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from urllib.parse import quote, urljoin, urlsplit

from simat.errors import Denied, FetchError, TooLarge

HTTPS = 443
REDIRECTS = 3
CHUNK = 1 << 16
_MOVED = frozenset({301, 302, 303, 307, 308})
_PATH = "/%:@!$&'()*+,;=~-._"
_TRANSLATED = tuple(ipaddress.ip_network(n) for n in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32"))
_ALLOW = "the server's operator names the hosts with --allow-fetch HOST"

Resolve = Callable[[str, int], Sequence[str]]


@dataclass(frozen=True)
class Place:
    """Where one request goes: host and port as the allow-list has them, and the path with its query."""

    host: str
    port: int
    path: str

    @property
    def name(self) -> str:
        """``host``, or ``host:port`` where the port is not that of https."""
        return self.host if self.port == HTTPS else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Fetcher:
    """Fetches from allowed hosts; :func:`fetch` is one with the defaults.

    Attributes:
        allowed: ``host`` or ``host:port``, compared exactly.
        limit: bytes of a body at most.
        seconds: for everything: names, connections, redirects, the body.
        resolve: from a name and a port to addresses.
        public: whether an address may be connected to.
        context: how the server's certificate is checked.
    """

    allowed: Collection[str]
    limit: int
    seconds: float
    resolve: Resolve = field(default_factory=lambda: addresses)
    public: Callable[[str], bool] = field(default_factory=lambda: is_public)
    context: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def fetch(self, url: str) -> bytes:
        """The body that a URL answers with, after at most ``REDIRECTS`` redirects.

        Raises:
            Denied: not https, not an allowed host, or an address that is not public; of a redirect as well.
            TooLarge: more than ``limit`` bytes.
            FetchError: no answer in time, or another status than 200.
        """
        until = time.monotonic() + self.seconds
        for _ in range(REDIRECTS + 1):
            body, url = self._once(url, until)
            if body is not None:
                return body
        raise FetchError(f"more than {REDIRECTS} redirects", got=urlsplit(url).hostname)

    def _once(self, url: str, until: float) -> tuple[bytes | None, str]:
        place = parse(url)
        if place.name not in {name.lower() for name in self.allowed}:
            raise Denied("this server does not fetch from there", got=place.name, remedy=_ALLOW)
        address = self._address(place, until)
        connection = _Pinned(place, address, self.context, _left(until))
        watchdog = threading.Timer(_left(until), connection.abort)  # a server may drip bytes for ever
        watchdog.daemon = True
        watchdog.start()
        try:
            answer = self._exchange(connection, place, url)
            if connection.aborted:  # an answer cut short may look whole
                raise TimeoutError
            return answer
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            late = connection.aborted or isinstance(error, TimeoutError)
            reason = f"no whole answer within {self.seconds:g} s" if late else "the connection failed"
            raise FetchError(reason, got=place.name) from error
        finally:
            watchdog.cancel()
            connection.close()

    def _exchange(self, connection: _Pinned, place: Place, url: str) -> tuple[bytes | None, str]:
        headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "simat", "Connection": "close"}
        connection.request("GET", place.path, headers=headers)
        answer = connection.getresponse()
        if answer.status in _MOVED:
            return None, urljoin(url, answer.headers.get("Location", ""))
        if answer.status != http.client.OK:
            raise FetchError("the host did not answer with a file", got=f"status {answer.status} of {place.name}")
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            raise FetchError("the host compressed its answer unasked", got=place.name)
        return self._body(answer), url

    def _body(self, answer: http.client.HTTPResponse) -> bytes:
        body = bytearray()
        while len(body) <= self.limit and (answer.length or 0) <= self.limit - len(body):
            chunk = answer.read1(CHUNK)
            if not chunk:
                if answer.length:
                    raise http.client.IncompleteRead(bytes(body), answer.length)
                return bytes(body)
            body += chunk
        raise TooLarge(f"the file is larger than {self.limit:,} bytes", remedy="give a smaller one")

    def _address(self, place: Place, until: float) -> str:
        found = _within(lambda: self.resolve(place.host, place.port), _left(until))
        if not found:
            raise FetchError("the host has no address", got=place.host)
        if not all(self.public(address) for address in found):  # one private among public ones is no accident
            raise Denied("the host has an address that is not public", got=place.host)
        return found[0]


def fetch(url: str, allowed: Collection[str], limit: int, seconds: float) -> bytes:
    """The body of an https URL of an allowed host; see :meth:`Fetcher.fetch`."""
    return Fetcher(allowed, limit, seconds).fetch(url)


def parse(url: str) -> Place:
    """Where a URL leads.

    Raises:
        Denied: not https, with a user name, or not a URL.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or HTTPS
        host = (parts.hostname or "").rstrip(".").encode("idna").decode("ascii").lower()
    except (ValueError, UnicodeError) as error:
        raise Denied("not a URL") from error
    if not host or not url.isprintable() or " " in url or "\\" in url:
        raise Denied("not a URL")
    if parts.scheme != "https":
        raise Denied("only https is fetched", got=parts.scheme or "no scheme")
    if "@" in parts.netloc:
        raise Denied("a URL with a user name is not fetched")
    query = f"?{quote(parts.query, safe=_PATH + '?')}" if parts.query else ""
    return Place(host, port, (quote(parts.path, safe=_PATH) or "/") + query)


def is_public(address: str) -> bool:
    """Whether an IP address is one that everybody can reach: not private, loopback, link-local, multicast or mapped."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if ip.is_site_local or any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def addresses(host: str, port: int) -> list[str]:
    """The addresses of a name, IPv4 first.

    Raises:
        FetchError: the name is not known.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise FetchError("the name of the host is not known", got=host) from error
    return [str(entry[4][0]) for entry in sorted(found, key=lambda entry: entry[0] != socket.AF_INET)]


class _Pinned(http.client.HTTPSConnection):
    """Connects to one address, and checks the certificate of the name."""

    def __init__(self, place: Place, address: str, context: ssl.SSLContext, seconds: float) -> None:
        super().__init__(place.host, place.port, timeout=seconds, context=context)
        self._address, self._tls = address, context
        self._open: ssl.SSLSocket | None = None
        self.aborted = False

    def connect(self) -> None:
        """Open the connection to the address that was checked."""
        raw = socket.create_connection((self._address, self.port), self.timeout)
        # The handshake comes after the assignment, so that the watchdog can end it.
        self._open = self.sock = self._tls.wrap_socket(raw, server_hostname=self.host, do_handshake_on_connect=False)
        self._open.do_handshake()

    def abort(self) -> None:
        """End the connection from another thread: whoever waits on it gets an error."""
        self.aborted = True
        if self._open is not None:
            with contextlib.suppress(OSError):  # ended already
                socket.socket.shutdown(self._open, socket.SHUT_RDWR)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise FetchError("the host took too long")
    return left


def _within(work: Callable[[], Sequence[str]], seconds: float) -> Sequence[str]:
    # The system resolves names for as long as it likes: leave it behind in a thread of its own.
    future: Future[Sequence[str]] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        raise FetchError("the name of the host was not resolved in time") from None
