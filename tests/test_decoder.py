"""The decoder process, run here in a thread and there as the process it is."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import pytest
from building import bomb, save_blotches
from helpers import PixelColourEncoder, blotches, encoded
from PIL import Image

from indexing.decoder import MEMORY_LIMIT, decode_file, serve
from indexing.workers import Worker

TRANSFORM = PixelColourEncoder.transform


def test_decode_file_hashes_the_file_and_measures_the_original(tmp_path: Path) -> None:
    data = encoded(blotches(1, (640, 480)), "JPEG", quality=95)
    (tmp_path / "a.jpg").write_bytes(data)
    record, pixels = decode_file(str(tmp_path / "a.jpg"), TRANSFORM)
    assert (record.sha256, record.width, record.height) == (hashlib.sha256(data).hexdigest(), 640, 480)
    assert (record.shape, record.reason) == ((8, 8, 3), None)
    # JPEG draft scaling and the transform together stay near the plain way.
    plain = np.asarray(blotches(1, (640, 480)).resize((8, 8), Image.Resampling.BOX), np.int16)
    assert np.abs(pixels.astype(np.int16) - plain).max() <= 4


def test_decode_file_without_a_transform_gives_the_whole_picture(tmp_path: Path) -> None:
    picture = blotches(2, (31, 17))
    picture.save(tmp_path / "a.png")
    record, pixels = decode_file(str(tmp_path / "a.png"), None)
    assert record.shape == (17, 31, 3)
    assert np.array_equal(pixels, np.asarray(picture))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"hello, world", "not an image in a format we read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image in a format we read"),
        (encoded(blotches(0, (300, 200)), "JPEG")[:900], "corrupt or truncated image"),
        (bomb(), "more than 128 megapixels"),
        (encoded(Image.new("RGB", (4000, 1))), "longer than 200 times its width"),
    ],
)
def test_decode_file_tells_why_a_file_is_no_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, reason: str
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as in the process
    (tmp_path / "a.jpg").write_bytes(data)
    record, pixels = decode_file(str(tmp_path / "a.jpg"), TRANSFORM)
    assert pixels is None
    assert record.reason is not None
    assert record.reason.startswith(reason)


def test_decode_file_refuses_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    reasons = [decode_file(str(tmp_path / name), TRANSFORM)[0].reason or "" for name in ("pipe.jpg", "self.jpg", "no")]
    assert reasons[0].startswith("not a regular file")
    assert "Too many levels of symbolic links" in reasons[1]
    assert "No such file" in reasons[2]


def test_serve_answers_every_path_in_order_and_packs_the_pixels_of_the_good_ones(tmp_path: Path) -> None:
    save_blotches(tmp_path, 3)
    (tmp_path / "bad.png").write_bytes(b"bad")
    paths = [str(tmp_path / name) for name in ("0002.png", "bad.png", "0000.png")]
    ours, theirs = Pipe()
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    ours.send(TRANSFORM)
    for _ in range(2):  # one message after another
        ours.send(tuple(paths))
        records, buffer = ours.recv(), ours.recv_bytes()
        assert [record.reason is None for record in records] == [True, False, True]
        expected = [TRANSFORM.pixels(blotches(seed)) for seed in (2, 0)]
        assert buffer == b"".join(pixels.tobytes() for pixels in expected)
    ours.close()
    thread.join(10)
    assert not thread.is_alive()


def test_main_runs_nicely_within_a_memory_limit_and_leaves_interrupts_to_the_build(tmp_path: Path) -> None:
    save_blotches(tmp_path, 1)
    worker = Worker.start(TRANSFORM)
    try:
        worker.connection.send((str(tmp_path / "0000.png"),))
        assert worker.connection.recv()[0].reason is None
        worker.connection.recv_bytes()
        process = Path("/proc") / str(worker.process.pid)
        limits = (process / "limits").read_text()
        assert [line.split()[3] for line in limits.splitlines() if line.startswith("Max address space")] == [
            str(MEMORY_LIMIT)
        ]
        assert os.getpriority(os.PRIO_PROCESS, worker.process.pid) >= min(19, os.getpriority(os.PRIO_PROCESS, 0) + 5)
        worker.process.send_signal(signal.SIGINT)
        worker.connection.send((str(tmp_path / "0000.png"),))
        assert worker.connection.recv()[0].sha256
    finally:
        worker.stop()


def test_main_ends_when_the_build_is_gone() -> None:
    worker = Worker.start(TRANSFORM)
    worker.connection.close()
    assert worker.process.wait(timeout=20) == 0


def test_decode_file_that_takes_too_much_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_blotches(tmp_path, 1)

    def exhausted(path: str) -> bytes:
        raise MemoryError

    monkeypatch.setattr("indexing.decoder.read_bytes", exhausted)
    record, pixels = decode_file(str(tmp_path / "0000.png"), TRANSFORM)
    assert (record.reason, pixels) == ("it takes more memory than a decoder has", None)
