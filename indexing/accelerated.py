"""k-means and assignment to inverted lists on GPUs; the codes and the files stay those of the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
    if ivf is None:
        index.train(sample)
        return
    nearest = nearest_on_gpus(faiss.IndexFlatL2(ivf.d), devices)
    try:
        ivf.clustering_index = nearest
        index.train(sample)
    finally:
        ivf.clustering_index = None  # type: ignore[assignment]
        nearest.thisown = True  # the assignment took it from Python, which then would not free the GPU's memory


def adder(index: Any, devices: Sequence[int]) -> Callable[[Float32[np.ndarray, "n d"]], None]:
    """What adds vectors to an index; the first of ``devices`` finds their inverted lists.

    One device suffices: it assigns vectors faster than the CPU makes codes of them. Centroids are read on the CPU,
    since codes of residuals need them one at a time. An index of fast-scan codes takes no lists from others: it
    finds them itself, on the CPU.
    """
    import faiss

    add: Callable[[np.ndarray], None] = index.add
    ivf = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    if not devices or not isinstance(ivf, faiss.IndexIVF) or isinstance(ivf, faiss.IndexIVFFastScan):
        return add
    centroids = faiss.downcast_index(ivf.quantizer)
    if not isinstance(centroids, faiss.IndexFlat):
        return add
    return partial(_add, index, ivf, nearest_on_gpus(centroids, devices[:1]))


def _add(index: Any, ivf: Any, nearest: Any, vectors: Float32[np.ndarray, "n d"]) -> None:
    import faiss

    if ivf is not index:
        for place in range(index.chain.size()):
            vectors = faiss.downcast_VectorTransform(index.chain.at(place)).apply(vectors)
    _, lists = nearest.search(vectors, 1)
    ivf.add_core(len(vectors), faiss.swig_ptr(vectors), None, faiss.swig_ptr(lists))
    index.ntotal = ivf.ntotal
