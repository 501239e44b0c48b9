"""k-means and assignment to inverted lists on GPUs; the codes and the files stay those of the CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float32

from simat.gpu import nearest_on_gpus


def train(index: Any, sample: Float32[np.ndarray, "n d"], devices: Sequence[int]) -> None:
    """Train an index; its centroids on ``devices`` where there are any.

    The same seeds give other last bits than on a CPU, and so other lists: within one build all shards share them.
    """
    import faiss

    ivf = faiss.try_extract_index_ivf(index) if devices else None
    if ivf is not None:
        ivf.clustering_index = nearest_on_gpus(faiss.IndexFlatL2(ivf.d), devices)
    try:
        index.train(sample)
    finally:
        if ivf is not None:
            ivf.clustering_index = None  # type: ignore[assignment]


@contextmanager
def assigning(index: Any, devices: Sequence[int]) -> Iterator[Any]:
    """Let vectors that are added to ``index`` find their lists on the first of ``devices``.

    One device suffices: it assigns vectors faster than the CPU makes codes of them.
    """
    import faiss

    ivf = faiss.try_extract_index_ivf(index) if devices else None
    quantizer = None if ivf is None else faiss.downcast_index(ivf.quantizer)
    if ivf is None or not isinstance(quantizer, faiss.IndexFlat):
        yield index
        return
    copy = nearest_on_gpus(quantizer, devices[:1])
    ivf.quantizer = copy
    try:
        yield index
    finally:
        ivf.quantizer = quantizer
