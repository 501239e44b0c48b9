"""From an embedding set to FAISS shards: train once, add shard by shard, tune and measure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, Int64

from indexing.accelerated import adder, train
from indexing.config import BuildConfig
from indexing.factory import empty_index, training_size
from indexing.plan import TOLD, plan_build
from indexing.recall import QUERIES, K, Measured, exact_neighbours
from indexing.sampling import held_back
from indexing.settings import first_to_reach, search_settings
from simat.embeddings import EmbeddingSet
from simat.errors import BuildError
from simat.files import atomic, remove_leftovers
from simat.manifest import FileEntry
from simat.progress import Progress
from simat.vectorstore import VectorStore

TRAINED = "trained.faiss"  # empty and trained, for all shards of an unfinished build


@dataclass(frozen=True)
class Shards:
    """The shards of an index, how to search them, and how well that finds."""

    entries: tuple[FileEntry, ...]
    search: Mapping[str, int]
    recall: Mapping[str, float]


class ShardBuilder:
    """Builds the shards of one index in ``folder``; finished shards of a killed run are kept.

    Args:
        folder: where ``shard-*.faiss`` go.
        embeddings: the vectors.
        config: with a resolved factory.
        threads: CPU threads for FAISS.
        gpus: devices that help it, of :func:`simat.gpu.parse_devices`.

    Attributes:
        plan: what the work will take.

    Raises:
        BuildError: it does not fit into ``config.build_memory``.
    """

    def __init__(
        self,
        folder: Path,
        embeddings: EmbeddingSet,
        config: BuildConfig,
        threads: int,
        gpus: Sequence[int] = (),
    ) -> None:
        self._folder, self._config, self._threads, self._gpus = folder, config, threads, gpus
        self._store = VectorStore.of(embeddings)
        self._rows, self._dim = self._store.rows, self._store.dim
        self._empty = empty_index(self._dim, config.factory)
        self.plan = plan_build(self._rows, self._empty, config.shard_size, config.build_memory, threads)
        self._queries, self._sample = held_back(self._rows, QUERIES, self.plan.sample, config.seed)

    def run(self, progress: Progress) -> Shards:
        """Build what is missing, then tune and measure."""
        import faiss

        faiss.omp_set_num_threads(self._threads)
        remove_leftovers(self._folder)
        if self._rows >= TOLD:
            progress.note(self.plan.told(self._rows, self._dim, self._config.factory))
        trained = self._trained(progress)
        progress.start("shard", self._rows, "vectors")
        entries = tuple(
            self._shard(number, start, trained, progress)
            for number, start in enumerate(range(0, self._rows, self.plan.shard_rows))
        )
        del trained
        indexes = [faiss.read_index(str(self._folder.parent / entry.name), faiss.IO_FLAG_MMAP_IFC) for entry in entries]
        return Shards(entries, *self._measure(indexes, progress))

    def _trained(self, progress: Progress) -> Any:
        """An empty, trained index, from the file of a killed run where there is one."""
        import faiss

        if not training_size(self._empty):
            return self._empty
        path = self._folder / TRAINED
        if not path.exists():
            sample = self._vectors(self._sample)
            progress.start("train", None, "vectors")
            with explained(f"FAISS cannot train {self._config.factory} on {len(sample)} vectors"):
                train(self._empty, sample, self._gpus)
                write_index(path, self._empty)
        return faiss.read_index(str(path))

    def _shard(self, number: int, start: int, trained: Any, progress: Progress) -> FileEntry:
        path = self._folder / f"shard-{number:05}.faiss"
        stop = min(start + self.plan.shard_rows, self._rows)
        if path.exists():
            progress.advance(stop - start)
        else:
            with explained(f"FAISS cannot make {path.name} of {self._config.factory}"):
                self._fill(path, start, stop, trained, progress)
        return FileEntry.of(self._folder.parent, f"{self._folder.name}/{path.name}", stop - start)

    def _fill(self, path: Path, start: int, stop: int, trained: Any, progress: Progress) -> None:
        import faiss

        index = faiss.clone_index(trained)
        add = adder(index, self._gpus)
        for block in self._store.blocks(start, stop):
            add(block.astype(np.float32))
            progress.advance(len(block))
        write_index(path, index)

    def _measure(self, indexes: list[Any], progress: Progress) -> tuple[dict[str, int], dict[str, float]]:
        """Tune on every second of the held-back queries, report on the others."""
        queries = self._vectors(self._queries)
        progress.start("measure", self._rows, "vectors")
        exact = exact_neighbours(queries, self._queries, self._watched(progress))
        measured = Measured(indexes, self._store, self._threads, queries, self._queries, exact)
        search = first_to_reach(
            self._config.target_recall,
            search_settings(indexes[0]),
            lambda search: measured.recall(search, slice(1, None, 2)),
        )
        recall = measured.recall(search, slice(0, None, 2))
        return search, {f"recall@{K}": round(recall, 4), "queries": len(queries[::2])}

    def _watched(self, progress: Progress) -> Iterator[Float16[np.ndarray, "n d"]]:
        for block in self._store.blocks(0, self._rows):
            yield block
            progress.advance(len(block))

    def _vectors(self, ids: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
        """Stored vectors of sorted ids, in one pass over the parts."""
        taken, first = [], 0
        for block in self._store.blocks(0, self._rows):
            low, high = np.searchsorted(ids, [first, first + len(block)])
            taken.append(block[ids[low:high] - first].astype(np.float32))
            first += len(block)
        return np.concatenate(taken)


def write_index(path: Path, index: Any) -> None:
    """Write a FAISS index, whole or not at all.

    Raises:
        OSError: the disk is full; of files that FAISS opens itself, it does not tell that their last bytes did not fit.
    """
    import faiss

    errors: list[OSError] = []
    with atomic(path) as temporary, temporary.open("wb") as file:

        def write(data: bytes) -> None:
            try:
                _ = errors or file.write(data)
            except OSError as error:  # FAISS would make an error of its own of it
                errors.append(error)

        faiss.write_index(index, faiss.PyCallbackIOWriter(write))  # type: ignore[attr-defined]
        if errors:
            raise errors[0]


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn FAISS's errors into :class:`BuildError`."""
    try:
        yield
    except RuntimeError as error:
        # "Error in FUNCTION at FILE:LINE: Error: 'CONDITION' failed: REASON"
        reason = str(error).strip().splitlines()[-1].rpartition(" failed: ")[2]
        raise BuildError(what, got=reason, remedy="free some memory, or try --factory Flat") from error
