from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simat.errors import Denied, FetchError, TooLarge
from simat.server.fetching import Fetcher, fetch, is_public, parse

HOST = "pictures.test"
PRIVATE = (
    *("127.0.0.1", "127.8.9.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
    *("224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::", "::1", "fe80::1", "fc00::1"),
    *("ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1", "fec0::1"),
)


class Served:
    """A server of one answer after another over TLS on loopback; each is raw bytes or a function of the socket."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.answers: list[bytes | Callable[[ssl.SSLSocket], None]] = []
        self.requests: list[bytes] = []
        self._context, self._socket = context, socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                raw, _ = self._socket.accept()
                with suppress(OSError), self._context.wrap_socket(raw, server_side=True) as connection:
                    self.requests.append(connection.recv(65536))
                    answer = self.answers.pop(0)
                    if isinstance(answer, bytes):
                        connection.sendall(answer)
                    else:
                        answer(connection)


def answered(body: bytes, status: str = "200 OK", **headers: object) -> bytes:
    fields = {"Content-Length": len(body), **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of the host in one file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate, both = (folder / name for name in ("key.pem", "certificate.pem", "both.pem"))
    making = f"{openssl} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={HOST} -addext subjectAltName=DNS:{HOST}"
    subprocess.run([*making.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + certificate.read_bytes())
    return both


@pytest.fixture
def served(certificate: Path) -> Iterator[Served]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = Served(context)
    yield server
    server.close()


@pytest.fixture
def fetcher(served: Served, certificate: Path) -> Callable[..., Fetcher]:
    """``fetcher(**fields)``: one that takes the host's name for loopback, and loopback for public."""

    def make(**fields: Any) -> Fetcher:
        defaults: dict[str, Any] = {
            "allowed": {f"{HOST}:{served.port}"},
            "limit": 100_000,
            "seconds": 5.0,
            "resolve": lambda host, port: ["127.0.0.1"],
            "public": lambda address: True,
            "context": ssl.create_default_context(cafile=str(certificate)),
        }
        return Fetcher(**{**defaults, **fields})

    return make


def url(served: Served, path: str = "/dog.jpg") -> str:
    return f"https://{HOST}:{served.port}{path}"


def test_fetch_gives_the_body(served: Served, fetcher: Callable[..., Fetcher]) -> None:
    served.answers = [answered(b"x" * 70_000)]
    assert fetcher().fetch(url(served, "/a b.jpg?size=1".replace(" ", "%20"))) == b"x" * 70_000
    assert served.requests[0].startswith(b"GET /a%20b.jpg?size=1 HTTP/1.1\r\n")
    assert f"Host: {HOST}:{served.port}".encode() in served.requests[0]


def test_fetch_reads_an_answer_without_a_length_to_its_end(served: Served, fetcher: Callable[..., Fetcher]) -> None:
    served.answers = [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"]
    assert fetcher().fetch(url(served)) == b"abcde"


@pytest.mark.parametrize("size", [100_000, 100_001])
def test_fetch_takes_what_the_limit_allows_and_no_byte_more(
    served: Served, fetcher: Callable[..., Fetcher], size: int
) -> None:
    served.answers = [answered(b"x" * size)] * 2
    if size == 100_000:
        assert len(fetcher().fetch(url(served))) == size
        return
    with pytest.raises(TooLarge, match="larger than 100,000 bytes"):
        fetcher().fetch(url(served))


def test_fetch_stops_a_body_that_never_ends(served: Served, fetcher: Callable[..., Fetcher]) -> None:
    sent = []

    def endless(connection: ssl.SSLSocket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while len(sent) < 1000:
            sent.append(connection.send(b"x" * 10_000))

    served.answers = [endless]
    with pytest.raises(TooLarge):
        fetcher().fetch(url(served))
    assert len(sent) < 1000


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"])
def test_fetch_gives_up_on_an_answer_that_drips(served: Served, fetcher: Callable[..., Fetcher], start: bytes) -> None:
    def drip(connection: ssl.SSLSocket) -> None:
        connection.sendall(start)
        for _ in range(100):
            time.sleep(0.05)
            connection.sendall(b"H")

    served.answers = [drip]
    begun = time.monotonic()
    with pytest.raises(FetchError, match=r"within 0\.5 s"):
        fetcher(seconds=0.5).fetch(url(served))
    assert time.monotonic() - begun < 4  # the drops fall for five seconds


def test_fetch_gives_up_on_a_name_that_does_not_resolve_in_time(fetcher: Callable[..., Fetcher]) -> None:
    slow = fetcher(seconds=0.2, resolve=lambda host, port: time.sleep(3) or [], allowed={HOST})
    with pytest.raises(FetchError, match="not resolved in time"):
        slow.fetch(f"https://{HOST}/")


def test_fetch_says_that_a_name_is_unknown() -> None:
    with pytest.raises(FetchError, match=r"not known; got nowhere\.invalid"):
        fetch("https://nowhere.invalid/x.png", {"nowhere.invalid"}, 10, 5.0)


def test_fetch_follows_a_redirect_on_the_same_host(served: Served, fetcher: Callable[..., Fetcher]) -> None:
    served.answers = [answered(b"", "302 Found", Location="/cat.jpg"), answered(b"cat")]
    assert fetcher().fetch(url(served)) == b"cat"
    assert served.requests[1].startswith(b"GET /cat.jpg ")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("https://169.254.169.254/latest/meta-data", "does not fetch from there; got 169.254.169.254"),
        ("http://pictures.test/x", "only https is fetched; got http"),
        ("file:///etc/passwd", "not a URL"),
        ("https://other.test/", "got other.test"),
    ],
)
def test_fetch_checks_where_a_redirect_leads(
    served: Served, fetcher: Callable[..., Fetcher], target: str, reason: str
) -> None:
    served.answers = [answered(b"", "302 Found", Location=target)]
    with pytest.raises(Denied, match=reason):
        fetcher().fetch(url(served))
    assert len(served.requests) == 1


def test_fetch_checks_the_address_of_every_redirect(served: Served, fetcher: Callable[..., Fetcher]) -> None:
    served.answers = [answered(b"", "302 Found", Location="/again")]
    found = iter([["127.0.0.1"], ["127.0.0.1", "10.0.0.1"]])
    with pytest.raises(Denied, match="not public"):
        fetcher(resolve=lambda host, port: next(found), public=lambda a: a == "127.0.0.1").fetch(url(served))


def test_fetch_ends_a_circle_of_redirects(served: Served, fetcher: Callable[..., Fetcher]) -> None:
    served.answers = [answered(b"", "307 Temporary", Location="/dog.jpg")] * 9
    with pytest.raises(FetchError, match="more than 3 redirects"):
        fetcher().fetch(url(served))
    assert len(served.requests) == 4


def test_fetch_resolves_a_name_once(served: Served, fetcher: Callable[..., Fetcher]) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    served.answers = [answered(b"x")]
    fetcher(resolve=resolve).fetch(url(served))
    assert asked == [HOST]


@pytest.mark.parametrize("status", ["404 Not Found", "500 Oh", "204 No Content", "206 Partial Content"])
def test_fetch_takes_no_other_status(served: Served, fetcher: Callable[..., Fetcher], status: str) -> None:
    served.answers = [answered(b"secret", status)]
    with pytest.raises(FetchError, match=f"did not answer with a file; got status {status[:3]}"):
        fetcher().fetch(url(served))


@pytest.mark.parametrize(
    "answer",
    [b"", b"SSH-2.0-OpenSSH\r\n", answered(b"abc")[:-1], answered(b"abc", Content_Encoding="gzip")],
    ids=["nothing", "no HTTP", "broken off", "compressed"],
)
def test_fetch_takes_no_broken_answer(served: Served, fetcher: Callable[..., Fetcher], answer: bytes) -> None:
    served.answers = [answer]
    with pytest.raises(FetchError):
        fetcher().fetch(url(served))


def test_fetch_checks_the_certificate(served: Served, fetcher: Callable[..., Fetcher]) -> None:
    with pytest.raises(FetchError, match="connection failed"):
        fetcher(context=ssl.create_default_context()).fetch(url(served))
    with pytest.raises(FetchError, match="connection failed"):
        fetcher(allowed={f"other.test:{served.port}"}).fetch(f"https://other.test:{served.port}/")


@pytest.mark.parametrize("address", PRIVATE)
def test_fetch_connects_to_no_private_address(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(Denied, match="not public"):
        Fetcher({HOST}, 10, 5.0, resolve=lambda host, port: ["93.184.216.34", address]).fetch(f"https://{HOST}/")


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946"])
def test_is_public_knows_what_everybody_can_reach(address: str) -> None:
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_is_public_sees_through_mapped_addresses(address: Any) -> None:
    assert is_public(f"::ffff:{address}") == is_public(str(address))


@pytest.mark.parametrize(
    "bad",
    [
        *(
            "",
            "dog.jpg",
            "https://",
            "https:///x",
            "https://a b/",
            "https://h\t/",
            "https://h\n/",
            "https://[::1",
            "\0",
        ),
        *("https://h:99999/", "https://h:x/", "ftp://h/", "gopher://h/", "javascript:alert(1)", "data:image/png;,x"),
        *(f"https://{HOST}@evil.test/", "https://u:p@h/", "https://h\\@evil.test/", f"http://{HOST}/", "https://é..é/"),
    ],
)
def test_parse_refuses(bad: str) -> None:
    with pytest.raises(Denied):
        parse(bad)


@given(st.text(max_size=60))
def test_parse_gives_a_place_or_refuses(text: str) -> None:
    for candidate in (text, f"https://{text}", f"https://{HOST}/{text}"):
        with suppress(Denied):
            place = parse(candidate)
            assert place.path.isascii()
            assert place.path.startswith("/")
            assert not set(place.path) & set(" \r\n\0")


@pytest.mark.parametrize("name", ["PICTURES.test", "pictures.test.", "ｐictures.test"])
def test_parse_writes_a_host_in_one_way(name: str) -> None:
    assert parse(f"https://{name}/").name == HOST


@pytest.mark.parametrize("name", ["evil.test", f"{HOST}.evil.test", f"evil{HOST}", "127.0.0.1", "2130706433", "[::1]"])
def test_fetch_compares_hosts_exactly(name: str) -> None:
    with pytest.raises(Denied, match="does not fetch from there"):
        fetch(f"https://{name}/", {HOST}, 10, 1.0)


def test_fetch_allows_a_port_only_where_it_is_named() -> None:
    with pytest.raises(Denied, match=f"got {HOST}:8443; the server's operator"):
        fetch(f"https://{HOST}:8443/", {HOST}, 10, 1.0)
