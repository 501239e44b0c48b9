"""What a server bears: thousands of damaged uploads, and minutes of several clients at once; its memory all the while.

A server with an index (one of rendered scenes, unless another is given) is started in a process of its own. First the
damaged uploads: each must be answered, none with an unexpected error. Then the clients, each asking again as soon as it
is answered: words, pictures, edits, images, thumbnails, vectors, the clip-retrieval protocol, and jobs. Memory is what
the server and its decoders hold together (resident), after a tenth of the requests against the end.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil

from benchmarks.common import Facts, median, parser, percentile, run, temporary_folder
from benchmarks.fuzz import uploads
from benchmarks.loads import free_port, server

FUZZERS = 4
TIMEOUT_S = 60.0
SAMPLE_S = 1.0
WORDS = ("dog", "cat", "horse", "bird", "elephant", "umbrella", "balloon", "skateboard", "beach", "forest", "snow")


class Memory:
    """Samples of what a process and its children hold."""

    def __init__(self, process: psutil.Process) -> None:
        self._process, self.samples = process, [self._now(process)]

    async def watch(self) -> None:
        """Take samples until cancelled."""
        while True:
            await asyncio.sleep(SAMPLE_S)
            self.samples.append(self._now(self._process))

    def facts(self) -> Facts:
        """Medians after a tenth of the time and over the last tenth, and their ratio."""
        tenth = max(1, len(self.samples) // 10)
        early, late = median(self.samples[tenth : 2 * tenth + 1]), median(self.samples[-tenth:])
        return {"early_mib": early / 2**20, "late_mib": late / 2**20, "growth": late / early - 1}

    @staticmethod
    def _now(process: psutil.Process) -> int:
        total = 0
        for one in (process, *process.children(recursive=True)):
            try:
                total += one.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total


class Client:
    """Asks one thing after another, always the same ones for a seed.

    Attributes:
        seconds: from every question to its answer.
        outcomes: how often which status came for what.
    """

    def __init__(self, http: httpx.AsyncClient, seed: int, images: int, picture: bytes) -> None:
        self._http, self._rng, self._images, self._picture = http, np.random.default_rng(seed), images, picture
        self.seconds: list[float] = []
        self.outcomes: Counter[str] = Counter()

    async def ask_until(self, end: float) -> None:
        """Ask until a time."""
        asks = (self._words, self._upload, self._edit, self._image, self._encode, self._foreign, self._job, self._bad)
        shares = np.array([30, 10, 25, 15, 8, 8, 1, 3]) / 100
        while time.monotonic() < end:
            ask = asks[self._rng.choice(len(asks), p=shares)]
            started = time.monotonic()
            try:
                status = await ask()
            except httpx.HTTPError as error:
                status = type(error).__name__
            self.seconds.append(time.monotonic() - started)
            self.outcomes[f"{ask.__name__.strip('_')} {status}"] += 1

    def _two(self) -> tuple[str, str]:
        first, second = self._rng.choice(WORDS, 2, replace=False)
        return str(first), str(second)

    def _id(self) -> int:
        return int(self._rng.integers(self._images))

    async def _words(self) -> object:
        document = {"text": f"a {self._two()[0]} and a {self._two()[1]}", "k": 10}
        return (await self._http.post("/v1/search", json=document)).status_code

    async def _upload(self) -> object:
        return (await self._http.post("/v1/search", files={"image": self._picture}, data={"k": "5"})).status_code

    async def _edit(self) -> object:
        document = {"id": self._id(), "edits": " -> ".join(self._two())}
        return (await self._http.post("/v1/edit", json=document)).status_code

    async def _image(self) -> object:
        of = "" if self._rng.random() < 0.3 else "/thumbnail"
        return (await self._http.get(f"/v1/images/{self._id()}{of}")).status_code

    async def _encode(self) -> object:
        return (await self._http.post("/v1/encode", json={"texts": [*self._two()]})).status_code

    async def _foreign(self) -> object:
        document = {"text": self._two()[0], "modality": "image", "num_images": 20, "deduplicate": True}
        return (await self._http.post("/knn-service", json=document)).status_code

    async def _bad(self) -> object:
        document = {"text": "dog", "k": 10**9, "index": "nowhere"}
        return 200 if (await self._http.post("/v1/search", json=document)).status_code in {404, 422} else "accepted"

    async def _job(self) -> object:
        question = {"kind": "edit", "id": self._id(), "edits": " -> ".join(self._two())}
        handed = await self._http.post("/v1/jobs", json=question)
        if handed.status_code == 429:
            return 200  # as it should
        job = handed.json()
        async with self._http.stream("GET", job["events"]) as events:
            told = [line async for line in events.aiter_lines() if line.startswith("data: ")]
        state = (await self._http.get(job["url"])).json()["state"]
        return 200 if told and state == "done" else state


def main() -> None:
    """Measure, print."""
    arguments = parser(__doc__)
    arguments.add_argument("index", nargs="?", type=Path, help="an index; rendered scenes, if not given")
    arguments.add_argument("--uploads", type=int, default=10_000, help="damaged uploads")
    arguments.add_argument("--minutes", type=float, default=30.0, help="of the soak")
    arguments.add_argument("--clients", type=int, default=8)
    arguments.add_argument("--scenes", type=int, default=2000, help="to render, where no index is given")
    arguments.add_argument("--seed", type=int, default=0)
    run(arguments, measure)


def measure(options: argparse.Namespace) -> Facts:
    """Both parts."""
    with temporary_folder() as folder:
        index = options.index or rendered(folder, options.scenes)
        port = free_port()
        address, log = f"http://127.0.0.1:{port}", folder / "log"
        command = [sys.executable, "-m", "simat.cli.main", "serve", str(index), "--port", str(port), "--json-logs"]
        with server(command, f"{address}/readyz", log):
            (process,) = psutil.Process().children()
            facts: Facts = {}
            if options.uploads:
                facts["uploads"] = asyncio.run(fuzzed(address, process, options.uploads, options.seed))
            if options.minutes:
                facts["soak"] = asyncio.run(soaked(address, process, options))
            facts["alive"] = process.is_running()
        facts["unexpected_errors_in_log"] = log.read_text().count('"level": "error"')
    return facts


def rendered(folder: Path, count: int) -> Path:
    """An index of rendered scenes."""
    scenes, index = folder / "scenes", folder / "index"
    making = (
        ["data", "scenes", str(scenes), "--images", str(count), "--size", "128"],
        ["index", "build", str(scenes / "visual_genome"), str(index), "--encoder", "scenes"],
    )
    for arguments in making:
        subprocess.run([sys.executable, "-m", "simat.cli.main", *arguments], check=True, capture_output=True)
    return index


async def fuzzed(address: str, process: psutil.Process, count: int, seed: int) -> Facts:
    """Send damaged uploads; tell how they were answered."""
    make, statuses, numbers = uploads(seed), Counter[str](), iter(range(count))
    worst: list[str] = []

    async def send(http: httpx.AsyncClient) -> None:
        for number in numbers:
            upload = make(number)
            try:
                answer = await http.post(upload.path, content=upload.body, headers={"Content-Type": upload.kind})
                outcome = str(answer.status_code)
            except httpx.HTTPError as error:
                outcome = type(error).__name__
            statuses[outcome] += 1
            if not outcome.isdigit() or int(outcome) >= 500:
                worst.append(f"{number}: {upload.path} {outcome}")

    async with watched(address, process) as (http, memory):
        await asyncio.gather(*(send(http) for _ in range(FUZZERS)))
    return {
        "sent": count,
        "answers": dict(sorted(statuses.items())),
        "failed": len(worst),
        "first_failures": worst[:5],
        "memory": memory.facts(),
    }


async def soaked(address: str, process: psutil.Process, options: argparse.Namespace) -> Facts:
    """Let clients ask for minutes; tell how they were answered."""
    async with watched(address, process) as (http, memory):
        images = (await http.get("/v1/indices")).json()["indices"][0]["images"]
        picture = (await http.get("/v1/images/0")).content
        clients = [Client(http, options.seed + number, images, picture) for number in range(options.clients)]
        end = time.monotonic() + 60 * options.minutes
        await asyncio.gather(*(client.ask_until(end) for client in clients))
    outcomes = sum((client.outcomes for client in clients), Counter[str]())
    seconds = [second for client in clients for second in client.seconds]
    return {
        "requests": len(seconds),
        "per_second": len(seconds) / (60 * options.minutes),
        "p50_ms": 1000 * percentile(seconds, 0.5),
        "p99_ms": 1000 * percentile(seconds, 0.99),
        "failed": sum(count for name, count in outcomes.items() if not name.endswith(" 200")),
        "outcomes": dict(sorted(outcomes.items())),
        "memory": memory.facts(),
    }


@asynccontextmanager
async def watched(address: str, process: psutil.Process) -> AsyncIterator[tuple[httpx.AsyncClient, Memory]]:
    """A client of the server, and samples of its memory."""
    memory = Memory(process)
    limits = httpx.Limits(max_connections=256)
    async with httpx.AsyncClient(base_url=address, timeout=TIMEOUT_S, limits=limits) as http:
        watching = asyncio.create_task(memory.watch())
        try:
            yield http, memory
        finally:
            watching.cancel()


if __name__ == "__main__":
    main()
