"""What the benchmarks share: arguments, temporary folders, interleaved timing, the report."""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simat.cli.console import one_line_errors

Facts = dict[str, Any]


def parser(documentation: str | None) -> argparse.ArgumentParser:
    """An argument parser with ``--json``, described by the first line of a script's text."""
    arguments = argparse.ArgumentParser(description=(documentation or "").partition("\n")[0])
    arguments.add_argument("--json", action="store_true", help="print one JSON document")
    return arguments


def run(arguments: argparse.ArgumentParser, measure: Callable[[argparse.Namespace], Facts]) -> None:
    """Parse, measure, report; an error that a user can mend is one line and exit code 2."""
    options = arguments.parse_args()
    with one_line_errors():
        report({**measure(options), "machine": machine()}, options.json)


def report(facts: Mapping[str, Any], as_json: bool) -> None:
    """Print figures under stable names: as one JSON document, or a line each."""
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in flat(facts):
        print(f"{name:<44} {f'{value:.4g}' if isinstance(value, float) else value}")


def flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested figures, their names joined by dots."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def machine() -> Facts:
    """The processor's name and the cores that this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else "unknown", "cores": cores()}


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is gone afterwards; ``TMPDIR`` says where."""
    with tempfile.TemporaryDirectory(prefix="simat-benchmark-") as name:
        yield Path(name)


@contextmanager
def private_cache(folder: Path) -> Iterator[None]:
    """Let conversions and labels be cached in ``folder`` instead of the user's cache."""
    before = os.environ.get("SIMAT_CACHE")
    os.environ["SIMAT_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SIMAT_CACHE"]
        else:
            os.environ["SIMAT_CACHE"] = before


def interleaved(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every contender in every round: what disturbs the machine disturbs them all."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, contender in contenders.items():
            seconds[name].append(timed(contender))
    return seconds


def timed(work: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cpu_timed(work: Callable[[], object]) -> float:
    """CPU seconds of one call, over all threads of this process."""
    started = time.process_time()
    work()
    return time.process_time() - started


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed, 0 < share <= 1 (nearest rank)."""
    ordered = sorted(values)
    return ordered[math.ceil(share * len(ordered)) - 1]


def median(values: list[float]) -> float:
    """The median."""
    return statistics.median(values)
