"""The frontier of recall, latency and memory of an index, and the setting on it that serves best."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float16, Int64

from indexing.generations import changing
from indexing.recall import QUERIES, K, Measured, exact_neighbours
from indexing.sampling import held_back
from indexing.settings import GAIN, Search, search_settings
from simat.embeddings import EmbeddingSet
from simat.encoders.runtime import RuntimeOptions
from simat.errors import BuildError, QueryError
from simat.manifest import IndexManifest, read_index_manifest
from simat.progress import Progress, Silent
from simat.searcher import RERANK, open_shards
from simat.selection import Selection
from simat.tombstones import read_removed
from simat.vectorstore import VectorStore

TIMED = 40  # queries, one at a time
WARM = 5
ENOUGH = 0.9995  # of recall: nothing beyond it is looked at


@dataclass(frozen=True)
class Setting:
    """How an index answers under one setting.

    Attributes:
        search: the parameters.
        recall: recall@10 against exact search.
        p50_ms: median time of one query, alone.
        p90_ms: nine of ten queries take less.
        memory: bytes that should stay in memory: the shards.
        reread: bytes of stored vectors that a query for ten reads beside them.
    """

    search: Search
    recall: float
    p50_ms: float
    p90_ms: float
    memory: int
    reread: int


@dataclass(frozen=True)
class Tuned:
    """The settings that were looked at, and the one to take.

    Attributes:
        settings: by number of candidates scored again, then by effort.
        chosen: the quickest that reaches the target; the one of best recall where none does.
        reached: whether it does.
        recall: of the chosen one, on queries that it was not chosen by; with the number of these.
        now: the parameters that the index has.
    """

    settings: tuple[Setting, ...]
    chosen: Setting
    reached: bool
    recall: dict[str, float]
    now: Search

    def frontier(self) -> list[Setting]:
        """The settings than which no other is both quicker and of better recall, the quickest first."""
        best, kept = -1.0, []
        for setting in sorted(self.settings, key=lambda s: (s.p50_ms, -s.recall)):
            if setting.recall > best:
                best = setting.recall
                kept.append(setting)
        return kept

    def document(self) -> dict[str, Any]:
        """Its stable JSON form."""
        frontier = self.frontier()
        return {
            "settings": [{**asdict(setting), "frontier": setting in frontier} for setting in self.settings],
            "chosen": asdict(self.chosen),
            "reached": self.reached,
            "recall": self.recall,
            "now": self.now,
        }


def tune_index(
    folder: Path,
    target: float,
    queries: int = QUERIES,
    options: RuntimeOptions | None = None,
    progress: Progress | None = None,
    apply: bool = False,
) -> Tuned:
    """Measure an index under settings from fast to exact; half of the queries choose, the others report.

    Args:
        folder: the index.
        target: recall@10 wanted.
        queries: images of the index to search for; they find each other, not themselves.
        options: how many threads search.
        progress: told how far it is.
        apply: write the chosen setting into the index, as its next generation.

    Raises:
        QueryError: a target outside (0, 1], or fewer than two queries.
        BuildError: fewer than three images, or another process changes the index.
        StorageError: no index, half built, damaged, or of a newer format.
    """
    if not 0 < target <= 1:
        raise QueryError("the recall must lie in (0, 1]", got=target)
    if queries < 2:
        raise QueryError("it takes at least two queries to tune", got=queries)
    progress = progress or Silent()
    manifest = read_index_manifest(folder)
    measured = _measured(folder, manifest, queries, (options or RuntimeOptions()).cores, progress)
    half = len(measured.ids) // 2
    found = tuple(_settings(measured, slice(0, half), sum(entry.bytes for entry in manifest.shards), progress))
    fast = [setting for setting in found if setting.recall >= target]
    chosen = min(fast, key=lambda s: s.p50_ms) if fast else max(found, key=lambda s: (s.recall, -s.p50_ms))
    report = {
        f"recall@{K}": round(measured.recall(chosen.search, slice(half, None)), 4),
        "queries": len(measured.ids) - half,
    }
    tuned = Tuned(found, chosen, bool(fast), report, dict(manifest.search))
    if apply:
        _apply(folder, manifest, tuned)
    return tuned


def _measured(folder: Path, manifest: IndexManifest, queries: int, threads: int, progress: Progress) -> Measured:
    """Queries of the index with their neighbours among the images that are not removed."""
    import faiss

    faiss.omp_set_num_threads(threads)
    store = VectorStore.of(EmbeddingSet.of_index(folder, manifest))
    removed = read_removed(folder, manifest)
    live = ~removed if removed is not None else Selection.every(manifest.rows)
    ids = _queries(live, queries, int(manifest.config.get("seed", 0)))
    asked = store.take(ids).astype(np.float32)
    progress.start("exact", manifest.rows, "vectors")
    exact = exact_neighbours(asked, ids, _told(store, progress), rows=live)
    return Measured(open_shards(folder, manifest), store, threads, asked, ids, exact, removed)


def _queries(live: Selection, wanted: int, seed: int) -> Int64[np.ndarray, " q"]:
    """Random rows that are not removed: those that the build held back, where it had as many rows and queries."""
    drawn, _ = held_back(live.rows, wanted, 0, seed)
    ids = np.array([id for id in drawn.tolist() if id in live], np.int64)
    if len(ids) < 2:
        raise BuildError("too few images to tune on", got=live.count)
    return np.random.default_rng(seed).permutation(ids)


def _told(store: VectorStore, progress: Progress) -> Iterator[Float16[np.ndarray, "n d"]]:
    for block in store.blocks(0, store.rows):
        yield block
        progress.advance(len(block))


def _settings(measured: Measured, part: slice, memory: int, progress: Progress) -> Iterator[Setting]:
    ladders = search_settings(measured.indexes[0])
    progress.start("tune", sum(map(len, ladders)), "settings")
    for rising in ladders:
        before = 0.0
        for search in rising:
            setting = _setting(measured, search, part, memory)
            yield setting
            progress.advance(1)
            if setting.recall >= ENOUGH or setting.recall < before + GAIN:
                break
            before = setting.recall


def _setting(measured: Measured, search: Search, part: slice, memory: int) -> Setting:
    recall = measured.recall(search, part)
    milliseconds = _timed(measured, search)
    reread = search.get(RERANK, 0) * K * measured.store.dim * 2
    p50, p90 = (round(float(value), 4) for value in np.percentile(milliseconds, [50, 90]))
    return Setting(search, round(recall, 4), p50, p90, memory, reread)


def _timed(measured: Measured, search: Search) -> Sequence[float]:
    searcher, milliseconds = measured.searcher(search), []
    for number in range(WARM + TIMED):
        query = measured.queries[[number % len(measured.queries)]]
        started = time.perf_counter()
        searcher.search(query, K)
        milliseconds.append(1000 * (time.perf_counter() - started))
    return milliseconds[WARM:]


def _apply(folder: Path, measured: IndexManifest, tuned: Tuned) -> None:
    with changing(folder) as change:
        if change.manifest != measured:
            raise BuildError("the index was changed while it was measured", got=str(folder), remedy="tune it again")
        change.commit(replace(change.manifest, search=tuned.chosen.search, recall=tuned.recall))
