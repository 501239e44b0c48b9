"""kill -9 at any moment, and a full disk: the same command again ends with the same bytes.

Every single rename and deletion is in the tests of an index's life, which need no new process for each.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from building import (
    Ran,
    colour_environment,
    colour_plugin,
    contents,
    here,
    plugged_in,
    same_contents,
    save_blotches,
    simat,
    start,
)

FILES = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with copies and bad files among them, and settings of many small steps."""
    place = tmp_path_factory.mktemp("crash")
    photos = save_blotches(place / "photos", FILES)
    (photos / "0019b.png").write_bytes((photos / "0002.png").read_bytes())
    (photos / "0030b.png").write_bytes((photos / "0030.png").read_bytes())
    for name in ("0005x", "0041x"):
        (photos / f"{name}.png").write_bytes(b"no picture")
    (place / "settings.toml").write_text("part_size = 8\nshard_size = 25\n")
    colour_plugin(place / "plugin")
    return place


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """An uninterrupted build with the colour encoder."""
    assert build(place, "whole").code == 0
    return place / "whole"


def arguments(place: Path, name: str, encoder: str) -> list[str]:
    return [
        *("index", "build", str(place / "photos"), str(place / name), "--encoder", encoder),
        *("--config", str(place / "settings.toml"), "--workers", "2", "--json"),
    ]


def build(place: Path, name: str, encoder: str = "colours", before: Callable[[], None] | None = None):
    return simat(*arguments(place, name, encoder), extra=colour_environment(place / "plugin"), before=before)


def build_here(capsys: Any, place: Path, name: str, encoder: str = "colours") -> Ran:
    """A build in this process: for one whose end is all that matters."""
    with plugged_in(place / "plugin"):
        return here(capsys, *arguments(place, name, encoder))


def build_killed_at(place: Path, name: str, files: int, pause: float, encoder: str = "colours") -> bool:
    """Kill a build ``pause`` seconds after its folder holds ``files`` files; False where it ended before."""
    folder = place / name
    process = start(*arguments(place, name, encoder), extra=colour_environment(place / "plugin"))
    assert eventually(lambda: process.poll() is not None or count(folder) >= files, 60)
    time.sleep(pause)
    decoders, killed = children(process.pid), process.poll() is None
    process.kill()
    process.communicate()
    assert eventually(lambda: not any(alive(pid) for pid in decoders))
    return killed


def count(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def children(pid: int) -> list[int]:
    return [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("seed", range(2))
def test_a_build_killed_at_random_moments_ends_with_the_same_bytes(
    place: Path, whole: Path, seed: int, capsys: Any
) -> None:
    rng, name = random.Random(seed), f"random {seed}"
    moments = sorted(rng.sample(range(1, 13), 4))
    assert sum([build_killed_at(place, name, files, rng.uniform(0, 0.04)) for files in moments]) >= 2
    document = build_here(capsys, place, name).json
    assert (document["images"], document["duplicates"], document["rejected"]) == (FILES + 2, 2, 2)
    assert same_contents(place / name, whole)
    assert here(capsys, "index", "verify", place / name, "--json").json["whole"] is True


def test_a_build_with_the_offline_encoder_resumes_to_the_same_bytes(place: Path, capsys: Any) -> None:
    assert build_here(capsys, place, "offline whole", "offline").code == 0
    assert build_killed_at(place, "offline", 7, 0.01, "offline")
    assert build_here(capsys, place, "offline", "offline").json["images"] == FILES + 2
    assert same_contents(place / "offline", place / "offline whole")


@pytest.mark.parametrize("limit", [150, 1300, 4500])
def test_a_full_disk_is_one_line_and_the_build_goes_on_when_there_is_room(
    place: Path, whole: Path, limit: int, capsys: Any
) -> None:
    name = f"full {limit}"
    failed = build(place, name, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    what, got, remedy = failed.error.split("; ", 2)
    assert what.startswith(("cannot write any more: File too large", "cannot remember which files were seen"))
    assert got.startswith("got ")
    assert "the same command" in remedy
    assert not (place / name / "manifest.json").exists()
    left = contents(place / name)
    assert not [path for path in left if path.endswith(".tmp")]
    if "building.json" in left:
        assert "half built" in here(capsys, "index", "info", place / name).error
    assert build_here(capsys, place, name).code == 0
    assert same_contents(place / name, whole)


def test_the_interrupt_key_ends_a_build_with_one_line_and_the_next_one_goes_on(
    place: Path, whole: Path, capsys: Any
) -> None:
    # A test run in the background of a shell ignores the key, and so would its children.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = start(
        *arguments(place, "interrupted", "colours"), extra=colour_environment(place / "plugin"), before=heed
    )
    folder = place / "interrupted"
    assert eventually(lambda: any(folder.glob("embeddings/part-*.parquet")))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    lines = [line for line in err.decode().splitlines() if not line.startswith("{")]
    assert (process.returncode, out, lines) == (130, b"", ["interrupted; the same command goes on where it was"])
    assert build_here(capsys, place, "interrupted").code == 0
    assert same_contents(folder, whole)


def test_a_second_build_of_the_same_index_gets_the_lock_error(place: Path, whole: Path) -> None:
    process = start(*arguments(place, "twice", "colours"), extra=colour_environment(place / "plugin"))
    try:
        assert eventually((place / "twice" / "building.json").exists)
        process.send_signal(signal.SIGSTOP)
        assert build(place, "twice").error.startswith("another process is building here; got ")
    finally:
        process.send_signal(signal.SIGCONT)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert same_contents(place / "twice", whole)
