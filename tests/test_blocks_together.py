"""Queries that are scanned for together get what each would get alone."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simat.blocks import SHARED, Block, share_scans
from simat.searcher import Searcher


def _rows(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """Unit rows, a third of them copies of others."""
    found = rng.standard_normal((rows, dim)).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    copies = rng.integers(rows, size=rows // 3)
    found[rng.integers(rows, size=len(copies))] = found[copies]
    return found


@settings(max_examples=30)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 400),
    st.sampled_from([3, 16, 128, 513]),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_search_gives_a_batch_what_it_gives_each_query_bit_by_bit(
    seed: int, rows: int, dim: int, queries: int, k: int
) -> None:
    rng = np.random.default_rng(seed)
    index = faiss.IndexFlatIP(dim)
    index.add(_rows(rng, rows, dim))
    searcher = Searcher([index], threads=2)
    asked = _rows(rng, queries, dim) * np.float32(rng.uniform(0.5, 2))
    together = searcher.search(asked, k)
    alone = [searcher.search(asked[i : i + 1], k) for i in range(queries)]
    np.testing.assert_array_equal(together.ids, np.concatenate([hits.ids for hits in alone]))
    np.testing.assert_array_equal(together.scores, np.concatenate([hits.scores for hits in alone]))


def test_best_follows_rows_that_rounding_cannot_tell_apart() -> None:
    vector = np.ones(64, np.float32) / 8
    rows = np.tile(vector, (300, 1))
    rows[7] = -vector
    scores, ids = Block(100, vectors=rows).best(np.tile(vector, (9, 1)), 5, {})
    assert (scores[:, :299] == scores[0, 0]).all() and set(ids[0, :299]) == {*range(100, 400)} - {107}


@pytest.mark.parametrize("default", sorted(SHARED))
def test_share_scans_lowers_a_default_of_faiss_and_keeps_what_others_set(
    default: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = faiss.cvar.distance_compute_blas_threshold
    try:
        faiss.cvar.distance_compute_blas_threshold = default
        share_scans()
        assert faiss.cvar.distance_compute_blas_threshold == SHARED[default] < default
        faiss.cvar.distance_compute_blas_threshold = 7
        share_scans()
        assert faiss.cvar.distance_compute_blas_threshold == 7
    finally:
        faiss.cvar.distance_compute_blas_threshold = before
