"""The best images of an index for what a composer asks: one vector, or two similarities fused."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int64

from simat.composers import Composition, Fusion, Vector
from simat.embeddings import EmbeddingSet
from simat.errors import SimatError
from simat.searcher import Searcher
from simat.types import Hits
from simat.vectors import merge_hits

SCANNED = 20_000  # images: up to here a fusion looks at all of them
CANDIDATES = 1024  # the first length of the two lists
LONGER = 8  # times, where they did not suffice
SLACK = 1e-5  # what single precision may have cost the bound


def best(searcher: Searcher, embeddings: EmbeddingSet, composition: Composition, k: int) -> Hits:
    """The k best images, ties by smaller id.

    Returns:
        Hits of one query; fewer than k, padded, where an approximate index finds no more.
    """
    if not isinstance(composition, Fusion):
        return searcher.search(composition[None], k)
    if len(embeddings) <= SCANNED:
        return _all(searcher, embeddings, composition, k)
    return _threshold(searcher, embeddings, composition, k)


def best_of_many(
    searcher: Searcher, embeddings: EmbeddingSet, tasks: Sequence[tuple[Composition, int]]
) -> list[Hits | SimatError]:
    """What :func:`best` gives or raises for each (composition, k); vectors of one k are searched for together."""
    found: dict[int, Hits | SimatError] = {}
    groups: dict[int, list[tuple[int, Vector]]] = {}
    for i, (composition, k) in enumerate(tasks):
        if isinstance(composition, Fusion):
            found[i] = _fused(searcher, embeddings, composition, k)
        else:
            groups.setdefault(k, []).append((i, composition))
    for k, group in groups.items():
        hits = searcher.search(np.stack([vector for _, vector in group]), k)
        found.update({i: Hits(hits.ids[[row]], hits.scores[[row]]) for row, (i, _) in enumerate(group)})
    return [found[i] for i in range(len(tasks))]


def stored_vectors(
    searcher: Searcher, embeddings: EmbeddingSet, ids: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n d"]:
    """Vectors of the images ``ids``, in ascending order; an exact index has those of the set in memory."""
    return searcher.vectors(ids) if searcher.exact else embeddings.vectors(ids)


def _fused(searcher: Searcher, embeddings: EmbeddingSet, fusion: Fusion, k: int) -> Hits | SimatError:
    try:
        return best(searcher, embeddings, fusion, k)
    except SimatError as error:
        return error


def _threshold(searcher: Searcher, embeddings: EmbeddingSet, fusion: Fusion, k: int) -> Hits:
    """The threshold algorithm (Fagin, Lotem and Naor 2003) over the two lists of nearest images.

    What is on neither list is worse than the last of each: where the k-th best of the union beats all that such an
    image could score, it is the answer of the whole index; else the lists grow. Where the index is approximate, so
    are its lists, and one round is all they are worth; the scores are exact either way.
    """
    depth = max(CANDIDATES, 2 * k)
    while depth < len(embeddings) // 4:
        lists = searcher.search(np.stack([fusion.image.vector, fusion.text.vector]), depth)
        found = np.unique(lists.ids[lists.ids >= 0])
        if not len(found):
            break
        hits = _ranked(found, fusion.score(stored_vectors(searcher, embeddings, found)), k)
        last_image, last_text = (float(score) for score in lists.scores[:, -1])
        if not searcher.exact or hits.scores[0, -1] > fusion.limit(last_image, last_text) + SLACK:
            return hits
        depth *= LONGER
    return _all(searcher, embeddings, fusion, k)


def _all(searcher: Searcher, embeddings: EmbeddingSet, fusion: Fusion, k: int) -> Hits:
    stored = (block.astype(np.float32) for block in embeddings.blocks(0, len(embeddings)))
    scores = np.concatenate([fusion.score(block) for block in (searcher.blocks() if searcher.exact else stored)])
    return _ranked(np.arange(len(scores), dtype=np.int64), scores, k)


def _ranked(ids: Int64[np.ndarray, " n"], scores: Float32[np.ndarray, " n"], k: int) -> Hits:
    return merge_hits(ids[None], scores[None], k)
