"""kill -9 at random moments during build, add, compact and remove: is anything lost, or there twice?

Every run starts the command line on a copy of the same state and kills it, with its decoders, after a random share of
the time that the change takes from taking its lock. What is left must be the index before or after the change, whole to
the last byte; the same command again must end with the bytes that an undisturbed run leaves.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmarks.common import Facts, parser, private_cache, run, temporary_folder
from indexing.inspect import verify_index
from simat.errors import SimatError, StorageError
from simat.images import SUFFIXES
from simat.opened import open_index

CHANGES = ("build", "add", "compact", "remove")
SEED = 0
Images = Counter[tuple[str, str, bytes]]


def command(change: str, place: Path, index: Path, encoder: str) -> list[str]:
    """The command line of a change."""
    arguments = {
        "build": [str(place / "photos"), str(index), "--encoder", encoder, "--config", str(place / "small.toml")],
        "add": [str(index), str(place / "more")],
        "compact": [str(index)],
        "remove": [str(index), "--ids", str(place / "ids")],
    }
    return [sys.executable, "-m", "simat.cli.main", "index", change, *arguments[change], "--json"]


def start(change: str, place: Path, index: Path, encoder: str) -> subprocess.Popen[bytes]:
    """Start a change in a process group of its own."""
    out = subprocess.DEVNULL
    return subprocess.Popen(command(change, place, index, encoder), stdout=out, stderr=out, start_new_session=True)


def await_lock(process: subprocess.Popen[bytes], index: Path, since: int) -> None:
    """Wait until a change has begun, or ended."""
    lock = index / ".lock"
    while process.poll() is None and not (lock.exists() and lock.stat().st_mtime_ns > since):
        time.sleep(0.002)


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill a process and all that it started; False where it had ended."""
    running = process.poll() is None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return running


def images(index: Path) -> Images | None:
    """What an index holds; None where there is none yet, or a half built one."""
    try:
        verify_index(index)
    except StorageError as error:
        if "half built" in error.what or "no index" in error.what:
            return None
        raise
    opened = open_index(index)
    ids = opened.live(np.arange(len(opened)))
    rows, vectors = opened.rows(ids), opened.embeddings.vectors(ids)
    return Counter((row.path, row.sha256, vector.tobytes()) for row, vector in zip(rows, vectors, strict=True))


def files(index: Path) -> Mapping[str, bytes]:
    """Every file of an index, but for its lock."""
    found = (path for path in index.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(index)): path.read_bytes() for path in found}


class Trial:
    """Kills one change, again and again.

    Args:
        change: one of ``CHANGES``.
        place: photos, and the state that the change starts from, under the name of the change.
        encoder: spec of the encoder of a build.
    """

    def __init__(self, change: str, place: Path, encoder: str) -> None:
        self._change, self._place, self._encoder = change, place, encoder
        self._before = images(place / change) if (place / change).exists() else None
        index = self._fresh(place / f"{change} whole")
        since = time.time_ns()
        process = start(change, place, index, encoder)
        await_lock(process, index, since)
        began = time.perf_counter()
        if process.wait():
            raise SimatError(f"simat index {change} failed")
        self._seconds = time.perf_counter() - began
        self._after, self._files = images(index), files(index)

    def run(self, rng: random.Random) -> Counter[str]:
        """Kill once at a random moment, look at what is left, and end the change."""
        index, since = self._fresh(self._place / "killed"), time.time_ns()
        process = start(self._change, self._place, index, self._encoder)
        await_lock(process, index, since)
        time.sleep(rng.uniform(0, self._seconds))
        seen: Counter[str] = Counter(killed=int(kill(process)))
        seen += self._judge(index)
        if start(self._change, self._place, index, self._encoder).wait():
            seen["not_resumed"] += 1
        ended = images(index)
        seen["lost"] += sum(((self._after or Images()) - (ended or Images())).values())
        seen["doubled"] += sum(((ended or Images()) - (self._after or Images())).values())
        seen["other_bytes"] += files(index) != self._files
        return seen

    def _judge(self, index: Path) -> Counter[str]:
        try:
            left = images(index)
        except SimatError:
            return Counter(damaged=1)
        if left == self._before:
            return Counter(old=1)
        return Counter(new=1) if left == self._after else Counter(damaged=1)

    def _fresh(self, index: Path) -> Path:
        shutil.rmtree(index, ignore_errors=True)
        if (self._place / self._change).exists():
            shutil.copytree(self._place / self._change, index)
        return index


def prepare(place: Path, photos: Path, count: int, encoder: str) -> None:
    """Photos in two halves, and the state that each change but the build starts from."""
    chosen = [path for path in sorted(photos.rglob("*")) if path.suffix.lower() in SUFFIXES][:count]
    if len(chosen) < 8:
        raise SimatError("give a folder of at least 8 photos", got=str(photos))
    for number, path in enumerate(chosen):
        half = place / ("photos" if number < len(chosen) // 2 else "more")
        half.mkdir(exist_ok=True)
        shutil.copy(path, half / f"{number:05}{path.suffix}")
    (place / "small.toml").write_text("part_size = 8\nshard_size = 20\n")
    (place / "ids").write_text("\n".join(map(str, range(0, len(chosen) // 2, 3))))
    index = place / "add"
    for change, then in (("build", "remove"), ("remove", ""), ("add", "compact")):
        if start(change, place, index, encoder).wait():
            raise SimatError(f"simat index {change} failed")
        if then:
            shutil.copytree(index, place / then)
    shutil.rmtree(index)
    shutil.copytree(place / "remove", index)


def measure(options: argparse.Namespace) -> Facts:
    rng, facts = random.Random(SEED), {}
    unknown = [change for change in options.changes.split(",") if change not in CHANGES]
    if unknown:
        raise SimatError("no such change", got=", ".join(unknown), remedy=f"there are: {', '.join(CHANGES)}")
    with temporary_folder() as place, private_cache(place / "cache"):
        prepare(place, options.photos, options.files, options.encoder)
        for change in options.changes.split(","):
            trial, seen = Trial(change, place, options.encoder), Counter[str]()
            for _ in range(options.kills):
                seen += trial.run(rng)
            names = ("killed", "old", "new", "damaged", "not_resumed", "lost", "doubled", "other_bytes")
            facts[change] = {name: seen[name] for name in names}
    return {"kills": options.kills, "photos": options.files, **facts}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("photos", type=Path, help="folder of images")
    arguments.add_argument("--files", type=int, default=120, help="how many of them are used")
    arguments.add_argument("--kills", type=int, default=50, help="of each change")
    arguments.add_argument("--changes", default=",".join(CHANGES), help="which, separated by commas")
    arguments.add_argument("--encoder", default="offline")
    run(arguments, measure)


if __name__ == "__main__":
    main()
