"""Embedding on a Ray cluster: Ray Data's actors embed one part each, this process settles them in order.

The parts are those of a local build, byte for byte (where an image's vector does not depend on the others of its
batch): ids and copies of files in other parts are settled here. A killed build goes on at the first part that is not
written, on either engine. Where a machine is lost, what its workers were at is done again by those that are left.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexing.config import BuildConfig, Machine
from indexing.embed import Embedded, Embedder, SeenFiles
from indexing.ray_cluster import Crew, connected, living, require_ray
from indexing.ray_worker import Part, PartWorker, Setup, packed_paths, unpacked
from indexing.scan import read_scan
from simat.errors import BuildError
from simat.progress import Progress
from simat.types import ImageEncoder

WAVE = 2048  # parts handed to the cluster at a time, and no more than so many files, or one part:
WAVE_FILES = 2**24  # both bound what this process holds of the list of files
PATIENCE = 3  # times that workers may be lost without a part finished in between


class RayEmbedder(Embedder):
    """As :class:`Embedder`, on the machines of a Ray cluster.

    Args:
        folder: where the parts go; only this process sees it.
        root: what the paths of the scan are relative to, on every machine.
        encoder: what this process has loaded.
        config: encoder, precision and files per part.
        machine: address of the cluster, device and decoders.
        send: send the encoder to the other machines, which else load it by its spec.
    """

    def __init__(
        self, folder: Path, root: Path, encoder: ImageEncoder, config: BuildConfig, machine: Machine, send: bool
    ) -> None:
        super().__init__(folder, root, encoder, config.part_size)
        self._config, self._machine, self._send = config, machine, send

    def _fill(
        self, scan: Path, starts: Sequence[int], workers: int, seen: SeenFiles, done: Embedded, progress: Progress
    ) -> None:
        if not starts:
            return
        before, lost = len(done.parts), 0
        wave = min(WAVE, max(1, WAVE_FILES // self._part_size))
        with connected(self._machine.address, self._machine.runtime(self._config.precision).cores):
            while todo := starts[len(done.parts) - before :]:
                reached = len(done.parts)
                try:
                    with closing(self._embedded(scan, todo[:wave], progress)) as parts:  # the stream ends before Ray
                        for part in parts:
                            self._take(part, seen, done)
                            progress.advance(len(part.rows) + len(part.rejected))
                except lost_workers() as error:
                    lost = 1 if len(done.parts) > reached else lost + 1
                    if lost == PATIENCE:
                        raise _given_up(error) from error
                    progress.note(f"workers were lost: going on with the machines that are left ({_reason(error)})")

    def _embedded(self, scan: Path, starts: Sequence[int], progress: Progress) -> Generator[Part, None, None]:
        """The parts that begin at ``starts``, in order, as the cluster finishes them."""
        ray = require_ray()
        crew = Crew.of(living(), self._machine.device)
        options = replace(self._machine.runtime(self._config.precision), threads=self._machine.threads or crew.threads)
        setup = Setup(
            str(self._root),
            self._encoder.space,
            self._encoder if self._send else self._config.spec,
            options,
            self._machine.workers or crew.threads,
        )
        progress.note(f"{crew.size} workers of {crew.threads} cores{' and a GPU' if crew.gpus else ''} each")
        with _quietly_in_order():
            orders = [packed_paths(read_scan(scan, start, start + self._part_size)) for start in starts]
            tables = (
                ray.data.from_arrow(orders)
                .map_batches(
                    PartWorker,
                    fn_constructor_args=(setup,),
                    batch_size=None,
                    batch_format="pyarrow",
                    zero_copy_batch=True,
                    compute=ray.data.ActorPoolStrategy(size=min(crew.size, len(starts))),
                    num_cpus=crew.cpus,
                    num_gpus=crew.gpus,
                    scheduling_strategy="SPREAD",
                    # Ray would wait for a worker's machine to come back: here its parts are begun again elsewhere.
                    max_restarts=0,
                    max_task_retries=0,
                )
                .iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
            )
            for table in tables:
                yield from unpacked(table)

    def _take(self, part: Part, seen: SeenFiles, done: Embedded) -> None:
        """Settle the next part: its ids, and which of its files are copies of files in earlier parts."""
        first = done.rows
        sources = np.array([seen.first(row.sha256, first + i) for i, row in enumerate(part.rows)], np.int64)
        copies = sources < first
        vectors = np.array(part.vectors)
        if copies.any():
            vectors[copies] = self._earlier(done).vectors(sources[copies])
        duplicates = int(np.sum(sources != first + np.arange(len(sources))))
        self._settle(part.rows, part.rejected, vectors, duplicates, done)


def lost_workers() -> tuple[type[Exception], ...]:
    """What Ray raises where a worker, its machine, or what lay in its memory is gone."""
    from ray import exceptions

    lost = (exceptions.RayActorError, exceptions.ObjectLostError, exceptions.WorkerCrashedError)
    return (*lost, exceptions.NodeDiedError)


def _given_up(error: Exception) -> BuildError:
    return BuildError(
        f"workers were lost {PATIENCE} times before any could finish a part",
        got=_reason(error),
        remedy="look at the machines' memory, or make parts smaller; the same command goes on where it was",
    )


def _reason(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextmanager
def _quietly_in_order() -> Iterator[None]:
    """Ray Data's settings for this stream alone; they are the process's."""
    import ray.data

    context = ray.data.DataContext.get_current()
    ours = {"enable_progress_bars": False, "print_on_execution_start": False}
    known = {name: getattr(context, name) for name in ours if hasattr(context, name)}
    order, log = context.execution_options.preserve_order, logging.getLogger("ray.data")
    level = log.level
    try:
        for name in known:
            setattr(context, name, ours[name])
        context.execution_options.preserve_order = True
        log.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():  # that restarts and scheduling shall have other names from Ray 2.64 on
            warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")
            yield
    finally:
        for name, value in known.items():
            setattr(context, name, value)
        context.execution_options.preserve_order = order
        log.setLevel(level)
