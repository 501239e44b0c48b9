"""Pictures that clients send: decoded in processes that no file can use against the server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import Pipe

from PIL import Image

from simat.errors import Busy, ImageError
from simat.server.decoding import READY

START_S = 60.0  # for an interpreter and its libraries, on a machine with much else to do
THREADS = 16  # that wait for a process
HELD = 2 * 2**30
PATIENCE = 3.0  # a decoder's seconds on the wall, in seconds of the processor
HEADER = 1 << 16  # bytes of what a decoder tells beside the pixels
_PROGRAM = "from simat.server.decoding import main; main()"
_PASSED = ("PATH", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "SYSTEMROOT")


class Room:
    """Counts the bytes of pictures that somebody still uses.

    Args:
        most: bytes above which there is no room.
    """

    def __init__(self, most: int) -> None:
        self._most, self._filled = most, 0
        # Reentrant: a picture may be collected, and counted out, by the very thread that holds the lock.
        self._changed = threading.Condition(threading.RLock())

    def wait(self, seconds: float) -> bool:
        """Wait for room; whether there is some."""
        with self._changed:
            return self._changed.wait_for(lambda: self._filled < self._most, seconds)

    def fill(self, picture: Image.Image, size: int) -> None:
        """Count a picture until nobody uses it any more."""
        with self._changed:
            self._filled += size
        weakref.finalize(picture, self._empty, size).atexit = False

    def _empty(self, size: int) -> None:
        with self._changed:
            self._filled -= size
            self._changed.notify_all()


class Decoder:
    """Decodes untrusted files; safe to share between threads. Its processes start when they are first needed.

    Args:
        pixels: width × height of a picture at most.
        seconds: of processor time for one picture; three times that on the wall.
        workers: processes; that many pictures are decoded at once.
        waiting: seconds for which a picture waits for a process, and for room.
        held: bytes of decoded pictures that may be in use at once; the next one waits.
    """

    def __init__(
        self, pixels: int, seconds: float = 10.0, workers: int = 2, waiting: float = 30.0, held: int = HELD
    ) -> None:
        self._pixels, self._seconds, self._waiting = pixels, seconds, waiting
        self._room = Room(held)
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()  # the last one used is warm
        self._closed = False
        self._threads = ThreadPoolExecutor(THREADS, "simat-decode")  # of its own: others may be taken for long
        for _ in range(workers):
            self._slots.put(None)

    def decode(self, data: bytes) -> Image.Image:
        """An upright RGB picture: what :func:`simat.images.decode` gives, or the error that it raises.

        Raises:
            ImageError: no image we read, over a limit, or one that took a decoder down.
            Busy: all processes were busy for too long.
        """
        if not data:
            raise ImageError("the file is empty")
        if not self._room.wait(self._waiting):
            raise Busy("too many great pictures at once", remedy="try again, or send smaller ones", retry_after=5.0)
        worker = self._take()
        alive = False
        try:
            header, picture = worker.decode(data)
            alive = True
        except (EOFError, OSError) as error:
            raise ImageError("the image cannot be decoded safely", got=worker.obituary()) from error
        finally:
            self._give(worker if alive else None)
        made = self._picture(header, picture)
        self._room.fill(made, len(picture))
        return made

    async def decoded(self, data: bytes) -> Image.Image:
        """As :meth:`decode`, for a coroutine."""
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.decode, data)

    def close(self) -> None:
        """End the processes; those that work end with their picture."""
        self._closed = True
        self._threads.shutdown(wait=False)
        with contextlib.suppress(queue.Empty):
            while True:
                worker = self._slots.get_nowait()
                if worker is not None:
                    worker.stop()

    def _take(self) -> _Worker:
        self._check_open()
        try:
            worker = self._slots.get(timeout=self._waiting)
        except queue.Empty:
            raise Busy("too many pictures at once", remedy="try again", retry_after=self._seconds) from None
        if worker is not None and worker.alive:
            return worker
        try:
            if worker is not None:
                worker.stop()
            return _Worker(self._pixels, self._seconds)
        except (EOFError, OSError) as error:
            self._slots.put(None)
            raise Busy("no decoder could be started", got=error, remedy="look at the memory of the machine") from error

    def _check_open(self) -> None:
        if self._closed:
            raise Busy("the server is shutting down")

    def _give(self, worker: _Worker | None) -> None:
        if self._closed and worker is not None:
            worker.stop()
        else:
            self._slots.put(worker)

    def _picture(self, header: bytes, picture: bytes) -> Image.Image:
        """Nothing that a worker says is trusted: a file may have taken it over."""
        try:
            told = _Header(**json.loads(header))
        except (ValueError, TypeError):
            raise ImageError("the image cannot be decoded safely", got="no answer of a decoder") from None
        if told.what is not None:
            raise ImageError(str(told.what), got=told.got, remedy=told.remedy)
        size = told.width, told.height
        if min(size) < 1 or told.width * told.height > self._pixels or len(picture) != told.width * told.height * 3:
            raise ImageError("the image cannot be decoded safely", got=f"{size[0]} × {size[1]}")
        return Image.frombuffer("RGB", size, picture, "raw", "RGB", 0, 1)


@dataclass(frozen=True)
class _Header:
    width: int = 0
    height: int = 0
    what: str | None = None
    got: str | None = None
    remedy: str | None = None

    def __post_init__(self) -> None:
        if type(self.width) is not int or type(self.height) is not int:
            raise TypeError


class _Worker:
    """One process and the socket to it."""

    def __init__(self, pixels: int, seconds: float) -> None:
        self._most, self._seconds = pixels * 3, seconds
        self._connection, theirs = Pipe()
        arguments = [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), str(pixels), str(seconds)]
        environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
        self._process = subprocess.Popen(
            arguments,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # image libraries complain there, in words of the file's own choosing
            env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        theirs.close()
        try:
            with self._killed_after(START_S):
                self._connection.recv_bytes(len(READY))
        except (EOFError, OSError):
            self.stop()
            raise

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def decode(self, data: bytes) -> tuple[bytes, bytes]:
        """Header and pixels of a file.

        Raises:
            EOFError, OSError: the process died, was killed since it took too long, or sent too much.
        """
        with self._killed_after(PATIENCE * self._seconds):
            self._connection.send_bytes(data)
            return self._connection.recv_bytes(HEADER), self._connection.recv_bytes(self._most)

    def obituary(self) -> str:
        """End the process, and tell how it ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        self.stop()
        code = self._process.returncode
        if code in (-signal.SIGPROF, -signal.SIGKILL):
            return "a file that takes too much time or memory"
        return f"a file that ended its decoder with code {code}"

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        self._connection.close()

    @contextlib.contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        timer = threading.Timer(seconds, self._process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
