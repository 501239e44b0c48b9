"""Whether the inverted lists of an index still suit what is in it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from indexing.config import BuildConfig
from indexing.factory import empty_index, training_size
from simat.embeddings import EmbeddingSet
from simat.manifest import IndexManifest
from simat.selection import Selection

SAMPLE = 4096
FARTHER = 1.2  # times the distance to the nearest centroid that the training had: the lists no longer fit


def trained_index(folder: Path, manifest: IndexManifest) -> Any:
    """An empty index like the shards, trained as they are."""
    import faiss

    index = empty_index(manifest.space.dim, manifest.factory)
    if not training_size(index):
        return index
    entry = min(manifest.shards, key=lambda shard: shard.bytes)
    index = faiss.read_index(str(entry.check(folder)))
    index.reset()
    return index


def spread(index: Any, embeddings: EmbeddingSet, rows: Selection, seed: int) -> float | None:
    """Mean squared distance of a sample of ``rows`` to the nearest centroid; None where there are no inverted lists."""
    import faiss

    ivf = faiss.try_extract_index_ivf(index)
    if ivf is None or not rows.count:
        return None
    ids = rows.ids()
    sample = np.sort(np.random.default_rng(seed).choice(ids, min(SAMPLE, len(ids)), replace=False))
    vectors = _before_lists(index, embeddings.vectors(sample))
    centroids = ivf.quantizer.reconstruct_n(0, ivf.nlist)
    nearest = ivf.quantizer.search(vectors, 1)[1][:, 0]
    return float(np.square(vectors - centroids[nearest]).sum(axis=1).mean())


def reasons_to_train(
    manifest: IndexManifest, config: BuildConfig, index: Any, embeddings: EmbeddingSet, live: Selection
) -> list[str]:
    """Why the index should be trained anew, in words; nothing where it need not be.

    Args:
        manifest: of the index.
        config: what it was built with.
        index: one of its shards, empty.
        embeddings: its vectors.
        live: the rows that are not removed.
    """
    reasons = []
    factory = config.resolved(live.count, manifest.space.dim).factory
    if factory != manifest.factory:
        reasons.append(f"{live.count:,} images are better searched with {factory} than with {manifest.factory}")
    now, then = spread(index, embeddings, live, config.seed), manifest.trained.get("spread")
    if now is not None and then and now > FARTHER * then:
        reasons.append(f"images lie {now / then - 1:.0%} farther from the centroids than those they were trained on")
    return reasons


def training_record(index: Any, embeddings: EmbeddingSet, rows: Selection, seed: int) -> Mapping[str, float]:
    """What :func:`reasons_to_train` will compare with: measured while the index holds what it was trained on."""
    value = spread(index, embeddings, rows, seed)
    return {} if value is None else {"spread": value, "rows": rows.count}


def _before_lists(index: Any, vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n e"]:
    """What the inverted lists get to see: a rotation or a projection may come before them."""
    import faiss

    whole = faiss.downcast_index(index)
    if isinstance(whole, faiss.IndexRefine):
        whole = faiss.downcast_index(whole.base_index)
    if isinstance(whole, faiss.IndexPreTransform):
        chain: Any = whole.chain
        for number in range(chain.size()):
            vectors = chain.at(number).apply(vectors)
    return vectors
