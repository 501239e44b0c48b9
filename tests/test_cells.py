"""Inverted lists that several shards share are found once, and what is in them as before."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import pytest
from helpers import unit_noise
from hypothesis import given
from hypothesis import strategies as st
from test_searcher_selected import flat, made

from simat.cells import Cells, shared_quantizers
from simat.searcher import Searcher, search_parameters
from simat.selection import Selection
from simat.vectors import merge_hits

pytestmark = pytest.mark.usefixtures("one_faiss_thread")
DIM, ROWS, LISTS, EDGES = 16, 1800, 8, (0, 700, 1000, 1800)
SHARING = [f"IVF{LISTS},{codes}" for codes in ("Flat", "SQ8", "SQfp16", "PQ4np", "PQ4x4fs", "RaBitQ", "RaBitQfs")]


def parts(factory: str, vectors: np.ndarray) -> list[Any]:
    """Shards of one training."""
    trained = faiss.index_factory(DIM, factory, faiss.METRIC_INNER_PRODUCT)
    trained.train(vectors)
    shards = [faiss.clone_index(trained) for _ in EDGES[1:]]
    for shard, first, end in zip(shards, EDGES, EDGES[1:], strict=False):
        shard.add(vectors[first:end])
    return shards


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return unit_noise(0, ROWS, DIM).astype(np.float32)


@pytest.fixture(scope="module", params=SHARING)
def shards(request: pytest.FixtureRequest, vectors: np.ndarray) -> list[faiss.Index]:
    return parts(request.param, vectors)


def apart(shards: list[faiss.Index], queries: np.ndarray, k: int, nprobe: int, selectors: list[Any]) -> Any:
    """What FAISS finds in every shard by itself, merged."""
    found = [
        shard.search(queries, k, params=search_parameters(shard, {"nprobe": nprobe}, selector))
        for shard, selector in zip(shards, selectors, strict=True)
    ]
    ids = [np.where(rows >= 0, rows + first, -1) for (_, rows), first in zip(found, EDGES, strict=False)]
    scores = [np.where(rows >= 0, scores, -np.inf).astype(np.float32) for scores, rows in found]
    return merge_hits(np.concatenate(ids, 1), np.concatenate(scores, 1), k)


@given(nprobe=st.integers(1, LISTS + 3), k=st.integers(1, 60), count=st.integers(1, 5), threads=st.integers(1, 4))
def test_a_search_finds_what_each_shard_finds_by_itself(
    shards: list[faiss.Index], vectors: np.ndarray, nprobe: int, k: int, count: int, threads: int
) -> None:
    searcher = Searcher(shards, {"nprobe": nprobe}, threads)
    assert all(quantizer is not None for quantizer in searcher._quantizers)
    queries = unit_noise(k, count, DIM).astype(np.float32)
    hits, wanted = searcher.search(queries, k), apart(shards, queries, k, nprobe, [None] * 3)
    np.testing.assert_array_equal(hits.scores, wanted.scores)
    np.testing.assert_array_equal(hits.ids, wanted.ids)


def test_selected_rows_are_found_as_by_shards_without_others(shards: list[faiss.Index], vectors: np.ndarray) -> None:
    """Every shard looks into more lists the fewer of its rows are selected."""
    mask = np.random.default_rng(1).random(ROWS) < np.repeat([0.9, 0.3, 0.6], np.diff(EDGES))
    together, alone = Searcher(shards, {"nprobe": 2}, 2), Searcher(shards, {"nprobe": 2}, 2)
    alone._quantizers = [None] * 3
    hits, wanted = (one.search(vectors[:9], 20, Selection.of(mask)) for one in (together, alone))
    np.testing.assert_array_equal(hits.ids, wanted.ids)
    np.testing.assert_array_equal(hits.scores, wanted.scores)
    assert mask[hits.ids].all()


def test_only_shards_of_one_training_share(vectors: np.ndarray) -> None:
    one, other = parts("IVF8,Flat", vectors), parts("IVF8,SQ8", vectors[::-1].copy())
    found = shared_quantizers([one[0], other[0], one[1], other[1], made("IVF8,Flat", vectors[:500])])
    assert found[4] is None
    assert found[0] is found[2] is not None and found[1] is found[3] is not None and found[0] is not found[1]


@pytest.mark.parametrize("factory", ["Flat", "SQ8", "HNSW8", "PCA8,IVF8,Flat", "IVF8_HNSW4,Flat", "IVF8,RQ2x4fsr_32"])
def test_other_kinds_of_index_share_nothing(factory: str, vectors: np.ndarray) -> None:
    assert shared_quantizers(parts(factory, vectors)) == [None] * 3


def test_lists_of_the_distance_between_points_are_not_those_of_products(vectors: np.ndarray) -> None:
    trained = faiss.index_factory(DIM, "IVF8,Flat", faiss.METRIC_L2)
    trained.train(vectors)
    assert shared_quantizers([trained, faiss.clone_index(trained)]) == [None, None]


def test_shards_that_stand_alone_share_nothing(vectors: np.ndarray) -> None:
    assert shared_quantizers(parts("IVF8,Flat", vectors)[:1]) == [None]
    assert shared_quantizers([flat(vectors), *parts("IVF8,Flat", vectors)[:1]]) == [None, None]


class Counting:
    """A quantizer that counts how often it is asked."""

    def __init__(self, quantizer: Any) -> None:
        self._quantizer, self.asked = quantizer, list[int]()

    def search(self, queries: np.ndarray, count: int) -> Any:
        self.asked.append(count)
        return self._quantizer.search(queries, count)


def test_lists_are_looked_for_once(vectors: np.ndarray) -> None:
    shards = parts("IVF8,Flat", vectors)
    counting = Counting(shards[0].quantizer)
    cells = Cells(counting, vectors[:3])
    with ThreadPoolExecutor(4) as pool:
        for nprobe in (3, 3, 2, 5):
            parameters = search_parameters(shards[0], {"nprobe": nprobe})
            found = [*pool.map(lambda shard, given=parameters: cells.search(shard, 7, given), shards)]
            for shard, (scores, rows) in zip(shards, found, strict=True):
                wanted = shard.search(vectors[:3], 7, params=parameters)
                np.testing.assert_array_equal(scores, wanted[0])
                np.testing.assert_array_equal(rows, wanted[1])
    assert counting.asked == [3, 5]


@pytest.fixture(scope="module")
def doubled(vectors: np.ndarray) -> list[faiss.Index]:
    """Shards whose centroids come three times each, as training on many copies of few pictures may leave them."""
    trained = faiss.index_factory(DIM, "IVF360,Flat", faiss.METRIC_INNER_PRODUCT)
    faiss.extract_index_ivf(trained).quantizer.add(np.repeat(vectors[:120], 3, axis=0))
    trained.is_trained = True
    shards = [faiss.clone_index(trained) for _ in range(2)]
    for shard, some in zip(shards, np.split(vectors, 2), strict=True):
        shard.add(some)
    return shards


@given(counts=st.lists(st.integers(1, 360), min_size=1, max_size=4), queries=st.sampled_from([1, 2, 30]))
def test_lists_that_tie_are_those_of_a_search_by_itself(
    doubled: list[faiss.Index], vectors: np.ndarray, counts: list[int], queries: int
) -> None:
    """Whoever looked before, and into however many: else answers would hang on which thread comes first."""
    cells = Cells(shared_quantizers(doubled)[0], vectors[:queries])
    for count in counts:
        parameters = search_parameters(doubled[1], {"nprobe": count})
        wanted = doubled[1].search(vectors[:queries], 5, params=parameters)
        for got, expected in zip(cells.search(doubled[1], 5, parameters), wanted, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_a_search_of_more_lists_than_there_are_looks_into_all(shards: list[faiss.Index], vectors: np.ndarray) -> None:
    """A fast scan believes that as many were found for it as its parameters say."""
    queries = vectors[:9]
    wanted = shards[0].search(queries, 5, params=search_parameters(shards[0], {"nprobe": LISTS}))
    parameters = search_parameters(shards[0], {"nprobe": 1000 * LISTS})
    got = Cells(shared_quantizers(shards)[0], queries).search(shards[0], 5, parameters)
    np.testing.assert_array_equal(got[0], wanted[0])
    np.testing.assert_array_equal(got[1], wanted[1])


def test_a_quantizer_keeps_the_shard_whose_memory_it_is_in(vectors: np.ndarray) -> None:
    """A thread may be searching another shard still when nobody else knows of this one any more."""
    shards = parts("IVF8,Flat", vectors)
    quantizer, first = shared_quantizers(shards)[1], weakref.ref(shards[0])
    del shards
    gc.collect()
    assert first() is not None
    del quantizer
    gc.collect()
    assert first() is None
