"""Searching among selected rows: cost and recall at 1, 10 and 50 %, chosen by chance or all from one side."""

from __future__ import annotations

import argparse
import time

import numpy as np
from jaxtyping import Float32, Int64

from benchmarks.clustered import Clustered
from benchmarks.common import Facts, cores, median, parser, run, temporary_folder
from benchmarks.scaling import write_set
from indexing.factory import empty_index, training_size
from simat import searcher as searcher_module
from simat.embeddings import EmbeddingSet
from simat.searcher import Searcher
from simat.selection import Selection
from simat.vectorstore import VectorStore

K, WARM_UP = 10, 5
SHARES = (0.01, 0.1, 0.5)
COUNTS = (1_000, 3_000, 10_000, 30_000)  # of selected rows, for the point where scoring them all is no longer quicker
SETTINGS = {"Flat": {}, "IVF{lists},SQ8": {"nprobe": 16}, "IVF{lists},RaBitQfs": {"nprobe": 16, "rerank": 8}}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--dim", type=int, default=128)
    arguments.add_argument("--queries", type=int, default=100)
    run(arguments, measure)


def measure(options: argparse.Namespace) -> Facts:
    """Every kind of index under every selection."""
    queries = Clustered(options.dim).queries(options.queries)
    with temporary_folder() as folder:
        write_set(folder / "embeddings", options.rows, options.dim)
        store = VectorStore.of(EmbeddingSet(folder / "embeddings"))
        flat = searched("Flat", store)
        lists = 2 ** round(np.log2(4 * np.sqrt(options.rows)))
        facts: Facts = {"rows": options.rows, "dim": options.dim}
        for factory in SETTINGS:
            searcher = flat if factory == "Flat" else searched(factory, store, lists)
            name = factory.partition(",")[2] or factory
            facts[name] = {**selections(searcher, flat, queries, store), **threshold(searcher, queries)}
    return facts


def searched(factory: str, store: VectorStore, lists: int = 0) -> Searcher:
    """One shard of all vectors."""
    import faiss

    index = faiss.IndexFlatIP(store.dim) if factory == "Flat" else empty_index(store.dim, factory.format(lists=lists))
    if wanted := training_size(index):
        rows = np.random.default_rng(0).permutation(store.rows)[:wanted]
        index.train(store.take(np.sort(rows)).astype(np.float32))
    for block in store.blocks(0, store.rows):
        index.add(block.astype(np.float32))
    return Searcher([index], SETTINGS[factory], cores(), vectors=store)


def selections(searcher: Searcher, flat: Searcher, queries: Float32[np.ndarray, "q d"], store: VectorStore) -> Facts:
    """Median time and recall among all rows, among rows at random, and among those on one side of the space."""
    everything = {"p50_ms": timed(searcher, queries, None), "recall@10": recall(searcher, flat, queries, None)}
    facts: Facts = {"all": everything}
    for share in SHARES:
        chance = np.random.default_rng(1).random(store.rows) < share
        for kind, mask in (("chance", chance), ("one_side", one_side(store, share))):
            among = Selection.of(mask)
            milliseconds = timed(searcher, queries, among)
            facts[f"{kind}_{share:g}"] = {
                "p50_ms": milliseconds,
                "cost": milliseconds / everything["p50_ms"],
                "recall@10": recall(searcher, flat, queries, among),
            }
    return facts


def one_side(store: VectorStore, share: float) -> np.ndarray:
    """The rows that lie farthest in one direction: a filter that goes with what pictures show."""
    direction = Clustered(store.dim, seed=1).block(0, 1)[0]
    heights = np.concatenate([block.astype(np.float32) @ direction for block in store.blocks(0, store.rows)])
    return np.asarray(heights >= np.quantile(heights, 1 - share))


def threshold(searcher: Searcher, queries: Float32[np.ndarray, "q d"]) -> Facts:
    """Median times of scoring all of few selected rows, and of searching the index among them."""
    if searcher.exact:
        return {}
    facts: Facts = {}
    before = searcher_module.FEW
    for count in COUNTS:
        rows = np.random.default_rng(2).permutation(searcher.rows)[:count]
        among, times = Selection.of_ids(rows, searcher.rows), {}
        for name, few in (("scored_ms", searcher.rows), ("searched_ms", 0)):
            searcher_module.FEW = few
            times[name] = timed(searcher, queries, among)
        facts[f"few_{count}"] = times
    searcher_module.FEW = before
    return facts


def timed(searcher: Searcher, queries: Float32[np.ndarray, "q d"], among: Selection | None) -> float:
    """Median milliseconds of one query at a time."""
    milliseconds = []
    for query in queries:
        started = time.perf_counter()
        searcher.search(query[None], K, among)
        milliseconds.append(1000 * (time.perf_counter() - started))
    return median(milliseconds[WARM_UP:])


def recall(searcher: Searcher, flat: Searcher, queries: Float32[np.ndarray, "q d"], among: Selection | None) -> float:
    """The share of the k best selected rows that is found."""
    found, wanted = ids(searcher, queries, among), ids(flat, queries, among)
    return float(np.mean([np.isin(a, b).sum() / max((b >= 0).sum(), 1) for a, b in zip(found, wanted, strict=True)]))


def ids(searcher: Searcher, queries: Float32[np.ndarray, "q d"], among: Selection | None) -> Int64[np.ndarray, "q k"]:
    """What is found; several at a time, for speed."""
    return searcher.search(queries, K, among).ids


if __name__ == "__main__":
    main()
