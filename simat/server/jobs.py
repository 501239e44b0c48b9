"""Long work: a bounded queue, a few threads, progress for whoever listens, results that are kept for a time."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from simat.errors import Busy, NotFound, StorageError
from simat.server.job import Job, State, Work
from simat.server.keeping import Kept, load, save

LOG = logging.getLogger("simat.jobs")
FINISHED_AT_MOST = 256  # whatever their age
SWEEP_S = 30.0
GUESS_S = 10.0  # how long a job takes, before one has ended
STOPPING_S = 10.0  # for the step that a cancelled job is in


class Jobs:
    """Runs jobs one after another, or a few at once; safe to share between threads.

    Args:
        workers: jobs that run at once.
        waiting: jobs that may wait; one more is refused.
        kept: seconds for which a finished job can be asked for.
        folder: where finished jobs are left by :meth:`close` and found again; None for nowhere.
    """

    def __init__(self, workers: int = 1, waiting: int = 16, kept: float = 3600.0, folder: Path | None = None) -> None:
        self._workers, self._waiting, self._kept, self._folder = workers, waiting, kept, folder
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}
        self._queue: deque[Job] = deque()
        self._threads: list[threading.Thread] = []
        self._idle, self._closed, self._usual = workers, False, GUESS_S
        if folder is not None:
            self._jobs.update((job.id, job) for job in self._found(folder))

    def submit(self, work: Work, kind: str, about: Mapping[str, str | None] | None = None) -> Job:
        """Hand in work.

        Args:
            work: is given what to call after, and what to ask before every step.
            kind: what is asked.
            about: kept with the job.

        Raises:
            Busy: too many are waiting, or the server shuts down; says when to try again.
        """
        with self._changed:
            if self._closed:
                raise Busy("the server is shutting down", retry_after=GUESS_S)
            self._queue = deque(job for job in self._queue if not job.state.is_final)
            if len(self._queue) >= self._waiting + self._idle:
                wait = self._usual * (len(self._queue) + 1) / self._workers
                raise Busy(
                    "too many jobs are waiting", got=len(self._queue), remedy="try again later", retry_after=wait
                )
            job = Job(work, kind, about or {})
            self._jobs[job.id] = job
            self._queue.append(job)
            self._start_threads()
            self._changed.notify()
        return job

    def get(self, id: str) -> Job:
        """A job by its name.

        Raises:
            NotFound: there is none, or no longer.
        """
        with self._changed:
            self._forget_old()
            job = self._jobs.get(id)
        if job is None:
            raise NotFound("no such job", remedy=f"results are kept for {self._kept:g} seconds")
        return job

    def position(self, job: Job) -> int | None:
        """How many are before a job that waits; None for one that does not."""
        with self._changed:
            return self._queue.index(job) if job in self._queue else None

    def cancel(self, id: str) -> Job:
        """Cancel a job, or forget one that has ended.

        Raises:
            NotFound: as :meth:`get` does.
        """
        job = self.get(id)
        with self._changed:
            if job.state.is_final:
                self._forget(job)
            with contextlib.suppress(ValueError):
                self._queue.remove(job)
        job.cancel()
        return job

    @property
    def counts(self) -> dict[str, int]:
        """How many jobs are in which state."""
        with self._changed:
            states = [job.state for job in self._jobs.values()]
        return {str(state): states.count(state) for state in State}

    def close(self, patience: float = 30.0) -> None:
        """Take no more jobs, cancel those that wait, and give those that run ``patience`` seconds to end.

        What is finished is written to the folder, if there is one.
        """
        with self._changed:
            self._closed = True
            waiting = [*self._queue]
            self._queue.clear()
            self._changed.notify_all()
        for job in waiting:
            job.cancel("the server shut down before the job began")
        self._join(patience)
        for job in [*self._jobs.values()]:
            if job.state is State.RUNNING:
                job.cancel()
        self._join(STOPPING_S)
        self._leave()

    def _start_threads(self) -> None:
        while len(self._threads) < self._workers:
            thread = threading.Thread(target=self._work, name=f"simat-job-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            begun = time.monotonic()
            job.run()
            with self._changed:
                self._idle += 1
                self._usual = 0.7 * self._usual + 0.3 * (time.monotonic() - begun)
            del job  # or its answer stays until the next one

    def _next(self) -> Job | None:
        with self._changed:
            while not self._queue:
                if self._closed:
                    return None
                self._changed.wait(SWEEP_S)
                self._forget_old()
            self._idle -= 1
            return self._queue.popleft()

    def _forget_old(self) -> None:
        finished = [job for job in self._jobs.values() if job.finished is not None]
        finished.sort(key=lambda job: job.finished or 0.0, reverse=True)
        until = time.time() - self._kept
        for place, job in enumerate(finished):
            if place >= FINISHED_AT_MOST or (job.finished or 0.0) < until:
                self._forget(job)

    def _forget(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        if self._folder is not None:
            shutil.rmtree(self._folder / job.id, ignore_errors=True)

    def _join(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _leave(self) -> None:
        for job in self._jobs.values():
            if self._folder is None or job.answer is None or (self._folder / job.id).is_dir():
                continue
            try:
                save(self._folder, Kept(job.id, job.kind, job.finished or time.time(), job.answer, job.about))
            except (StorageError, OSError) as error:
                LOG.warning("a finished job is lost: %s", error)

    def _found(self, folder: Path) -> Iterator[Job]:
        until = time.time() - self._kept
        for place in sorted(folder.iterdir()) if folder.is_dir() else ():
            try:
                kept = load(place)
            except StorageError as error:
                LOG.warning("%s", error)
                continue
            if kept.finished >= until and kept.id == place.name:
                yield Job.of(kept)
            else:
                shutil.rmtree(place, ignore_errors=True)
