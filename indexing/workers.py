"""A pool of decoder processes that no file can take down.

Results come back in the order of the files. A worker that dies or hangs is replaced; its chunk is tried again file
by file, and the one file that kills a worker on its own is reported as undecodable.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

import numpy as np
from jaxtyping import UInt8

from indexing.decoder import Decoded
from simat.images import ImageTransform

Pixels = UInt8[np.ndarray, "_ _ 3"]  # pictures of one list differ in size
Outcome = tuple[Decoded, Pixels | None]

CHUNK = 16  # files per message: small messages, few of them
CHUNK_WHOLE = 2  # where whole pictures travel instead of small frames
AHEAD = 2  # messages a worker has at hand, so that it never waits for the next
TIMEOUT_S = 120.0  # for one message


@dataclass
class Task:
    """A run of files, and what became of them."""

    paths: tuple[str, ...]
    outcomes: list[Outcome] | None = None


@dataclass
class Worker:
    """A decoder process, the messages it has been sent, and since when it works on the first."""

    process: subprocess.Popen[bytes]
    connection: Connection
    tasks: deque[Task] = field(default_factory=deque)
    since: float = 0.0

    @classmethod
    def start(cls, transform: ImageTransform | None) -> Worker:
        """Start a process; it inherits one end of a socket and nothing else."""
        ours, theirs = Pipe()
        # -P: or else a numpy.py in the folder it is started in would be run.
        program = "from indexing.decoder import main; main()"
        arguments = [sys.executable, "-P", "-c", program, str(theirs.fileno())]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(arguments, pass_fds=[theirs.fileno()], env=environment)
        theirs.close()
        ours.send(transform)
        return cls(process, ours)

    def give(self, task: Task) -> None:
        """Send a task; a dead worker is noticed when its answer is awaited."""
        if not self.tasks:
            self.since = time.monotonic()
        self.tasks.append(task)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(task.paths)

    def take(self) -> None:
        """Receive the answer to the oldest task.

        Raises:
            EOFError, OSError: the process died.
        """
        records: list[Decoded] = self.connection.recv()
        buffer = self.connection.recv_bytes()
        self.tasks.popleft().outcomes = list(_unpack(records, buffer))
        self.since = time.monotonic()

    def stop(self) -> None:
        """Kill the process and forget its tasks."""
        self.process.kill()
        self.process.wait()
        self.connection.close()

    def obituary(self) -> str:
        """How a process ended that closed its connection, or that is still there and has to be killed."""
        try:
            return f"the decoder ended with code {self.process.wait(timeout=0 if self._hung else 10)}"
        except subprocess.TimeoutExpired:
            return f"the decoder took longer than {TIMEOUT_S:.0f} s"

    @property
    def _hung(self) -> bool:
        return bool(self.tasks) and time.monotonic() - self.since > TIMEOUT_S


class DecodePool:
    """``count`` decoder processes; a context manager, which stops them.

    Args:
        transform: what the workers make of a picture; None for the whole picture.
    """

    def __init__(self, count: int, transform: ImageTransform | None) -> None:
        self._transform = transform
        self._chunk = CHUNK if transform else CHUNK_WHOLE
        self._workers = [Worker.start(transform) for _ in range(count)]

    def __enter__(self) -> DecodePool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.stop()

    def decode(self, paths: Iterable[str]) -> Iterator[Outcome]:
        """Decode files, in their order; at most a few chunks per worker are held at any time."""
        files = iter(paths)
        chunks = (Task(chunk) for chunk in iter(lambda: tuple(islice(files, self._chunk)), ()))
        limit = (AHEAD + 2) * len(self._workers)
        pending: deque[Task] = deque()
        while True:
            for task in islice(chunks, limit - len(pending)):
                pending.append(task)
                min(self._workers, key=lambda worker: len(worker.tasks)).give(task)
            if not pending:
                return
            while pending[0].outcomes is None:
                self._receive()
            yield from pending.popleft().outcomes or ()

    def _receive(self) -> None:
        busy = [worker for worker in self._workers if worker.tasks]
        ready = wait([worker.connection for worker in busy], timeout=1.0)
        for worker in busy:
            try:
                if worker.connection in ready:
                    worker.take()
                elif time.monotonic() - worker.since > TIMEOUT_S:
                    self._replace(worker)
            except (EOFError, OSError):
                self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        fresh = Worker.start(self._transform)
        self._workers[self._workers.index(worker)] = fresh
        reason = worker.obituary()
        worker.stop()
        first, *others = worker.tasks
        if len(first.paths) == 1:
            first.outcomes = [(Decoded(reason=reason), None)]
        else:
            first.outcomes = [outcome for path in first.paths for outcome in self._alone(path)]
        for task in others:
            fresh.give(task)

    def _alone(self, path: str) -> list[Outcome]:
        """Decode one suspect in a process of its own."""
        suspect, task = Worker.start(self._transform), Task((path,))
        suspect.give(task)
        try:
            if wait([suspect.connection], timeout=TIMEOUT_S):
                suspect.take()
        except (EOFError, OSError):
            pass
        reason = "" if task.outcomes else suspect.obituary()
        suspect.stop()
        return task.outcomes or [(Decoded(reason=reason), None)]


def _unpack(records: list[Decoded], buffer: bytes) -> Iterator[Outcome]:
    start = 0
    for record in records:
        if record.reason is not None:
            yield record, None
            continue
        size = int(np.prod(record.shape))
        yield record, np.frombuffer(buffer, np.uint8, size, start).reshape(record.shape)
        start += size
