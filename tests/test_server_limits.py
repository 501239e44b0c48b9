from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from talking import head, listening, talk, tell

from simat.server import connections
from simat.server.limits import LimitedBodies, Limits
from simat.server.problems import install

LIMITS = Limits(body=1000, held=2000, drained=100_000, idle=0.3, whole=1.0)
seen: list[int] = []


def application() -> Any:
    app = FastAPI()
    install(app)

    @app.post("/length")
    async def length(request: Request) -> PlainTextResponse:
        seen.append(0)
        async for chunk in request.stream():
            seen[-1] += len(chunk)
        return PlainTextResponse(str(seen[-1]))

    @app.post("/swallow")
    async def swallow(request: Request) -> PlainTextResponse:
        try:
            return PlainTextResponse(str(len(await request.body())))
        except Exception:
            return PlainTextResponse("all is well")

    @app.post("/fail")
    async def fail(request: Request) -> None:
        await request.body()
        raise RuntimeError("of its own")

    @app.get("/long")
    async def long() -> StreamingResponse:
        async def answer() -> Any:
            for _ in range(4):
                await asyncio.sleep(0.2)
                yield b"."

        return StreamingResponse(answer())

    app.mount("/early", early)
    return LimitedBodies(app, LIMITS)


async def early(scope: Any, receive: Any, send: Any) -> None:
    """Answers before it has read the body."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    size = len((await receive())["body"])
    await send({"type": "http.response.body", "body": str(size).encode()})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening(application()) as port:
        yield port


def problem_of(answer: bytes) -> dict[str, Any]:
    above, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in above, answer[:300]
    return dict(json.loads(body))


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_limits_let_a_body_through(port: int, size: int) -> None:
    answer = talk(port, head("/length", "POST", Content_Length=size), b"x" * size)
    assert answer.endswith(f"\r\n\r\n{size}".encode())


def test_limits_let_chunks_through(port: int) -> None:
    answer = talk(port, head("/length", "POST", Transfer_Encoding="chunked"), b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
    assert answer.endswith(b"\r\n\r\n5")


@pytest.mark.parametrize("path", ["/length", "/swallow", "/fail"])
def test_limits_refuse_a_declared_length(port: int, path: str) -> None:
    before = len(seen)
    answer = talk(port, head(path, "POST", Content_Length=1001), b"x" * 1001)
    assert problem_of(answer)["status"] == 413
    assert "larger than 1000 B" in problem_of(answer)["title"]
    assert len(seen) == before  # the application never ran


@pytest.mark.parametrize("path", ["/length", "/swallow", "/fail"])
def test_limits_refuse_a_body_that_grows(port: int, path: str) -> None:
    chunks = [b"190\r\n" + b"x" * 400 + b"\r\n"] * 3
    answer = talk(port, head(path, "POST", Transfer_Encoding="chunked"), *chunks, b"0\r\n\r\n", pause=0.02)
    assert problem_of(answer)["status"] == 413
    assert b"connection: close" in answer.lower()


def test_limits_tell_a_client_that_is_still_sending(port: int) -> None:
    answer = talk(port, head("/length", "POST", Content_Length=90_000), b"x" * 90_000)
    assert problem_of(answer)["status"] == 413


def test_limits_stop_listening_to_an_endless_body(port: int) -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        yield head("/length", "POST", Transfer_Encoding="chunked")
        for _ in range(2000):
            sent.append(100_000)
            yield b"186a0\r\n" + b"x" * 100_000 + b"\r\n"

    tell(port, endless())
    assert len(sent) < 1000


@pytest.mark.parametrize("declared", [{"Content_Length": 900}, {"Transfer_Encoding": "chunked"}])
def test_limits_end_a_body_that_stops_coming(port: int, declared: dict[str, object]) -> None:
    begun = time.monotonic()
    assert problem_of(talk(port, head("/length", "POST", **declared), b"5\r\nabcde\r\n"))["status"] == 408
    assert time.monotonic() - begun > 0.2


def test_limits_end_a_body_that_drips(port: int) -> None:
    drops = [b"x"] * 20
    assert problem_of(talk(port, head("/length", "POST", Content_Length=900), *drops, pause=0.1))["status"] == 408


def test_limits_bound_all_bodies_together(port: int) -> None:
    done = []

    def slow() -> None:
        done.append(talk(port, head("/length", "POST", Content_Length=900), b"x" * 800, b"x" * 100, pause=0.2))

    threads = [threading.Thread(target=slow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = sorted(answer[9:12] for answer in done)
    assert statuses[0] == b"200"
    assert statuses[-1] == b"429"
    assert any(b"retry-after: 5" in answer.lower() for answer in done)
    assert talk(port, head("/length", "POST", Content_Length=900), b"x" * 900).endswith(b"900")  # all is let go


def test_limits_do_not_touch_what_is_not_theirs(port: int) -> None:
    assert talk(port, head("/long")).count(b"\r\n.\r\n") == 4  # longer than a body may pause
    assert b" 500 " in talk(port, head("/fail", "POST", Content_Length=1), b"x")[:20]
    answer = talk(port, head("/early/", "POST", Content_Length=3), b"abc")
    assert b"begun" in answer
    assert b"\r\n3\r\n" in answer


def test_limits_break_an_answer_that_has_begun(port: int) -> None:
    answer = talk(
        port, head("/early/", "POST", Transfer_Encoding="chunked"), b"5dc\r\n" + b"x" * 1500, b"\r\n0\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200")
    assert not answer.endswith(b"0\r\n\r\n")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEADERS_S", 0.3)


@pytest.mark.parametrize("start", [b"", b"\r", b"GE", b"GET /long HTTP/1.1\r\nHost: localhost\r\nX-A: "])
def test_connections_end_a_head_that_is_slow(impatient: None, port: int, start: bytes) -> None:
    begun = time.monotonic()
    assert talk(port, start) == b""
    assert time.monotonic() - begun > 0.2


def test_connections_end_a_head_that_drips(impatient: None, port: int) -> None:
    assert talk(port, b"GET / HTTP/1.1\r\n", *[b"X-A: b\r\n"] * 20, pause=0.05) == b""


def test_connections_end_a_second_head_that_is_slow(impatient: None, port: int) -> None:
    first = head("/length", "POST", Content_Length=2).replace(b"close", b"keep-alive") + b"ab"
    answer = talk(port, first, b"\r\nGET /", pause=0.1)
    assert answer.count(b"HTTP/1.1 200") == 1


def test_connections_end_a_head_without_end(port: int) -> None:
    sent = []

    def endless() -> Iterator[bytes]:
        yield b"GET /long HTTP/1.1\r\nHost: localhost\r\n"
        for number in range(20_000):
            sent.append(number)
            yield b"X-%06d: %s\r\n" % (number, b"y" * 1000)

    assert tell(port, endless()) == b""
    assert len(sent) < 15_000  # what the system itself takes in included


def test_connections_take_a_head_and_body_in_pieces(port: int) -> None:
    request = head("/length", "POST", Content_Length=600) + b"x" * 600
    pieces = [request[first : first + 50] for first in range(0, len(request), 50)]
    assert talk(port, *pieces, pause=0.001).endswith(b"600")


def test_connections_take_one_request_after_another(impatient: None, port: int) -> None:
    one = head("/length", "POST", Content_Length=2).replace(b"close", b"keep-alive") + b"ab"
    answer = talk(port, one, one + one, head("/length", "POST", Content_Length=1) + b"z", pause=0.1)
    assert answer.count(b"HTTP/1.1 200 OK") == 4
    assert answer.endswith(b"1")
