"""R@k over pairs: its laws, and a loop that reads the definition aloud."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import Float32

from eval.retrieval import BLOCK, pair_ranks, recall_at_k
from simat.errors import QueryError


def rows(seed: int, count: int, dim: int) -> Float32[np.ndarray, "count dim"]:
    """Random unit rows."""
    random = np.random.default_rng(seed).standard_normal((count, dim))
    return (random / np.linalg.norm(random, axis=1, keepdims=True)).astype(np.float32)


def slow_recall(queries: np.ndarray, images: np.ndarray, k: int) -> float:
    """A query is answered when fewer than k other images score at least as high as its own."""
    found = 0
    for i, query in enumerate(queries):
        own = sum(float(a) * float(b) for a, b in zip(query, images[i], strict=True))
        before = 0
        for j, image in enumerate(images):
            score = sum(float(a) * float(b) for a, b in zip(query, image, strict=True))
            before += j != i and score >= own
        found += before < k
    return found / len(queries)


# Small integers: sums are exact in every order, and ties are many.
coarse = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=st.integers(-2, 2).map(float))] * 2)
)


@given(pair=coarse, k=st.integers(1, 14))
def test_recall_at_k_equals_the_slow_loop(pair: tuple[np.ndarray, np.ndarray], k: int) -> None:
    assert recall_at_k(*pair, k) == slow_recall(*pair, k)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), k=st.integers(1, 40))
def test_recall_at_k_does_not_change_when_pairs_are_permuted(seed: int, count: int, k: int) -> None:
    queries, images = rows(seed, count, 8), rows(seed + 1, count, 8)
    order = np.random.default_rng(seed).permutation(count)
    assert recall_at_k(queries[order], images[order], k) == recall_at_k(queries, images, k)


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40))
def test_recall_at_k_of_rows_that_ask_for_themselves_is_1(seed: int, count: int) -> None:
    vectors = rows(seed, count, 16)
    assert recall_at_k(vectors, vectors, 1) == 1.0


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(2, 40), k=st.integers(1, 39), where=st.sampled_from("qib"))
def test_recall_at_k_of_constant_vectors_is_no_better_than_chance(seed: int, count: int, k: int, where: str) -> None:
    queries, images = rows(seed, count, 8), rows(seed + 1, count, 8)
    constant = np.repeat(rows(seed + 2, 1, 8), count, axis=0)
    recall = recall_at_k(
        constant if where in "qb" else queries, constant if where in "ib" else images, min(k, count - 1)
    )
    assert recall <= min(k, count - 1) / count
    if where in "ib":
        assert recall == 0.0


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30))
def test_recall_at_k_never_falls_as_k_grows_and_ends_at_1(seed: int, count: int) -> None:
    queries, images = rows(seed, count, 4), rows(seed + 1, count, 4)
    recalls = [recall_at_k(queries, images, k) for k in range(1, count + 1)]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1.0


def test_pair_ranks_counts_the_images_before_the_own_one() -> None:
    images = np.eye(3, dtype=np.float32)
    queries = np.array([[3, 2, 1], [3, 2, 1], [3, 2, 1]], np.float32) / np.float32(np.sqrt(14))
    assert pair_ranks(queries, images).tolist() == [0, 1, 2]


def test_pair_ranks_puts_a_copy_of_the_image_before_it() -> None:
    images = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert pair_ranks(images, images).tolist() == [1, 1, 0]


def test_pair_ranks_puts_what_is_no_number_last() -> None:
    queries = np.eye(3, dtype=np.float32)
    images = queries.copy()
    queries[1] = np.nan
    assert pair_ranks(queries, images).tolist() == [0, 2, 0]


def test_pair_ranks_of_several_blocks_equal_those_of_one_matrix() -> None:
    count = BLOCK + 37
    queries, images = rows(5, count, 6), rows(6, count, 6)
    scores = queries.astype(np.float64) @ images.astype(np.float64).T
    order = np.argsort(-scores, axis=1)
    expected = np.argmax(order == np.arange(count)[:, None], axis=1)
    assert np.array_equal(pair_ranks(queries, images), expected)


def test_recall_at_k_without_k_says_so() -> None:
    with pytest.raises(QueryError, match="k must be at least 1; got 0"):
        recall_at_k(rows(0, 2, 2), rows(0, 2, 2), 0)


@pytest.mark.parametrize(("queries", "images"), [(2, 3), (0, 0)])
def test_recall_at_k_without_pairs_says_so(queries: int, images: int) -> None:
    with pytest.raises(QueryError, match=f"one image per query; got {queries} queries, {images} images"):
        recall_at_k(np.ones((queries, 2), np.float32), np.ones((images, 2), np.float32), 1)
