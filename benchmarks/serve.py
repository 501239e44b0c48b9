"""Queries per second and latency of the server, beside bare encoding and FAISS, and beside ``clip-retrieval back``.

An index of random unit vectors is built for a ViT-B-32 with seeded random weights, in one exact shard, and served with
``simat serve``. Clients that each wait for their answer before they ask again send words, edits of an image by its id
(both with words that were never seen before), edits with known words, and vectors. Bare is the same work without a
server: one batch for all clients through the encoder and through FAISS, on all cores, in the same process as the
measurements. With ``--clip-retrieval`` the same weights and the same shard are served by that program as well, from the
virtual environment given, and both get the same bodies on ``/knn-service``. Every round asks all of them in turn.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32

import simat
from benchmarks.clip_retrieval import NAME, back, write_folder, write_weights
from benchmarks.common import Facts, cores, median, parser, private_cache, run, temporary_folder
from benchmarks.loads import Load, LoadError, ask, free_port, load, server
from benchmarks.query import random_rows, write_index
from simat.encoders.runtime import PRECISIONS, RuntimeOptions
from simat.engine import Engine

K = 10
KNOWN = 100  # words of the edits that are known
VECTORS = 500
BODIES = 400  # texts written for every second of a load: more than are asked for
AGREEMENT = 0.9  # of the answers, between two servers that compute in different libraries
NOUNS = ("dog", "cat", "horse", "church", "bicycle", "lighthouse", "bowl", "piano", "train", "garden")
KINDS = ("text", "edit", "edit_known", "vector")


@dataclass
class Work:
    """What is asked: bodies that never repeat, and the same questions without a server.

    Attributes:
        engine: the index, open in this process.
        bare: its shard, as FAISS alone reads it.
        pool: random directions.
        numbers: make every text a new one.
        rng: chooses images and vectors.
    """

    engine: Engine
    bare: Any
    pool: Float32[np.ndarray, "n d"]
    numbers: Iterator[int] = field(default_factory=count)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def text(self) -> str:
        """Words that were never asked for before."""
        number = next(self.numbers)
        return f"a photo of a {NOUNS[number % len(NOUNS)]} with number {number}"

    def known(self) -> str:
        """One of ``KNOWN`` words."""
        return f"a {NOUNS[int(self.rng.integers(len(NOUNS)))]} of kind {int(self.rng.integers(KNOWN // len(NOUNS)))}"

    def vectors(self, number: int) -> Float32[np.ndarray, "n d"]:
        """Some of ``VECTORS`` random directions."""
        return self.pool[self.rng.integers(len(self.pool), size=number)]

    def vector(self) -> list[float]:
        """One of them, rounded: it is sent as text."""
        return [round(float(x), 5) for x in self.vectors(1)[0]]

    def questions(self, kind: str, number: int) -> list[dict[str, Any]]:
        """Bodies for our own routes."""
        makers: dict[str, Callable[[], dict[str, Any]]] = {
            "text": lambda: {"text": self.text(), "k": K},
            "edit": lambda: {"id": self.id(), "edits": f"{self.text()} -> {self.text()}", "k": K},
            "edit_known": lambda: {"id": self.id(), "edits": f"{self.known()} -> {self.known()}", "k": K},
            "vector": lambda: {"vector": self.vector(), "k": K},
        }
        return [makers[kind]() for _ in range(min(number, VECTORS) if kind == "vector" else number)]

    def knn_questions(self, kind: str, number: int) -> list[dict[str, Any]]:
        """Bodies of the clip-retrieval protocol."""
        shared = {"modality": "image", "num_images": K, "indice_name": None, "deduplicate": False}
        if kind == "text":
            return [{**shared, "text": self.text()} for _ in range(number)]
        return [{**shared, "embedding_input": self.vector()} for _ in range(min(number, VECTORS))]

    def id(self) -> int:
        """An image."""
        return int(self.rng.integers(len(self.engine)))

    def alone(self, kind: str, clients: int) -> Callable[[], int]:
        """One batch without a server; gives how many questions it answered."""
        encode: Callable[[list[str]], np.ndarray] = self.engine.encoder.encode_texts  # type: ignore[attr-defined]

        def queries() -> Float32[np.ndarray, "n d"]:
            if kind == "vector":
                return self.vectors(clients)
            if kind == "text":
                return encode([self.text() for _ in range(clients)])
            words = [self.text() if kind == "edit" else self.known() for _ in range(2 * clients)]
            moved = encode(words) if kind == "edit" else self.engine.encode_texts(words)  # known ones are remembered
            images = self.engine.embeddings.vectors(np.array([self.id() for _ in range(clients)]))
            return np.ascontiguousarray(images + moved[clients:] - moved[:clients])

        def batch() -> int:
            self.bare.search(queries(), K if kind in {"text", "vector"} else K + 1)
            return clients

        return batch


def measure(options: argparse.Namespace) -> Facts:
    """Make weights and index, start the servers, and put every load on each of them."""
    with temporary_folder() as folder, private_cache(folder / "cache"), ExitStack() as servers:
        work = prepare(folder, options.rows, options.precision)
        ours = servers.enter_context(serving(folder / "index", folder / "simat.log", options.precision))
        theirs = None
        if options.clip_retrieval is not None:
            write_folder(work.engine, folder / "theirs")
            encoder = work.engine.space.encoder
            theirs = servers.enter_context(back(options.clip_retrieval.absolute(), folder / "theirs", encoder))
            require_agreement(work, ours, theirs)
        bench = Bench(work, folder, options.seconds, options.rounds)
        facts: Facts = {
            "precision": options.precision,
            "rows": options.rows,
            "dim": work.engine.space.dim,
            "seconds": options.seconds,
        }
        facts |= {kind: {f"at_{n}": bench.served(kind, n, ours) for n in options.clients} for kind in options.kinds}
        if theirs is not None:
            kinds = [kind for kind in ("text", "vector") if kind in options.kinds]
            knn = {kind: {f"at_{n}": bench.compared(kind, n, ours, theirs) for n in options.clients} for kind in kinds}
            facts["clip_retrieval"] = knn
        return facts


def prepare(folder: Path, rows: int, precision: str) -> Work:
    """An index of random vectors in the space of seeded random weights, and its shard read by FAISS alone."""
    spec = write_weights(folder / "weights.pt")
    encoder = simat.load_encoder(spec, RuntimeOptions(precision))  # type: ignore[arg-type]
    (folder / "index").mkdir()
    write_index(folder / "index", rows, encoder.space)
    engine = simat.open(folder / "index", encoder)
    faiss.omp_set_num_threads(cores())
    shard = str(folder / "index" / engine.manifest.shards[0].name)
    bare = faiss.read_index(shard, faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    work = Work(engine, bare, random_rows(rows, VECTORS, encoder.space.dim))
    work.alone("edit", 4)()  # the first batch compiles
    return work


@contextmanager
def serving(index: Path, log: Path, precision: str) -> Iterator[str]:
    """Run ``simat serve``; gives its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = str(Path(sys.executable).with_name("simat"))
    command = [program, "serve", str(index), "--port", str(port), "--no-page", "--precision", precision]
    with server(command, f"{url}/readyz", log):
        yield url


