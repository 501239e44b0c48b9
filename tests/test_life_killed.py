"""kill -9 before every rename and every deletion of every change: the old index or the new one, never less."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from building import TESTS, cache_beside, save_blotches
from living import built

from indexing.remove import remove_images


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index with tombstones, copies and a bad file; pictures to build one from, and pictures to add."""
    place = tmp_path_factory.mktemp("killed")
    photos = save_blotches(place / "photos", 12)
    (photos / "0003x.png").write_bytes(b"no picture")
    (photos / "0004b.png").write_bytes((photos / "0004.png").read_bytes())
    built(place / "start", photos)
    remove_images(place / "start", ids=np.array([0, 7]))
    more = save_blotches(place / "more", 9, first=50)
    (more / "old.png").write_bytes((photos / "0004.png").read_bytes())
    (more / "0051x.png").write_bytes(b"no picture")
    return place


@pytest.mark.parametrize("change", ["build", "add", "remove", "compact", "merge"])
def test_a_change_killed_at_any_moment_leaves_the_old_index_or_the_new(place: Path, change: str) -> None:
    ran = subprocess.run(
        [sys.executable, str(TESTS / "killed.py"), str(place), change],
        env={
            **os.environ,
            "SIMAT_CACHE": cache_beside(),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": f"{TESTS}:{TESTS.parent}",
        },
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    *killed, last = told
    assert all(one["killed"] for one in killed)
    assert not last["killed"]
    assert len(killed) >= {"remove": 2, "merge": 6}.get(change, 8)
    left = [one["left"] for one in told]
    assert set(left) == ({"old"} if change == "compact" else {"old", "new"}), "compaction leaves the same images"
    assert left == sorted(left, key=["old", "new"].index), "it must not go back"
    assert all(one["ended"] == 0 for one in told), [one["left"] for one in told if one["ended"]]
    assert all(one["whole"] for one in told), [one["moment"] for one in told if not one["whole"]]
