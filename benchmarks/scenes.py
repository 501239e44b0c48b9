"""Rendered scenes per second on one core, at 64 and 128 pixels, from seed to picture and map, nothing written.

``warm`` is what a long run reaches, once most sprites have been met; ``cold`` is a process's first scenes.
"""

from __future__ import annotations

import argparse
from functools import partial

from benchmarks.common import Facts, cpu_timed, parser, run
from data.scenes.render import render
from data.scenes.scene import sample
from data.scenes.world import OBJECTS, PLACES, RELATIONS, SUBJECTS, triplets

WANTED = {64: 1000, 128: 250}


def measure(options: argparse.Namespace) -> Facts:
    count = options.scenes
    facts: Facts = {
        "triplets": len(triplets()), "subjects": len(SUBJECTS), "objects": len(OBJECTS),
        "relations": len(RELATIONS), "places": len(PLACES),
    }  # fmt: skip
    for size, wanted in WANTED.items():
        rates = [count / cpu_timed(partial(_render, size, turn * count, count)) for turn in range(1 + options.rounds)]
        facts[f"at_{size}"] = {"cold_per_s": rates[0], "warm_per_s": max(rates[1:]), "wanted_per_s": wanted}
    return facts


def _render(size: int, start: int, count: int) -> None:
    for number in range(start, start + count):
        render(sample(0, number), size)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--scenes", type=int, default=1500, help="scenes per round")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds after the first")
    run(arguments, measure)
