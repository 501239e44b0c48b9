"""The pool of decoders: order, and files that take their decoder down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
from building import save_blotches
from helpers import PixelColourEncoder, blotches
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import pack_tar, picture

import indexing.workers
from indexing.decoder import decode_file
from indexing.workers import DecodePool, Outcome, Worker
from simat.images import ImageTransform

TRANSFORM = PixelColourEncoder.transform
FRAGILE = """
import os, sys, time
import indexing.decoder as decoder

whole = decoder.decode_file

def fragile(path, transform):
    if "poison" in path:
        os._exit(11)
    if "tar" in path:
        time.sleep(600)
    return whole(path, transform)

decoder.decode_file = fragile
decoder.main()
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = save_blotches(tmp_path_factory.mktemp("pictures"), 40)
    return [str(path) for path in sorted(folder.iterdir())]


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> list[Worker]:
    """Decoders that a file named "poison" kills and one named "tar" holds for ever; the list of those started."""
    started: list[Worker] = []

    def start(transform: ImageTransform | None) -> Worker:
        ours, theirs = Pipe()
        arguments = [sys.executable, "-c", FRAGILE, str(theirs.fileno())]
        worker = Worker(subprocess.Popen(arguments, pass_fds=[theirs.fileno()]), ours)
        theirs.close()
        ours.send(transform)
        started.append(worker)
        return worker

    monkeypatch.setattr(Worker, "start", start)
    monkeypatch.setattr(indexing.workers, "CHUNK", 2)
    return started


def hashes(outcomes: Iterator[Outcome] | list[Outcome]) -> list[str]:
    return [record.sha256 for record, _ in outcomes]


@settings(max_examples=5)
@given(count=st.integers(1, 3), chunk=st.integers(1, 9), length=st.integers(0, 40))
def test_decode_keeps_the_order_for_any_number_of_workers_and_any_chunk(
    pictures: list[str], count: int, chunk: int, length: int
) -> None:
    paths = pictures[:length]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing.workers, "CHUNK", chunk)
        with DecodePool(count, TRANSFORM) as pool:
            outcomes = list(pool.decode(paths))
    assert hashes(outcomes) == [decode_file(path, TRANSFORM)[0].sha256 for path in paths]
    for seed, (_, pixels) in enumerate(outcomes):
        assert np.array_equal(pixels, TRANSFORM.pixels(blotches(seed)))


def test_decode_can_be_called_again_on_the_same_pool(pictures: list[str]) -> None:
    with DecodePool(2, TRANSFORM) as pool:
        assert hashes(pool.decode(pictures)) == hashes(pool.decode(pictures))


def test_decode_without_a_transform_brings_whole_pictures(pictures: list[str]) -> None:
    with DecodePool(2, None) as pool:
        for seed, (record, pixels) in enumerate(pool.decode(pictures[:7])):
            assert record.shape == (32, 48, 3)
            assert np.array_equal(pixels, np.asarray(blotches(seed)))


def test_decode_holds_few_chunks_ahead_of_a_slow_reader(pictures: list[str]) -> None:
    taken = 0

    def counted() -> Iterator[str]:
        nonlocal taken
        for path in pictures * 20:
            taken += 1
            yield path

    with DecodePool(1, TRANSFORM) as pool:
        next(pool.decode(counted()))
        assert taken <= (indexing.workers.AHEAD + 2) * indexing.workers.CHUNK


def test_decode_loses_and_doubles_nothing_when_workers_are_killed_in_mid_run(
    pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing.workers, "CHUNK", 2)
    expected = [decode_file(path, TRANSFORM)[0].sha256 for path in pictures] * 4
    with DecodePool(2, TRANSFORM) as pool:
        got = []
        for number, (record, _) in enumerate(pool.decode(pictures * 4)):
            got.append(record.sha256)
            if number in (4, 100):
                for worker in pool._workers:
                    os.kill(worker.process.pid, signal.SIGKILL)
    assert got == expected


def test_decode_revives_workers_that_died_while_there_was_nothing_to_do(pictures: list[str]) -> None:
    with DecodePool(1, TRANSFORM) as pool:
        pool._workers[0].process.kill()
        pool._workers[0].process.wait()
        assert hashes(pool.decode(pictures[:5])) == [decode_file(path, TRANSFORM)[0].sha256 for path in pictures[:5]]


def test_decode_reports_the_one_file_that_kills_its_decoder(pictures: list[str], fragile: list[Worker]) -> None:
    paths = [*pictures[:21], "/photos/poison.png", *pictures[21:]]
    with DecodePool(2, TRANSFORM) as pool:
        outcomes = list(pool.decode(paths))
    reasons = {path: record.reason for path, (record, _) in zip(paths, outcomes, strict=True) if record.reason}
    assert reasons == {"/photos/poison.png": "the decoder ended with code 11"}
    assert len(hashes(outcomes)) == 41


def test_decode_outlives_a_folder_of_poison(pictures: list[str], fragile: list[Worker]) -> None:
    paths = ["poison 1", pictures[0], "poison 2", "poison 3", pictures[1]]
    with DecodePool(1, TRANSFORM) as pool:
        outcomes = list(pool.decode(paths))
    assert [record.reason for record, _ in outcomes] == [
        "the decoder ended with code 11",
        None,
        "the decoder ended with code 11",
        "the decoder ended with code 11",
        None,
    ]


def test_decode_gives_up_on_a_file_that_never_ends(
    pictures: list[str], fragile: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing.workers, "TIMEOUT_S", 4.0)
    monkeypatch.setattr(indexing.workers, "CHUNK", 2)
    paths = [*pictures[:2], "/photos/tar.png", *pictures[2:5]]
    with DecodePool(1, TRANSFORM) as pool:
        outcomes = list(pool.decode(paths))
    assert [record.reason for record, _ in outcomes] == [None, None, "the decoder took longer than 4 s", *[None] * 3]


def test_pool_leaves_no_process_behind(pictures: list[str], fragile: list[Worker]) -> None:
    with DecodePool(2, TRANSFORM) as pool:
        list(pool.decode([*pictures, "poison", *pictures]))
    assert len(fragile) >= 4
    assert all(worker.process.returncode is not None for worker in fragile)
    assert all(worker.connection.closed for worker in fragile)


def test_pool_stops_its_workers_when_the_reader_fails(pictures: list[str], fragile: list[Worker]) -> None:
    with pytest.raises(RuntimeError, match="reader"), DecodePool(2, TRANSFORM) as pool:
        for _ in pool.decode(pictures * 10):
            raise RuntimeError("reader")
    assert [worker.process.returncode for worker in fragile] == [-signal.SIGKILL] * 2


def test_decode_of_very_long_names_does_not_wait_for_itself(tmp_path: Path) -> None:
    names = [f"{number:02}{'n' * 60_000}.png" for number in range(64)]
    tar = pack_tar(tmp_path / "a.tar", dict.fromkeys(names, picture(0)), tarfile.GNU_FORMAT)
    large = replace(TRANSFORM, height=256, width=256)  # answers that fill a socket, as the questions do
    with ThreadPoolExecutor(1) as thread, DecodePool(1, large) as pool:
        outcomes = thread.submit(lambda: list(pool.decode(f"{tar}/{name}" for name in names))).result(timeout=60)
    assert [record.reason for record, _ in outcomes] == [None] * 64


def test_a_decoder_runs_nothing_of_the_folder_it_is_started_in(
    pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "hashlib", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    with DecodePool(1, TRANSFORM) as pool:
        assert hashes(pool.decode(pictures[:1])) == [decode_file(pictures[0], TRANSFORM)[0].sha256]
