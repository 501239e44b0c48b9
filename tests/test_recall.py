"""Exact neighbours against a slow loop, and recall against them."""

from __future__ import annotations

from itertools import pairwise

import faiss
import numpy as np
import pytest
from helpers import unit_noise
from hypothesis import given
from hypothesis import strategies as st

from indexing.recall import exact_neighbours, recall_at_k
from simat.searcher import Searcher
from simat.vectors import to_half


def halves(vectors: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    bounds = [0, *sorted(cuts), len(vectors)]
    return [to_half(vectors)[a:b] for a, b in pairwise(bounds)]


def slow_neighbours(halved: np.ndarray, id: int, k: int) -> list[tuple[float, int]]:
    stored = halved.astype(np.float64)
    scores = [(-float(stored[id] @ stored[other]), other) for other in range(len(stored)) if other != id]
    return [(-score, other) for score, other in sorted(scores)[:k]]


@given(
    rows=st.integers(1, 40), k=st.integers(1, 12), seed=st.integers(0, 9), cuts=st.lists(st.integers(0, 40), max_size=4)
)
def test_exact_neighbours_are_those_of_a_slow_loop_however_the_blocks_are_cut(
    rows: int, k: int, seed: int, cuts: list[int]
) -> None:
    vectors = unit_noise(seed, rows, 6)
    ids = np.arange(0, rows, 2)
    queries = to_half(vectors)[ids].astype(np.float32)
    hits = exact_neighbours(queries, ids, iter(halves(vectors, [min(cut, rows) for cut in cuts])), k)
    assert hits.ids.shape == (len(ids), k)
    for row, id in enumerate(ids):
        expected = slow_neighbours(to_half(vectors), int(id), k)
        scores = hits.scores[row][: len(expected)]
        np.testing.assert_allclose(scores, [score for score, _ in expected], atol=1e-6)
        assert sorted(hits.ids[row][: len(expected)]) == sorted(other for _, other in expected)
        assert not np.isfinite(hits.scores[row][len(expected) :]).any()


def test_exact_neighbours_leave_the_own_row_out_even_where_it_has_copies() -> None:
    vectors = np.repeat(unit_noise(0, 3, 5), 2, axis=0)  # rows 0 and 1 are equal, 2 and 3, 4 and 5
    hits = exact_neighbours(vectors[[0, 3]], np.array([0, 3]), [to_half(vectors)], 1)
    assert hits.ids.tolist() == [[1], [2]]


@given(rows=st.integers(1, 60), distinct=st.integers(1, 60), seed=st.integers(0, 9))
def test_recall_of_an_exact_search_is_one_even_with_ties(rows: int, distinct: int, seed: int) -> None:
    stored = to_half(unit_noise(seed, distinct, 6)[np.arange(rows) % distinct])
    assert measured(stored, flat(stored.astype(np.float32)), np.arange(rows)) == 1.0


def test_recall_is_the_share_of_the_neighbours_that_are_found() -> None:
    stored = to_half(unit_noise(4, 200, 8))
    forgetful = stored.astype(np.float32)
    forgetful[1::2] *= -1  # every second row points the wrong way
    ids = np.arange(0, 200, 2)
    found = Searcher([flat(forgetful)], threads=1).search(stored[ids].astype(np.float32), 11).ids
    assert 0.3 < slow_recall(stored, found, ids) < 0.7
    assert measured(stored, flat(forgetful), ids) == pytest.approx(slow_recall(stored, found, ids))


@pytest.mark.parametrize("factory", ["SQ4", "SQ8", "IVF8,SQ4"])
def test_recall_believes_no_score_that_was_guessed_from_compressed_codes(factory: str) -> None:
    stored = to_half(unit_noise(1, 1500, 32))
    index = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(stored.astype(np.float32))
    index.add(stored.astype(np.float32))
    ids = np.arange(0, 1500, 30)
    found = Searcher([index], threads=1).search(stored[ids].astype(np.float32), 11).ids
    assert slow_recall(stored, found, ids) < 1
    assert measured(stored, index, ids) == pytest.approx(slow_recall(stored, found, ids))


def test_recall_of_no_queries_is_one() -> None:
    stored = to_half(unit_noise(0, 5, 4))
    assert measured(stored, flat(stored.astype(np.float32)), np.empty(0, np.int64)) == 1.0


def flat(vectors: np.ndarray) -> faiss.Index:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index


def measured(stored: np.ndarray, index: faiss.Index, ids: np.ndarray) -> float:
    vectors = stored.astype(np.float32)
    exact = exact_neighbours(vectors[ids], ids, [stored])
    return recall_at_k(Searcher([index], threads=1), vectors[ids], ids, exact, lambda rows: vectors[rows])


def slow_recall(stored: np.ndarray, found: np.ndarray, ids: np.ndarray) -> float:
    shares = []
    for row, id in zip(found.tolist(), ids.tolist(), strict=True):
        others = [other for other in row if other != id][:10]
        shares.append(sum(other in others for _, other in slow_neighbours(stored, id, 10)) / 10)
    return float(np.mean(shares))
