"""Which rows are measured and which are trained on: never the same ones."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

PERMUTED = 2**24  # rows: up to here all are shuffled, which takes 8 bytes each


def held_back(rows: int, queries: int, training: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two disjoint random sets of rows, each ascending.

    Args:
        rows: how many there are.
        queries: how many to measure with; at most half of the rows.
        training: how many to train on; as many as there are left, where these are fewer.
        seed: of the choice.

    Returns:
        Rows to measure with (int64[q]), rows to train on (int64[t]).
    """
    queries = min(queries, max(1, rows // 2))
    shuffled = _shuffled(rows, queries + training, np.random.default_rng(seed))
    return np.sort(shuffled[:queries]), np.sort(shuffled[queries : queries + training])


def _shuffled(rows: int, wanted: int, rng: np.random.Generator) -> Int64[np.ndarray, " n"]:
    """At least ``wanted`` different rows in random order, all of them where they are few."""
    if rows <= PERMUTED or wanted > rows // 2:
        return rng.permutation(rows)
    chosen = np.empty(0, np.int64)
    while len(chosen) < wanted:
        drawn = np.concatenate([chosen, rng.integers(0, rows, 2 * wanted)])
        _, first = np.unique(drawn, return_index=True)
        chosen = drawn[np.sort(first)]
    return chosen
