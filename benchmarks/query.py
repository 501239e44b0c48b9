"""What a query costs beyond the search itself: ``engine.edit`` against FAISS alone on the same file; start-up times.

An embedding set of random unit vectors is written, with metadata, in parts of the size that a build writes, and an
exact index built over it. Every round asks the engine to edit an image by its id, its words cached; then FAISS and
the engine's own searcher, the very vector that the engine searched for. FAISS scans for a single query with one
thread, the searcher with all: where the ratio to FAISS is below 1, that is why, and ``engine_over_searcher`` is what
composing, metadata and results cost.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import Float32
from PIL.Image import Image

import simat
from benchmarks.common import Facts, cores, median, parser, percentile, run, temporary_folder, timed
from indexing.config import BuildConfig
from indexing.shards import ShardBuilder
from simat.embeddings import EmbeddingSet, ImageRow, write_part
from simat.engine import Engine
from simat.errors import QueryError
from simat.files import sha256_text
from simat.manifest import EmbeddingManifest, FileEntry, IndexManifest, write_manifest
from simat.progress import Silent
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

K = 10
EDIT = ("dog", "cat")
SEED = 0
WARM_UP = 5  # queries that do not count
STARTS = 7


class RandomTexts:
    """An encoder of texts alone: a random unit vector for each, always the same one."""

    def __init__(self, dim: int) -> None:
        self.space = EmbeddingSpace("random", sha256_text("random"), dim)

    def encode_images(self, images: list[Image]) -> Float32[np.ndarray, "n d"]:
        """Refuse: the queries are ids."""
        raise QueryError("the random encoder takes no images", got=len(images))

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text."""
        return np.concatenate([random_rows(int(sha256_text(t)[:8], 16), 1, self.space.dim) for t in texts])


def measure(options: argparse.Namespace) -> Facts:
    """Queries on a random index, then start-up."""
    encoder = RandomTexts(options.dim)
    with temporary_folder() as folder:
        write_index(folder, options.rows, encoder.space)
        engine = simat.open(folder, encoder)
        facts = queries(engine, folder / engine.manifest.shards[0].name, options.queries)
    return {"rows": options.rows, "dim": options.dim, **facts, **start_up()}


def write_index(folder: Path, rows: int, space: EmbeddingSpace) -> None:
    """An index as a build would leave it, in one exact shard."""
    config = BuildConfig(str(folder / "photos"), encoder=space.encoder, factory="Flat", shard_size=rows)
    embeddings, shards = folder / "embeddings", folder / "shards"
    for made in (embeddings, shards):
        made.mkdir()
    size = config.part_rows(rows)
    starts = range(0, rows, size)
    parts = [write_random_part(embeddings, n, s, min(size, rows - s), space) for n, s in enumerate(starts)]
    write_manifest(embeddings, EmbeddingManifest(space, config.photos, tuple(parts), rows))
    built = ShardBuilder(shards, EmbeddingSet(embeddings), config, cores()).run(Silent())
    write_manifest(
        folder, IndexManifest(space, embeddings.name, config.factory, built.entries, rows, built.search, built.recall)
    )


def write_random_part(folder: Path, number: int, first: int, count: int, space: EmbeddingSpace) -> FileEntry:
    """One part of random vectors, with names and sums like those of photographs."""
    name = f"part-{number:06}.parquet"
    rows = [
        ImageRow(f"album-{id // 1000}/{id:09}.jpg", sha256_text(str(id)), 640, 480)
        for id in range(first, first + count)
    ]
    write_part(folder / name, first, rows, random_rows(SEED + number, count, space.dim))
    return FileEntry.of(folder, name, count)


def random_rows(seed: int, count: int, dim: int) -> Float32[np.ndarray, "n d"]:
    """Unit rows in directions that are all equally likely."""
    return unit_rows(np.random.default_rng(seed).standard_normal((count, dim), dtype=np.float32))


def queries(engine: Engine, shard: Path, count: int) -> Facts:
    """The three contenders, one query each in turn."""
    faiss.omp_set_num_threads(cores())
    bare = faiss.read_index(str(shard), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    ids = np.random.default_rng(SEED).integers(0, len(engine), WARM_UP + count).tolist()
    vectors = [edited(engine, id) for id in ids]  # all before the first query: no row is warm because of it
    seconds: dict[str, list[float]] = {"engine": [], "faiss": [], "searcher": []}
    for id, vector in zip(ids, vectors, strict=True):
        answers = {}
        contenders: dict[str, Callable[[], Any]] = {
            "engine": partial(engine.edit, id, " -> ".join(EDIT), k=K),
            "faiss": partial(bare.search, vector, K + 1),
            "searcher": partial(engine.searcher.search, vector, K + 1),
        }
        for name, contender in contenders.items():
            started = time.perf_counter()
            answers[name] = contender()
            seconds[name].append(time.perf_counter() - started)
        require_agreement(id, answers["engine"], answers["faiss"])
    return summary({name: times[WARM_UP:] for name, times in seconds.items()})


def edited(engine: Engine, id: int) -> Float32[np.ndarray, "1 d"]:
    """The vector that the engine searches for (thesis eq. 3.2), computed apart from it."""
    source, target = engine.encode_texts(list(EDIT))
    return unit_rows(engine.embeddings.vectors(np.array([id])) + target - source)


def require_agreement(id: int, answer: simat.Answer, found: tuple[np.ndarray, np.ndarray]) -> None:
    """Times of searches with other answers would say nothing."""
    expected = [row for row in found[1][0].tolist() if row != id][:K]
    got = [result.id for result in answer]
    if got != expected:
        raise QueryError(f"engine and FAISS disagree on the neighbours of {id}", got=f"{got} and {expected}")


def summary(seconds: dict[str, list[float]]) -> Facts:
    """p50 and p99 in milliseconds, and ratios of the p50."""
    facts: Facts = {"queries": len(seconds["engine"])}
    for name, times in seconds.items():
        facts[f"{name}_p50_ms"] = 1000 * median(times)
        facts[f"{name}_p99_ms"] = 1000 * percentile(times, 0.99)
    facts["engine_over_faiss"] = median(seconds["engine"]) / median(seconds["faiss"])
    facts["engine_over_searcher"] = median(seconds["engine"]) / median(seconds["searcher"])
    return facts


def start_up() -> Facts:
    """Median wall seconds of fresh processes; an empty one for comparison."""
    commands = {
        "help_s": [str(Path(sys.executable).with_name("simat")), "--help"],
        "import_s": [sys.executable, "-c", "import simat"],
        "python_s": [sys.executable, "-c", "pass"],
    }
    quiet = partial(subprocess.run, check=True, stdout=subprocess.DEVNULL)
    return {name: median([timed(partial(quiet, line)) for _ in range(STARTS)]) for name, line in commands.items()}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000, help="vectors (1000000)")
    arguments.add_argument("--dim", type=int, default=384, help="their length (384)")
    arguments.add_argument("--queries", type=int, default=200, help="queries of each contender (200)")
    run(arguments, measure)


if __name__ == "__main__":
    main()
