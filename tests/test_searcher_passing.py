"""Whenever k selected rows are there, k come back: from every kind of index, wherever the rows lie."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from building import vector_set
from helpers import unit_noise
from test_searcher_selected import SELECTING, SIFTED, flat, made

from simat import searcher as searcher_module
from simat.searcher import Searcher
from simat.selection import Selection
from simat.vectors import to_half, unit_rows
from simat.vectorstore import VectorStore

pytestmark = pytest.mark.usefixtures("one_faiss_thread")
DIM, ROWS = 16, 1500
FACTORIES = [*SELECTING, *SIFTED, "IVF64,PQ4x4fs", "HNSW4"]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Rows around 40 centres."""
    rng = np.random.default_rng(11)
    rows = unit_noise(1, 40, DIM)[rng.integers(0, 40, ROWS)] + 0.2 * rng.normal(size=(ROWS, DIM))
    return to_half(unit_rows(rows)).astype(np.float32)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, vectors: np.ndarray) -> VectorStore:
    return VectorStore.of(vector_set(tmp_path_factory.mktemp("set"), vectors))


@pytest.fixture(scope="module", params=FACTORIES)
def shards(request: pytest.FixtureRequest, vectors: np.ndarray) -> list[Any]:
    return [made(request.param, vectors[:900]), made(request.param, vectors[900:])]


def masks(vectors: np.ndarray, query: np.ndarray, share: float) -> Iterator[np.ndarray]:
    """So many rows by chance, and those that lie farthest from the query."""
    yield np.random.default_rng(5).random(ROWS) < share
    farthest = np.zeros(ROWS, bool)
    farthest[np.argsort(vectors @ query)[: int(share * ROWS)]] = True
    yield farthest


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("most", [0, ROWS])
def test_k_come_back_whenever_k_rows_pass(
    shards: list[Any], vectors: np.ndarray, store: VectorStore, share: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher_module, "FEW", 0)
    monkeypatch.setattr(searcher_module, "MANY", most)
    searcher = Searcher(shards, {"nprobe": 1, "efSearch": 4}, 2, vectors=store)
    queries = vectors[[7]]
    for mask in masks(vectors, queries[0], share):
        for k in (1, 10, 100, ROWS):
            (ids,) = searcher.search(queries, k, Selection.of(mask)).ids
            found = ids[ids >= 0]
            assert len(found) == len({*found.tolist()}) == min(k, mask.sum())
            assert mask[found].all()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_k_come_back_without_stored_vectors_too(
    shards: list[Any], vectors: np.ndarray, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = Searcher(shards, {"nprobe": 1, "efSearch": 4}, 2)
    queries = vectors[[7]]
    for mask in masks(vectors, queries[0], share):
        (ids,) = searcher.search(queries, 10, Selection.of(mask)).ids
        assert (ids >= 0).sum() == min(10, mask.sum()) and mask[ids[ids >= 0]].all()


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_few_selected_rows_are_those_of_the_slow_loop_whatever_the_index(
    shards: list[Any], vectors: np.ndarray, store: VectorStore, share: float
) -> None:
    queries = vectors[:5]
    for mask in masks(vectors, queries[0], share):
        hits = Searcher(shards, {"nprobe": 1}, 2, vectors=store).search(queries, 10, Selection.of(mask))
        wanted = Searcher([flat(vectors)], threads=1).search(queries, 10, Selection.of(mask))
        np.testing.assert_array_equal(hits.ids, wanted.ids)
        np.testing.assert_array_equal(hits.scores, wanted.scores)
