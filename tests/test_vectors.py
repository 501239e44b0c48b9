"""Unit rows, halves of floats, and merged ranked lists."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import unit_noise
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simat.errors import QueryError
from simat.vectors import merge_hits, to_half, unit_rows

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 64))
ROWS = SIZES.flatmap(
    lambda size: hnp.arrays(np.float32, size, elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False))
)


@given(ROWS)
def test_unit_rows_have_length_one_and_keep_their_direction(rows: np.ndarray) -> None:
    rows = rows[np.abs(rows).max(1) > 1e-3]
    unit = unit_rows(rows)
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1)
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(unit * lengths[:, None], rows, atol=1e-6 * lengths.max(initial=1))


@given(ROWS)
def test_unit_rows_of_unit_rows_are_the_same(rows: np.ndarray) -> None:
    unit = unit_rows(rows[np.abs(rows).max(1) > 1e-3])
    np.testing.assert_allclose(unit_rows(unit), unit, atol=2e-7)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0])
def test_unit_rows_refuse_a_row_without_direction(bad: float) -> None:
    rows = np.array([[1, 2], [bad, 0], [3, 4]], np.float32)
    with pytest.raises(QueryError, match="text vector 1 has no direction; got length"):
        unit_rows(rows, "text vector")


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7, 384, 1024]))
def test_float16_storage_moves_no_score_by_more_than_a_thousandth(seed: int, dim: int) -> None:
    a, b = unit_noise(seed, 8, dim), unit_noise(seed + 1, 8, dim)
    exact = a.astype(np.float64) @ b.T.astype(np.float64)
    stored = to_half(b).astype(np.float64)
    assert np.abs(a @ stored.T - exact).max() <= 1e-3
    assert np.abs(to_half(a).astype(np.float64) @ stored.T - exact).max() <= 1e-3


@st.composite
def candidates(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Lists with many equal scores, distinct ids, and padding."""
    queries, count = draw(st.integers(1, 3)), draw(st.integers(1, 12))
    ids = np.stack([draw(st.permutations(range(count))) for _ in range(queries)]).astype(np.int64)
    scores = draw(hnp.arrays(np.float32, (queries, count), elements=st.sampled_from([-0.5, 0.0, 0.25, 1.0])))
    missing = draw(hnp.arrays(bool, (queries, count)))
    return np.where(missing, -1, ids), np.where(missing, -np.inf, scores).astype(np.float32)


@given(candidates(), st.integers(1, 15))
def test_merge_hits_is_a_sort_by_score_then_id(lists: tuple[np.ndarray, np.ndarray], k: int) -> None:
    ids, scores = lists
    hits = merge_hits(ids, scores, k)
    for row in range(len(ids)):
        found = sorted((-s, i) for s, i in zip(scores[row].tolist(), ids[row].tolist(), strict=True) if i >= 0)[:k]
        padding = k - len(found)
        assert hits.ids[row].tolist() == [i for _, i in found] + [-1] * padding
        assert hits.scores[row].tolist() == [-s for s, _ in found] + [-np.inf] * padding


@given(candidates(), st.integers(1, 15), st.randoms(use_true_random=False))
def test_merge_hits_ignores_the_order_of_the_candidates(
    lists: tuple[np.ndarray, np.ndarray], k: int, random: object
) -> None:
    ids, scores = lists
    order = np.arange(ids.shape[1])
    random.shuffle(order)  # type: ignore[attr-defined]
    one, other = merge_hits(ids, scores, k), merge_hits(ids[:, order], scores[:, order], k)
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.scores, other.scores)
