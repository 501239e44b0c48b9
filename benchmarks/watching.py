"""Commands run to their end: how long they took, how much they computed, how much memory they held."""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.build import Peak
from simat.errors import SimatError

EVERY_S = 0.1  # between two looks at the memory: more often, they would be felt


class CommandError(SimatError):
    """A command that failed."""


@dataclass(frozen=True)
class Watched:
    """What a command took.

    Attributes:
        seconds: of wall time.
        cpu_seconds: of it and of all processes that it waited for.
        peak: resident bytes of all its processes together; pages that they share count in each.
    """

    seconds: float
    cpu_seconds: float
    peak: int

    def facts(self) -> dict[str, float]:
        """For the report."""
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "peak_mib": self.peak / 2**20}


def watched(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Watched:
    """Run a command to its end.

    Args:
        command: program and arguments.
        log: file for whatever it prints.
        environment: all variables of its environment; None for ours.

    Raises:
        CommandError: it failed; with the last lines it wrote.
    """
    peak, ended, before = Peak(), threading.Event(), _children()
    started = time.perf_counter()
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        watcher = threading.Thread(target=_watch, args=(psutil.Process(process.pid), peak, ended))
        watcher.start()
        code = process.wait()
        seconds = time.perf_counter() - started
        ended.set()
        watcher.join()
    if code:
        raise CommandError(f"{' '.join(command[:3])} … ended with code {code}", got=log.read_text()[-500:].strip())
    return Watched(seconds, _children() - before, peak.tree)


def _watch(process: psutil.Process, peak: Peak, ended: threading.Event) -> None:
    while not ended.wait(EVERY_S):
        peak.see(process)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
