"""Shards of 10,000 to 10,000,000 clustered vectors: time, peak memory, recall and query time per step.

Each step runs in a process of its own, which builds within a memory bound, tunes, and answers queries one at a time.
The exponents are those of the power laws fitted to the steps: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.clustered import Clustered
from benchmarks.common import Facts, cores, median, parser, percentile, run, temporary_folder
from benchmarks.searching import peak_mib
from indexing.config import BuildConfig
from indexing.shards import ShardBuilder
from simat.embeddings import EmbeddingSet, ImageRow, write_part
from simat.manifest import EmbeddingManifest, FileEntry, IndexManifest, write_manifest
from simat.searcher import Searcher, open_shards
from simat.types import EmbeddingSpace
from simat.vectorstore import VectorStore

PART = BuildConfig("").part_size  # as a build writes them: candidates are read again from many parts
QUERIES, WARM_UP, K = 200, 20, 10
MIB = 2**20


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, nargs="+", default=[10**4, 10**5, 10**6, 10**7])
    arguments.add_argument("--dim", type=int, default=128)
    arguments.add_argument("--factory", default="auto")
    arguments.add_argument("--memory", type=float, default=0.05, help="GiB for searching, per million vectors")
    arguments.add_argument("--build-memory", type=float, default=3.5, help="GiB")
    arguments.add_argument("--recall", type=float, default=0.95)
    arguments.add_argument("--shard-size", type=int, default=1_000_000)
    arguments.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    run(arguments, measure)


def measure(options: argparse.Namespace) -> Facts:
    """All steps, or inside a process of its own the one over the set that is there."""
    if options.one:
        return step(options.one, options)
    steps = {str(rows): in_process(rows, options) for rows in options.rows}
    return {"dim": options.dim, "steps": steps, "exponents": exponents(steps)}


def in_process(rows: int, options: argparse.Namespace) -> Facts:
    """One step, begun with the vectors on disk."""
    with temporary_folder() as folder:
        write_set(folder / "embeddings", rows, options.dim)
        flags = ("--factory", "--memory", "--build-memory", "--recall", "--shard-size")
        given = [word for flag in flags for word in (flag, str(getattr(options, flag.strip("-").replace("-", "_"))))]
        command = [sys.executable, "-m", "benchmarks.scaling", "--one", str(folder), "--json", *given]
        facts: Facts = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return {name: value for name, value in facts.items() if name != "machine"}


def write_set(folder: Path, rows: int, dim: int) -> None:
    """An embedding set of clustered vectors."""
    folder.mkdir()
    clouds, entries, space = Clustered(dim), [], EmbeddingSpace("clustered", "0" * 64, dim)
    blocks = list(range(0, rows, PART))
    for number, first in enumerate(blocks):
        count = min(PART, rows - first)
        images = [ImageRow(f"{id:09}.jpg", f"{id:064x}", 640, 480) for id in range(first, first + count)]
        name = f"part-{number:06}.parquet"
        write_part(folder / name, first, images, clouds.block(number, count))
        entries.append(FileEntry.of(folder, name, count))
    write_manifest(folder, EmbeddingManifest(space, "/nowhere", tuple(entries), rows))


class Clock:
    """A Progress that notes when stages begin."""

    def __init__(self) -> None:
        self.began: list[tuple[str, float]] = []
        self.notes: list[str] = []

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """A stage begins."""
        self.began.append((stage, time.perf_counter()))

    def advance(self, count: int) -> None:
        """Steps do not matter here."""

    def note(self, message: str) -> None:
        """One line that a person should read."""
        self.notes.append(message)

    def seconds(self) -> dict[str, float]:
        """By stage, until now."""
        ends = [*(moment for _, moment in self.began[1:]), time.perf_counter()]
        return {stage: end - moment for (stage, moment), end in zip(self.began, ends, strict=True)}


def step(folder: Path, options: argparse.Namespace) -> Facts:
    """Build, tune, answer."""
    embeddings = EmbeddingSet(folder / "embeddings")
    rows, dim = len(embeddings), embeddings.manifest.space.dim
    config = BuildConfig(
        "/nowhere",
        factory=options.factory,
        shard_size=options.shard_size,
        memory=int(options.memory * 2**30 * rows / 1e6),
        build_memory=int(options.build_memory * 2**30),
        target_recall=options.recall,
    ).resolved(rows, dim)
    (folder / "shards").mkdir()
    clock, started = Clock(), time.perf_counter()
    builder = ShardBuilder(folder / "shards", embeddings, config, cores())
    built = builder.run(clock)
    seconds, stages = time.perf_counter() - started, clock.seconds()
    manifest = IndexManifest(
        embeddings.manifest.space, "embeddings", config.factory, built.entries, rows, built.search, built.recall
    )
    return {
        "factory": config.factory,
        "shards": len(built.entries),
        "search": dict(built.search),
        "recall@10": built.recall[f"recall@{K}"],
        "build_s": seconds,
        "stages_s": stages,
        "predicted_s": dict(builder.plan.seconds),
        "build_peak_mib": peak_mib(),
        "predicted_peak_mib": builder.plan.memory / MIB,
        "shards_mib": sum(entry.bytes for entry in built.entries) / MIB,
        **answered(folder, manifest, embeddings),
    }


def answered(folder: Path, manifest: IndexManifest, embeddings: EmbeddingSet) -> dict[str, Any]:
    """Queries one at a time, of the opened index."""
    searcher = Searcher(open_shards(folder, manifest), manifest.search, cores(), None, VectorStore.of(embeddings))
    milliseconds = []
    for query in Clustered(searcher.dim).queries(QUERIES + WARM_UP):
        started = time.perf_counter()
        searcher.search(query[None], K)
        milliseconds.append(1000 * (time.perf_counter() - started))
    return {"p50_ms": median(milliseconds[WARM_UP:]), "p99_ms": percentile(milliseconds[WARM_UP:], 0.99)}


def exponents(steps: dict[str, Facts]) -> Facts:
    """How build time, peak memory and query time grow with the number of vectors."""
    if len(steps) < 2:
        return {}
    rows = np.log([float(rows) for rows in steps])
    return {
        name: float(np.polyfit(rows, np.log([facts[name] for facts in steps.values()]), 1)[0])
        for name in ("build_s", "build_peak_mib", "p50_ms")
    }


if __name__ == "__main__":
    main()
