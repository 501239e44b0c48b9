"""What a build of shards will take: rows per shard and memory within a bound, and about how long it will last."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from indexing.factory import ID_BYTES, code_bytes, training_size
from indexing.recall import QUERIES
from simat.errors import BuildError
from simat.files import human

BASE = 256 * 2**20  # bytes of a process with its libraries and the blocks in flight
COPIES = 3  # of the sample, while FAISS trains: itself, its residuals, their assignment
GROWTH = 1.5  # inverted lists grow by doubling: on average they hold half as much again
WHOLE_GROWTH = 2.0  # where all rows are one list: it is there twice while it is moved
SMALLEST = 10_000  # rows in a shard
ITERATIONS, PQ_ITERATIONS, PQ_SAMPLE = 10, 25, 65_536  # FAISS's own of k-means, and of product quantisers
COMPARED = 1.5e9  # distances that a core looks at in a second, beside computing them
READ = 3e8  # bytes of stored vectors read and widened to float32 in a second; every stage reads them once
TOLD = 100_000  # rows: smaller builds are over before their plan is read


@dataclass(frozen=True)
class BuildPlan:
    """How the shards of an index are built.

    Attributes:
        shard_rows: vectors per shard.
        sample: vectors trained on, 0 where there is nothing to train.
        memory: bytes at the peak, predicted.
        disk: bytes of all shards, predicted.
        seconds: predicted, by stage: ``train``, ``add``, ``measure``.
    """

    shard_rows: int
    sample: int
    memory: int
    disk: int
    seconds: dict[str, float]

    def told(self, rows: int, dim: int, factory: str) -> str:
        """One line for whoever waits."""
        stages = ", ".join(f"{stage} {duration(self.seconds[stage])}" for stage in ("train", "add", "measure"))
        shards = -(-rows // self.shard_rows)
        return (
            f"{rows:,} × {dim} vectors in {shards} shard(s) of {factory}: about {human(self.disk)} on disk, "
            f"{human(self.memory)} of memory; {stages}"
        )


def plan_build(rows: int, index: Any, shard_size: int, memory: int, threads: int) -> BuildPlan:
    """Fit a build into ``memory`` bytes.

    Args:
        rows: vectors in the set.
        index: empty and untrained, of the kind of every shard.
        shard_size: vectors per shard at most; fewer where they would not fit.
        memory: bytes that the process may take.
        threads: CPU threads.

    Raises:
        BuildError: even small shards, or training on few vectors, do not fit.
    """
    room = memory - BASE
    row = code_bytes(index) + ID_BYTES
    growth = GROWTH if lists(index) else WHOLE_GROWTH
    fixed = 4 * index.d * lists(index)  # the centroids, of the trained index and of the shard
    whole = min(shard_size, rows)
    shard_rows = min(whole, int((room - 2 * fixed) / (growth * row)))
    wanted = min(training_size(index), max(rows - 1, 1)) if training_size(index) else 0
    sample = min(wanted, max((room - fixed) // (COPIES * 4 * index.d), 0))
    if shard_rows < min(SMALLEST, whole) or sample < min(wanted, 39 * lists(index)):
        least = BASE + 2 * fixed + max(int(growth * row * SMALLEST), COPIES * 4 * index.d * 39 * lists(index))
        raise BuildError(
            "the build does not fit into its memory",
            got=f"{human(memory)}, at least {human(least)} needed",
            remedy="raise --build-memory, or choose a --factory with fewer lists",
        )
    building = 2 * fixed + int(growth * row * shard_rows)
    training = fixed + COPIES * 4 * index.d * sample
    seconds = _seconds(rows, index, sample, threads)
    return BuildPlan(shard_rows, sample, BASE + max(building, training), rows * row, seconds)


def duration(seconds: float) -> str:
    """A time for people: seconds, minutes or hours."""
    for limit, unit, size in ((90, "s", 1), (5400, "min", 60)):
        if seconds < limit:
            return f"{max(1, round(seconds / size))} {unit}"
    return f"{seconds / 3600:.1f} h"


def lists(index: Any) -> int:
    """How many inverted lists an index has; 0 where it has none."""
    import faiss

    ivf = faiss.try_extract_index_ivf(index)
    return int(ivf.nlist) if ivf is not None else 0


def _seconds(rows: int, index: Any, sample: int, threads: int) -> dict[str, float]:
    dim, cells, codes = index.d, lists(index), code_bytes(index)
    rate, compared = products_per_second() * threads, COMPARED * threads

    def compare(points: int, others: int, each: int) -> float:
        return points * others * (2 * each / rate + 1 / compared)

    quantised = codes if codes < dim else 0  # a byte is a choice among 256
    train = ITERATIONS * compare(sample, cells, dim)
    train += quantised * PQ_ITERATIONS * compare(min(sample, PQ_SAMPLE), 256, dim // max(quantised, 1))
    add = compare(rows, cells, dim) + quantised * compare(rows, 256, dim // max(quantised, 1))
    measure = 2 * compare(QUERIES, rows, dim)
    read = rows * 2 * dim / READ
    return {
        "train": train + (read if sample else 0),
        "add": add + rows * codes / 1e9 + read,
        "measure": measure + read,
    }


@cache
def products_per_second() -> float:
    """Multiplications and additions that a core does in a large matrix product, measured in some milliseconds."""
    a, b = np.ones((512, 128), np.float32), np.ones((128, 512), np.float32)
    a @ b
    times = []
    for _ in range(3):
        started = time.process_time()
        a @ b
        times.append(time.process_time() - started)
    return 2 * 512 * 128 * 512 / max(min(times), 1e-6)
