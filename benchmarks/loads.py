"""Load on an HTTP server: n clients that each ask again as soon as they are answered, by the tool ``wrk``."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from simat.errors import SimatError

TIMEOUT = 60  # seconds that one answer may take
STARTING = 300  # seconds that a server may take to start
SCRIPT = """
local bodies, asked = {}, 0

function init(arguments)
  for line in io.lines(arguments[1]) do bodies[#bodies + 1] = line end
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  asked = asked + 1
  return wrk.format(nil, nil, nil, bodies[(asked - 1) % #bodies + 1])
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nfigures {"answers": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "failed": %d}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    e.status + e.connect + e.timeout + e.read + e.write))
end
"""


class LoadError(SimatError):
    """A load that cannot be put on, or a server that does not bear it."""


@dataclass(frozen=True)
class Load:
    """How a server bore a load.

    Attributes:
        answers: how many it gave.
        seconds: in how long.
        p50_ms, p99_ms: milliseconds from a question to its answer.
    """

    answers: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        """Answers per second."""
        return self.answers / self.seconds


def load(url: str, bodies: Iterable[object], clients: int, seconds: float, folder: Path) -> Load:
    """Post bodies, one after the other and again from the first, from several clients at once.

    Args:
        url: where to.
        bodies: what is sent, as JSON.
        clients: connections that wait for their answer before they ask again.
        seconds: for how long.
        folder: for the files that the tool reads.

    Raises:
        LoadError: the tool is not here, or the server failed to answer a request.
    """
    tool = shutil.which("wrk")
    if tool is None:
        raise LoadError("the load tool wrk is not installed", remedy="install your system's package 'wrk'")
    script, lines = folder / "load.lua", folder / "bodies.jsonl"
    script.write_text(SCRIPT)
    lines.write_text("".join(f"{json.dumps(body)}\n" for body in bodies))
    settings = ["-t1", f"-c{clients}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT}s", "-s", str(script)]
    ran = subprocess.run([tool, *settings, url, "--", str(lines)], capture_output=True, text=True, check=False)
    figures = [line for line in ran.stdout.splitlines() if line.startswith("figures ")]
    if ran.returncode or not figures:
        raise LoadError("the load tool failed", got=(ran.stderr or ran.stdout).strip()[-300:])
    told = json.loads(figures[0].removeprefix("figures "))
    if told.pop("failed") or not told["answers"]:
        raise LoadError(f"the server failed under {clients} clients", got=ran.stdout.strip()[-300:])
    return Load(**told)


@contextmanager
def server(command: Sequence[str], ready: str, log: Path, **environment: object) -> Iterator[None]:
    """Run a server until the block is left; enter it when a GET of ``ready`` answers 200.

    Raises:
        LoadError: it ended, or was not ready in time; with the last lines it wrote.
    """
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, **environment)  # type: ignore[call-overload]
    try:
        wait_for(ready, process, log)
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a URL answers."""
    until = time.monotonic() + STARTING
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise LoadError(f"{process.args!r} did not start", got=log.read_text()[-1000:])


def ask(url: str, body: object) -> object:
    """One question and its answer, as JSON."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        return json.load(answer)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
