"""Kills changes of an index at every moment: run as a program by the tests, it forks a child for each.

``python killed.py PLACE CHANGE``: PLACE holds ``start``, an index, and ``more`` and ``photos``, folders of pictures.
Each child works on a copy of ``start`` and is killed (SIGKILL) just before its n-th rename or deletion; of deletions
that follow one another, which nobody reads between, the first two count. Another child then looks at what is left, and
runs the same change to its end. Prints one JSON line a moment.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from building import Here, contents
from helpers import PixelColourEncoder
from living import ONE, images

import indexing.embed
from indexing.add import add_images
from indexing.build import build_index
from indexing.compact import compact_index
from indexing.config import BuildConfig
from indexing.merge import merge_indexes
from indexing.remove import remove_images
from simat.errors import SimatError

Run = Callable[[Path, Path], object]


def build(place: Path, index: Path) -> object:
    config = BuildConfig(str(place / "photos"), part_size=8, shard_size=8)
    return build_index(index, config, ONE, encoder=PixelColourEncoder())


def add(place: Path, index: Path) -> object:
    return add_images(index, str(place / "more"), ONE, encoder=PixelColourEncoder())


def remove(place: Path, index: Path) -> object:
    return remove_images(index, ids=np.array([1, 5]))


def compact(place: Path, index: Path) -> object:
    return compact_index(index, ONE)


def merge(place: Path, index: Path) -> object:
    if (index / "manifest.json").exists() and not (index / "building.json").exists():
        return None
    return merge_indexes([place / "start", place / "start"], index, ONE)


CHANGES: dict[str, Run] = {"build": build, "add": add, "remove": remove, "compact": compact, "merge": merge}


def fatal_at(moment: int) -> None:
    """Kill this process just before its n-th rename or deletion; nothing that has a name changes in between."""
    counted = deleted = 0

    def wrapped(original: Callable[..., Any], deletes: bool) -> Callable[..., Any]:
        def fatal(path: Any, *arguments: Any, **options: Any) -> Any:
            nonlocal counted, deleted
            if os.path.lexists(path):
                deleted = deleted + 1 if deletes else 0
                counted += deleted <= 2
                if counted == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(path, *arguments, **options)

        return fatal

    Path.replace = wrapped(Path.replace, False)  # type: ignore[method-assign]
    Path.unlink = wrapped(Path.unlink, True)  # type: ignore[method-assign]
    shutil.rmtree = wrapped(shutil.rmtree, True)


def child(work: Callable[[], Any]) -> tuple[int, Any]:
    """Run in a fork; gives how it ended and what it returned, as JSON."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
            os._exit(0)
        except BaseException as error:
            os.write(writing, json.dumps(f"{type(error).__name__}: {error}").encode())
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), json.loads(told) if told else None


def listed(index: Path) -> Any:
    """The images of an index; None where there is none, or a half built one."""
    try:
        return sorted([path, sha, vector.hex()] for path, sha, vector in images(index).values())
    except SimatError as error:
        if "half built" in error.what or "no index" in error.what:
            return None
        raise


def run(place: Path, change: Run, index: Path, moment: int) -> None:
    fatal_at(moment)
    change(place, index)


def loaded(work: Callable[[], object]) -> None:
    """Do the work in a fork, and import here, once, what every other fork would have to import again."""
    known = set(sys.modules)
    code, names = child(lambda: (work(), [name for name in sys.modules if name not in known])[1])
    assert code == 0, names
    for name in names:
        with suppress(Exception):  # some modules are no files
            importlib.import_module(name)


def left_and_ended(place: Path, change: Run, index: Path) -> Any:
    """What a killed change has left, before it is run to its end."""
    left = listed(index)
    change(place, index)
    return left


def main(place: Path, name: str) -> None:
    change, start = CHANGES[name], place / "start"
    indexing.embed.DecodePool = Here  # type: ignore[assignment, misc]
    os.fsync = lambda _: None  # what the kernel has survives the death of a process
    fresh(start, place / "whole", name)
    loaded(lambda: (change(place, place / "whole"), listed(place / "whole")))
    before = child(lambda: listed(start))[1] if name not in ("build", "merge") else None
    after, files = child(lambda: listed(place / "whole"))[1], contents(place / "whole")
    moment, code = 0, -1
    while code != 0:
        moment += 1
        index = fresh(start, place / "index", name)
        code, told = child(lambda at=moment: run(place, change, place / "index", at))  # type: ignore[misc]
        assert code in (0, -signal.SIGKILL), told
        ended, left = child(lambda: left_and_ended(place, change, place / "index"))
        print(
            json.dumps(
                {
                    "moment": moment,
                    "killed": code == -signal.SIGKILL,
                    "left": "old" if left == before else "new" if left == after else left,
                    "ended": ended,
                    "whole": contents(index) == files,
                }
            ),
            flush=True,
        )


def fresh(start: Path, index: Path, name: str) -> Path:
    """What a change begins from."""
    shutil.rmtree(index, ignore_errors=True)
    if name not in ("build", "merge"):
        shutil.copytree(start, index)
    return index


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
