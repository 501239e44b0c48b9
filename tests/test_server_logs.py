from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse
from starlette.testclient import TestClient

from simat.errors import QueryError
from simat.server import guard, logs, problems
from simat.server.security import Security

SECRET = "my-late-cat"


@contextmanager
def logging_to(as_json: bool = True, words: bool = False) -> Iterator[io.StringIO]:
    """Logs of the process in a text, and everything as it was afterwards."""
    root, kept = logging.getLogger(), [*logging.getLogger().handlers]
    level, access = root.level, logging.getLogger("uvicorn.access").disabled
    stream = io.StringIO()
    logs.configure(as_json, words, stream)
    yield stream
    root.handlers[:] = kept
    root.setLevel(level)
    logging.getLogger("uvicorn.access").disabled = access
    logging.getLogger("simat").setLevel(logging.NOTSET)


@pytest.fixture
def client() -> Callable[..., TestClient]:
    """``client(words=False)``: of an application that fails in every way."""

    def make(words: bool = False) -> TestClient:
        app = FastAPI()
        problems.install(app)

        @app.post("/v1/search")
        async def search(request: Request) -> dict[str, int]:
            return {"length": len(await request.body())}

        @app.get("/wrong")
        async def wrong() -> None:
            raise QueryError("no such word", got=SECRET)

        @app.get("/broken")
        async def broken() -> None:
            raise KeyError(SECRET)

        @app.get("/half")
        async def half() -> StreamingResponse:
            def answer() -> Iterator[bytes]:
                yield b"half"
                raise KeyError(SECRET)

            return StreamingResponse(answer())

        @app.get("/note")
        async def note() -> None:
            logging.getLogger("simat.engine").info("loaded %s", "an encoder")

        guard.install(app, Security(words=words), upload_bytes=1000)
        return TestClient(app, "http://localhost", raise_server_exceptions=False)

    return make


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_logs_tell_of_a_request_what_happened(client: Callable[..., TestClient]) -> None:
    with logging_to() as stream:
        client().post(f"/v1/search?text={SECRET}", content=b"x" * 50, headers={"X-Request-ID": "r-1"})
    (line,) = lines(stream)
    assert line["time"].endswith("+00:00")
    assert {name: line[name] for name in ("message", "method", "path", "status", "received", "sent", "request")} == {
        "message": "request",
        "method": "POST",
        "path": "/v1/search",
        "status": 200,
        "received": 50,
        "sent": 13,
        "request": "r-1",
    }
    assert line["ms"] > 0


@pytest.mark.parametrize("path", ["/wrong", "/broken", "/half", f"/nothing?text={SECRET}"])
def test_logs_hold_no_word_of_a_query(client: Callable[..., TestClient], path: str) -> None:
    with logging_to() as stream:
        client().get(path)
    assert SECRET not in stream.getvalue()
    assert lines(stream)


def test_logs_hold_the_words_where_they_are_asked_for(client: Callable[..., TestClient]) -> None:
    with logging_to(words=True) as stream:
        client(words=True).get(f"/broken?text={SECRET}")
    first, last = lines(stream)
    assert f"KeyError: '{SECRET}'" in first["error"]
    assert last["query"] == f"text={SECRET}"


def test_logs_tell_where_an_unexpected_error_came_from(client: Callable[..., TestClient]) -> None:
    with logging_to() as stream:
        answer = client().get("/broken", headers={"X-Request-ID": "r-2"})
    assert answer.status_code == 500
    assert answer.json()["request"] == "r-2"
    assert SECRET not in answer.text
    first, last = lines(stream)
    assert first["level"] == "error"
    assert first["error"].endswith("builtins.KeyError")
    assert "in broken" in first["error"]
    assert (first["request"], last["request"], last["status"]) == ("r-2", "r-2", 500)


def test_logs_of_the_engine_have_the_id_of_the_request(client: Callable[..., TestClient]) -> None:
    with logging_to() as stream:
        client().get("/note", headers={"X-Request-ID": "r-3"})
    first, _ = lines(stream)
    assert (first["message"], first["request"], first["logger"]) == ("loaded an encoder", "r-3", "simat.engine")
    assert logs.request_id.get() is None


def test_logs_in_text_are_one_line_whatever_is_asked(client: Callable[..., TestClient]) -> None:
    with logging_to(as_json=False) as stream:
        client().get("/a%0aERROR%20forged%1b[2J", headers={"Host": "localhost"})
    (line,) = stream.getvalue().splitlines()
    assert "400" in line
    assert "\\n" in line
    assert "\x1b" not in line


def test_logs_in_json_are_one_line_whatever_is_asked(client: Callable[..., TestClient]) -> None:
    with logging_to() as stream:
        client().get("/a%0a%22forged%22")
    (line,) = lines(stream)
    assert line["path"] == '/a\n"forged"'


def test_logs_leave_out_what_only_asks_for_health(client: Callable[..., TestClient]) -> None:
    with logging_to() as stream:
        client().get("/healthz")
    assert not stream.getvalue()


def test_configure_writes_what_the_server_logs_once(client: Callable[..., TestClient]) -> None:
    with logging_to() as stream:
        logging.getLogger("uvicorn.error").info("started")
        logging.getLogger("uvicorn.access").info("GET /?text=%s", SECRET)
        logging.getLogger("other").info("too much")
        logging.getLogger("other").warning("worth it")
    assert [line["message"] for line in lines(stream)] == ["started", "worth it"]