@dataclass
class Bench:
    """Puts loads on.

    Attributes:
        work: what is asked.
        folder: for the load tool's files.
        seconds: of one load.
        rounds: how often each is put on; the median counts.
    """

    work: Work
    folder: Path
    seconds: float
    rounds: int

    def served(self, kind: str, clients: int, url: str) -> Facts:
        """Our server beside the same work without it."""
        path = "/v1/search" if kind in {"text", "vector"} else "/v1/edit"
        loads, bare = [], []
        for _ in range(self.rounds):
            loads.append(self._load(url + path, self.work.questions(kind, self._bodies()), clients))
            bare.append(per_second(self.work.alone(kind, clients), self.seconds))
        alone = median(bare)
        facts: Facts = {**figures(loads), "bare_per_second": alone}
        return told(f"{kind} at {clients}", {**facts, "over_bare": facts["per_second"] / alone})

    def compared(self, kind: str, clients: int, ours: str, theirs: str) -> Facts:
        """Our server beside theirs, with the same bodies."""
        loads: dict[str, list[Load]] = {ours: [], theirs: []}
        for _ in range(self.rounds):
            bodies = self.work.knn_questions(kind, self._bodies())
            for url in (ours, theirs):
                loads[url].append(self._load(f"{url}/knn-service", bodies, clients))
        us, them = figures(loads[ours]), figures(loads[theirs])
        facts: Facts = {"ours": us, "theirs": them, "times": us["per_second"] / them["per_second"]}
        return told(f"{kind} at {clients}, clip-retrieval", facts)

    def _bodies(self) -> int:
        return round(self.seconds * BODIES)

    def _load(self, url: str, bodies: Sequence[dict[str, Any]], clients: int) -> Load:
        return load(url, bodies, clients, self.seconds, self.folder)


def figures(loads: Sequence[Load]) -> Facts:
    """Medians over the rounds."""
    return {name: median([getattr(one, name) for one in loads]) for name in ("per_second", "p50_ms", "p99_ms")}


def told(what: str, facts: Facts) -> Facts:
    """Say on the error stream what is known so far: all of it takes half an hour."""
    print(f"{what}: {facts}", file=sys.stderr, flush=True)
    return facts


def per_second(batch: Callable[[], int], seconds: float) -> float:
    """Questions that are answered in a second, batch after batch."""
    batch()
    started, answered = time.perf_counter(), 0
    while (spent := time.perf_counter() - started) < seconds:
        answered += batch()
    return answered / spent


def require_agreement(work: Work, ours: str, theirs: str) -> None:
    """Figures of servers that answer otherwise would say nothing."""
    same = asked = 0
    for body in [*work.knn_questions("text", 5), *work.knn_questions("vector", 5)]:
        found: list[set[int]] = []
        for url, name in ((ours, None), (theirs, NAME)):
            answer: Any = ask(f"{url}/knn-service", {**body, "indice_name": name})
            found.append({image["id"] for image in answer})
        same, asked = same + len(found[0] & found[1]), asked + K
    if same < AGREEMENT * asked:
        raise LoadError("the two servers disagree", got=f"{same} of {asked} answers are the same")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=100_000, help="vectors (100000)")
    arguments.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64], help="at once (1 8 64)")
    arguments.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of questions (all)")
    arguments.add_argument("--seconds", type=float, default=20.0, help="of every load (20)")
    arguments.add_argument("--rounds", type=int, default=3, help="of every load (3)")
    arguments.add_argument("--precision", choices=PRECISIONS, default="f32", help="of our encoder (f32)")
    arguments.add_argument("--clip-retrieval", type=Path, metavar="VENV", help="virtual environment that has it")
    run(arguments, measure)


if __name__ == "__main__":
    main()
