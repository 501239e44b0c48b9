"""``simat serve``: what it refuses, what it tells, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from building import colour_environment, colour_plugin, here, start

from simat.cli.serve import SHUTDOWN_S

TOKEN = "correct-horse-battery-staple"


@contextmanager
def serving(plugin: Path, *arguments: str | Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server in a process of its own, and its address."""
    words = ("serve", *([] if "--page" in arguments else ["--no-page"]), "--port", "0", *arguments)
    with start(*words, extra={**colour_environment(colour_plugin(plugin)), "PYTHONUNBUFFERED": "1"}) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                found = re.match(r"(http://\S+?)/docs", line.decode())
                if found:
                    break
            else:
                assert process.stderr is not None
                pytest.fail(process.stderr.read().decode())
            yield process, found[1]
        finally:
            process.kill()


def get(address: str, token: str | None = None, body: Any = None) -> Any:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(address, body and json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


def until_ready(address: str) -> None:
    for _ in range(600):
        try:
            if get(f"{address}/readyz")["ready"]:
                return
        except urllib.error.URLError:
            time.sleep(0.05)
    pytest.fail("not ready")


def test_an_index_is_served_until_the_server_is_told_to_stop(colour_index: Path, tmp_path: Path) -> None:
    kept = tmp_path / "jobs"
    with serving(tmp_path / "plugin", colour_index, "--json-logs", "--jobs", kept) as (process, address):
        until_ready(address)
        answer = get(f"{address}/v1/search", body={"text": "blue", "k": 1})
        assert answer["results"][0]["path"] == "blue.png"
        assert get(f"{address}/v1/indices")["indices"][0]["name"] == "index"
        job = get(f"{address}/v1/jobs", body={"kind": "search", "text": "blue", "k": 1})
        while job["state"] in {"waiting", "running"}:
            job = get(f"{address}{job['url']}")
        assert job["answer"]["results"][0]["path"] == "blue.png"
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        assert process.stderr is not None
        logged = [json.loads(line) for line in process.stderr.read().decode().splitlines()]
    assert [folder.name for folder in kept.iterdir()] == [job["id"]]
    searched = next(line for line in logged if line.get("path") == "/v1/search")
    assert (searched["status"], searched["method"]) == (200, "POST")
    assert "blue" not in json.dumps(logged)


def test_an_open_page_does_not_keep_a_server_that_is_told_to_stop(colour_index: Path, tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    with serving(tmp_path / "plugin", colour_index, "--page") as (process, address):
        until_ready(address)
        with urllib.request.urlopen(f"{address}/gradio_api/heartbeat/someone", timeout=30) as stream:
            assert b"ALIVE" in stream.readline()
            process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            process.wait(60)
            assert time.monotonic() - started < SHUTDOWN_S / 2


def test_a_token_keeps_others_out(colour_index: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    with serving(tmp_path / "plugin", colour_index, "--token-file", file) as (_, address):
        until_ready(address)
        for token in (None, "wrong" + TOKEN):
            with pytest.raises(urllib.error.HTTPError) as refused:
                get(f"{address}/v1/indices", token)
            assert refused.value.code == 401
        assert get(f"{address}/v1/indices", TOKEN)["indices"]


def test_a_server_without_an_index_draws_and_finds_nothing(tmp_path: Path) -> None:
    with serving(tmp_path / "plugin", "--backends", "zestguide") as (_, address):
        until_ready(address)
        told = get(f"{address}/v1/indices")
        assert told["indices"] == []
        assert [backend["name"] for backend in told["backends"]] == ["zestguide"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "localhost.example"])
def test_an_address_that_others_reach_needs_a_token(capsys: Any, colour_index: Path, host: str) -> None:
    ran = here(capsys, "serve", colour_index, "--host", host)
    assert ran.error == (
        f"an address that others reach needs a token; got {host}; give --token-file FILE, or bind to 127.0.0.1"
    )


def test_a_taken_port_is_told(capsys: Any, colour_index: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = here(capsys, "serve", colour_index, "--port", str(port))
    assert ran.error == (
        f"cannot listen: address already in use; got 127.0.0.1:{port}; take another --port, or 0 for a free one"
    )


def test_what_is_no_index_no_backend_or_no_token_is_told(capsys: Any, tmp_path: Path) -> None:
    assert "no index here" in here(capsys, "serve", tmp_path, "--port", "0", "--no-page").error
    ran = here(capsys, "serve", "--backends", "retrieve,magic", "--port", "0")
    assert ran.error.startswith("no such backend; got 'magic'; there are: classifier_guidance, copy")
    token = tmp_path / "token"
    token.write_text("short")
    token.chmod(0o600)
    assert "at least 16 printable characters" in here(capsys, "serve", "--token-file", token).error
    token.chmod(0o644)
    assert "the token can be read by others" in here(capsys, "serve", "--token-file", token).error
