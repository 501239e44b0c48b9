"""The best images of an index for what a composer asks: one vector, or two similarities fused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float32, Int64

from simat.composers import Composition, Fusion, Vector
from simat.errors import SimatError
from simat.protocols import Images, IndexSearch
from simat.searcher import Searcher
from simat.selection import Selection
from simat.types import Hits
from simat.vectors import merge_hits

SCANNED = 20_000  # images: up to here a fusion looks at all of them
CANDIDATES = 1024  # the first length of the two lists
LONGER = 8  # times, where they did not suffice
SLACK = 1e-5  # what single precision may have cost the bound


@dataclass(frozen=True)
class Task:
    """What is searched for.

    Attributes:
        composition: what the images shall be like.
        k: how many are wanted.
        among: the rows that may be found, None for all.
    """

    composition: Composition
    k: int
    among: Selection | None = None


def best(
    searcher: IndexSearch, embeddings: Images, composition: Composition, k: int, among: Selection | None = None
) -> Hits:
    """The k best images, ties by smaller id.

    Returns:
        Hits of one query; fewer than k, padded, where there are no more or an approximate index finds no more.
    """
    if not isinstance(composition, Fusion):
        return searcher.search(composition[None], k, among)
    allowed = searcher.allowed(among)
    passing = len(embeddings) if allowed is None else allowed.count
    if passing <= SCANNED:
        return _all(searcher, embeddings, composition, k, allowed)
    return _threshold(searcher, embeddings, composition, k, allowed, passing)


def best_of_many(searcher: IndexSearch, embeddings: Images, tasks: Sequence[Task]) -> list[Hits | SimatError]:
    """What :func:`best` gives or raises for each; vectors of one k, among the same rows, are searched for together."""
    found: dict[int, Hits | SimatError] = {}
    groups: dict[tuple[int, int], list[tuple[int, Vector]]] = {}
    for i, task in enumerate(tasks):
        if isinstance(task.composition, Fusion):
            found[i] = _or_error(partial(best, searcher, embeddings, task.composition, task.k, task.among))
        else:
            groups.setdefault((task.k, id(task.among)), []).append((i, task.composition))
    for (k, _), group in groups.items():
        vectors, among = np.stack([vector for _, vector in group]), tasks[group[0][0]].among
        hits = _or_error(partial(searcher.search, vectors, k, among))
        for row, (i, _) in enumerate(group):
            found[i] = hits if isinstance(hits, SimatError) else Hits(hits.ids[[row]], hits.scores[[row]])
    return [found[i] for i in range(len(tasks))]


def stored_vectors(
    searcher: IndexSearch, embeddings: Images, ids: Int64[np.ndarray, " n"]
) -> Float32[np.ndarray, "n d"]:
    """Vectors of the images ``ids``, in ascending order; an exact index has those of the set in memory."""
    if isinstance(searcher, Searcher) and searcher.exact:
        return searcher.vectors(ids)
    return embeddings.vectors(ids)


def _or_error(search: Callable[[], Hits]) -> Hits | SimatError:
    try:
        return search()
    except SimatError as error:
        return error


def _threshold(
    searcher: IndexSearch, embeddings: Images, fusion: Fusion, k: int, allowed: Selection | None, passing: int
) -> Hits:
    """The threshold algorithm (Fagin, Lotem and Naor 2003) over the two lists of nearest images.

    What is on neither list is worse than the last of each: where the k-th best of the union beats all that such an
    image could score, it is the answer of the whole index; else the lists grow. Where the index is approximate, so
    are its lists, and one round is all they are worth; the scores are exact either way.
    """
    depth = max(CANDIDATES, 2 * k)
    while depth < passing // 4:
        lists = searcher.search(np.stack([fusion.image.vector, fusion.text.vector]), depth, allowed)
        found = np.unique(lists.ids[lists.ids >= 0])
        if not len(found):
            break
        hits = _ranked(found, fusion.score(stored_vectors(searcher, embeddings, found)), k)
        last_image, last_text = (float(score) for score in lists.scores[:, -1])
        if not searcher.exact or hits.scores[0, -1] > fusion.limit(last_image, last_text) + SLACK:
            return hits
        depth *= LONGER
    return _all(searcher, embeddings, fusion, k, allowed)


def _all(searcher: IndexSearch, embeddings: Images, fusion: Fusion, k: int, allowed: Selection | None) -> Hits:
    ids = np.arange(len(embeddings), dtype=np.int64) if allowed is None else allowed.ids()
    if len(ids) <= SCANNED and len(ids) < len(embeddings) // 2:
        return _ranked(ids, fusion.score(stored_vectors(searcher, embeddings, ids)), k) if len(ids) else _none(k)
    stored = (block.astype(np.float32) for block in embeddings.blocks(0, len(embeddings)))
    blocks = searcher.blocks() if isinstance(searcher, Searcher) and searcher.exact else stored
    scores = np.concatenate([fusion.score(block) for block in blocks])
    return _ranked(ids, scores[ids], k)


def _none(k: int) -> Hits:
    return Hits(np.full((1, k), -1, np.int64), np.full((1, k), -np.inf, np.float32))


def _ranked(ids: Int64[np.ndarray, " n"], scores: Float32[np.ndarray, " n"], k: int) -> Hits:
    return merge_hits(ids[None], scores[None], k)
