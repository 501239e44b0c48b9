"""Seconds that the SIMAT score takes on as many queries and images as the thesis has, beside bare matrix products.

17,996 queries over 5,859 images of 512 dimensions: random unit rows, as many different edits and query images as SIMAT
has. What is timed is ``eval.simat_score``: ranking without the query's own image, ties drawn, the judge, and the
weighted sum. The brute way multiplies every query with every image, block by block, and keeps the best.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np

from benchmarks.common import Facts, cpu_timed, interleaved, median, parser, run
from eval.simat_score import BLOCK, Judge, Steps, Task, nearest_along, score
from simat.vectors import unit_rows

QUERIES, IMAGES, DIM, EDITS, TRIPLETS = 17_996, 5_859, 512, 1_500, 645
WANTED_S = 5.0


def measure(options: argparse.Namespace) -> Facts:
    rng = np.random.default_rng(0)
    images = unit_rows(rng.normal(size=(IMAGES, DIM)).astype(np.float32))
    steps = Steps(rng.normal(size=(EDITS, DIM)).astype(np.float32) / DIM**0.5, rng.integers(EDITS, size=QUERIES))
    task, judge = _task(rng), _judge(rng)
    facts: Facts = {"queries": QUERIES, "images": IMAGES, "dimensions": DIM}
    for k in (1, 5):
        seconds = interleaved(
            {
                "score": partial(_score, images, steps, task, judge, k),
                "product": partial(_brute, images, steps, task, k),
            },
            options.rounds,
        )
        one, two = (median(seconds[name]) for name in ("score", "product"))
        facts[f"n_{k}"] = {
            "seconds": one,
            "wanted_s": WANTED_S,
            "brute_product_s": two,
            "score_over_product": one / two,
            "cpu_s": cpu_timed(partial(_score, images, steps, task, judge, k)),
        }
    return facts


def _score(images: np.ndarray, steps: Steps, task: Task, judge: Judge, k: int) -> float:
    return score(nearest_along(images, steps, task.sources, [1.0], k)[0], task, judge).total


def _brute(images: np.ndarray, steps: Steps, task: Task, k: int) -> int:
    found = 0
    for start in range(0, QUERIES, BLOCK):
        block = slice(start, start + BLOCK)
        scores = (images[task.sources[block]] + steps.vectors[steps.which[block]]) @ images.T
        best = scores.argmax(1) if k == 1 else np.argpartition(-scores, k, axis=1)[:, :k]
        found += best.size
    return found


def _task(rng: np.random.Generator) -> Task:
    weights = rng.random(QUERIES)
    return Task(
        sources=np.sort(rng.integers(IMAGES, size=QUERIES)),
        goals=rng.integers(TRIPLETS, size=QUERIES),
        weights=weights / weights.sum(),
        fields=rng.integers(3, size=QUERIES),
        edits=[("a", "b")] * QUERIES,
    )


def _judge(rng: np.random.Generator) -> Judge:
    probabilities = rng.random((IMAGES, TRIPLETS))
    return lambda rows, goals: probabilities[rows, goals]


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=3, help="rounds; the median counts")
    run(arguments, measure)
