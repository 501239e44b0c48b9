"""Near duplicates: groups as a slow search through the graph finds them, and the edges of the definition."""

from __future__ import annotations

import time

import numpy as np
import pytest
from helpers import unit_noise
from hypothesis import given
from hypothesis import strategies as st

from simat.errors import QueryError
from simat.server import duplicates
from simat.server.duplicates import firsts


def slow_firsts(vectors: np.ndarray, threshold: float) -> list[int]:
    """Walk the graph of near pairs from every row not yet seen."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    seen: set[int] = set()
    found = []
    for root in range(len(unit)):
        if root in seen:
            continue
        found.append(root)
        todo = [root]
        while todo:
            row = todo.pop()
            seen.add(row)
            near = (unit @ unit[row] > threshold).nonzero()[0].tolist()
            todo += [other for other in near if other not in seen]
    return found


@given(st.integers(0, 1000), st.integers(1, 60), st.sampled_from([0.2, 0.5, 0.8, 0.94]), st.integers(1, 9))
def test_firsts_are_those_of_the_slow_search(seed: int, rows: int, threshold: float, block: int) -> None:
    vectors = unit_noise(seed, rows, 4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "BLOCK", block)
        assert firsts(vectors, threshold).tolist() == slow_firsts(vectors, threshold)


def test_firsts_follow_a_chain_to_its_end() -> None:
    angles = np.radians(15 * np.arange(12))[::-1]  # neighbours at cosine 0.966, the ends at −0.966
    chain = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    assert firsts(chain, 0.94).tolist() == [0]
    assert firsts(np.delete(chain, 5, 0), 0.94).tolist() == [0, 5]


def test_firsts_keep_the_better_of_two_copies() -> None:
    vectors = unit_noise(0, 3, 16)[[2, 0, 2, 1, 0]]
    assert firsts(vectors, 0.94).tolist() == [0, 1, 3]


def test_firsts_compare_directions_not_lengths() -> None:
    vectors = np.array([[1, 0], [0.1, 0], [0, 3]], np.float32)
    assert firsts(vectors, 0.94).tolist() == [0, 2]


def test_firsts_at_the_threshold_itself_are_apart() -> None:
    assert firsts(np.array([[1, 0], [0.5, np.sqrt(0.75)]], np.float32), 0.75).tolist() == [0, 1]
    assert firsts(np.eye(2, dtype=np.float32), 0.0).tolist() == [0, 1]


def test_firsts_of_nothing_are_nothing() -> None:
    assert firsts(np.empty((0, 4), np.float32), 0.94).tolist() == []


def test_firsts_refuse_a_vector_of_no_direction() -> None:
    with pytest.raises(QueryError, match="stored vector 1 has no direction"):
        firsts(np.array([[1, 0], [0, 0]], np.float32), 0.94)


def test_firsts_of_thousands_of_copies_take_a_moment() -> None:
    copies = np.repeat(unit_noise(0, 2, 64), 1500, 0)
    started = time.perf_counter()
    assert firsts(copies, 0.94).tolist() == [0, 1500]
    assert time.perf_counter() - started < 20
