"""Vectors that lie as those of pictures do: in clusters, near a surface of few dimensions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32

from simat.vectors import unit_rows

CLUSTERS = 1000
HIDDEN = 32  # dimensions that they vary in
SPREAD = 0.6  # of a cluster, where the clusters' centres are spread by 1
NOISE = 0.05  # in all dimensions
BLOCK = 10_000


class Clustered:
    """Unit vectors without end; every block is drawn apart, so that any of them can be made again.

    Args:
        dim: length of a vector.
        seed: of the clusters, and of the vectors in them.
    """

    def __init__(self, dim: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self._seed, self._dim = seed, dim
        self._centres = rng.standard_normal((CLUSTERS, HIDDEN), dtype=np.float32)
        self._surface = rng.standard_normal((HIDDEN, dim), dtype=np.float32) / np.float32(np.sqrt(HIDDEN))

    def block(self, number: int, count: int = BLOCK) -> Float32[np.ndarray, "n d"]:
        """``count`` unit rows; another number gives others."""
        rng = np.random.default_rng([self._seed, number])
        hidden = self._centres[rng.integers(CLUSTERS, size=count)]
        hidden = hidden + SPREAD * rng.standard_normal(hidden.shape, dtype=np.float32)
        return unit_rows(hidden @ self._surface + NOISE * rng.standard_normal((count, self._dim), dtype=np.float32))

    def blocks(self, rows: int) -> Iterator[Float32[np.ndarray, "n d"]]:
        """The first ``rows`` vectors."""
        for number, start in enumerate(range(0, rows, BLOCK)):
            yield self.block(number, min(BLOCK, rows - start))

    def queries(self, count: int) -> Float32[np.ndarray, "n d"]:
        """Vectors from the same clusters that are none of the others."""
        return self.block(2**40, count)
