"""The SIMAT score: how often a delta vector leads to an image that shows the target (thesis, section 3.2.4).

The retrieval database is every region of the corpus, whatever its domain; the query image itself is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from jaxtyping import Bool, Float, Float32, Int64

from data.corpus import Corpus
from simat.errors import QueryError

DOMAINS = ("dev", "test", "all")
FIELDS = ("subj", "rel", "obj")
BLOCK, SMALL_BLOCK = 1024, 512  # queries scored at once
TIE = 1e-6  # scores this close cannot be told apart in float32: one of their images is drawn
SUCCESS = 0.5  # of the oracle's probability (thesis, section 3.2.4)

Judge = Callable[[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]], Float[np.ndarray, " n"]]
"""The probability that each region (row of ``regions.parquet``) is described by each caption (its ``caption_id``)."""


@dataclass(frozen=True)
class Task:
    """The queries of one domain, as arrays of one row per query.

    Attributes:
        sources: row of the query image in ``regions.parquet``.
        goals: ``caption_id`` of the target triplet.
        weights: μ of eq. 3.1; they sum to 1.
        fields: which slot changes: an index into ``FIELDS``.
        edits: (word to change, word to put there).
        images: the image that each query's region was cut from; None where every region has one of its own.
    """

    sources: Int64[np.ndarray, " q"]
    goals: Int64[np.ndarray, " q"]
    weights: Float[np.ndarray, " q"]
    fields: Int64[np.ndarray, " q"]
    edits: Sequence[tuple[str, str]]
    images: Int64[np.ndarray, " q"] | None = None

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def words(self) -> list[str]:
        """Every word that an edit takes away or puts there, once."""
        return sorted({word for edit in self.edits for word in edit})

    def only(self, target: str) -> Task:
        """The queries that put one word there; their weights sum to 1 again.

        Raises:
            QueryError: no query does.
        """
        rows = np.array([edit[1] == target for edit in self.edits], bool)
        if not rows.any():
            known = ", ".join(sorted({edit[1] for edit in self.edits}))
            raise QueryError("no query of the corpus has this target word", got=repr(target), remedy=f"it has: {known}")
        weights = self.weights[rows]
        return Task(
            self.sources[rows], self.goals[rows], weights / weights.sum(), self.fields[rows],
            [edit for edit, kept in zip(self.edits, rows, strict=True) if kept],
            None if self.images is None else self.images[rows],
        )  # fmt: skip


@dataclass(frozen=True)
class Steps:
    """The delta vectors of a task, one per distinct edit.

    Attributes:
        vectors: one per edit.
        which: the edit of each query, as a row of ``vectors``.
    """

    vectors: Float32[np.ndarray, "e d"]
    which: Int64[np.ndarray, " q"]


@dataclass(frozen=True)
class Score:
    """Weighted accuracies in [0, 1].

    Attributes:
        total: S of eq. 3.1.
        by_field: the same within the queries of each field that has any.
        success: which queries succeeded, in the order of the task.
    """

    total: float
    by_field: Mapping[str, float]
    success: Bool[np.ndarray, " q"]


def read_task(corpus: Corpus, domain: str = "dev") -> Task:
    """The queries of a SIMAT corpus; weights are normalised inside the domain.

    Raises:
        QueryError: no such domain, or it has no query.
    """
    if domain not in DOMAINS:
        raise QueryError("no such domain", got=repr(domain), remedy="use dev, test or all")
    columns = ["dataset_id", "target_ids", "weight", "field", "value", "target", "is_test"]
    table = corpus.table("queries").select(columns).to_pydict()
    tests = np.array(table["is_test"], bool)
    rows = np.flatnonzero(np.ones_like(tests) if domain == "all" else tests == (domain == "test"))
    if not len(rows):
        remedy = "score another domain, or build the corpus with more images"
        raise QueryError(f"the corpus has no queries in the domain {domain}", got=str(corpus.folder), remedy=remedy)
    weights = np.array(table["weight"], np.float64)[rows]
    sources = np.array(table["dataset_id"], np.int64)[rows]
    return Task(
        sources=sources,
        goals=np.array(table["target_ids"], np.int64)[rows],
        weights=weights / weights.sum(),
        fields=np.array([FIELDS.index(field) for field in table["field"]], np.int64)[rows],
        edits=[(table["value"][row], table["target"][row]) for row in rows],
        images=corpus.table("regions")["image_id"].to_numpy().astype(np.int64)[sources],
    )


def annotation_judge(corpus: Corpus) -> Judge:
    """1 where the region was annotated with the caption's triplet, else 0: the truth where scenes are drawn."""
    shown = corpus.table("regions")["caption_id"].to_numpy().astype(np.int64)
    return lambda regions, captions: (shown[regions] == captions).astype(np.float64)


def edit_steps(task: Task, deltas: Callable[[list[tuple[str, str]]], Float32[np.ndarray, "e d"]]) -> Steps:
    """The delta vectors of a task; ``deltas`` is asked once for every distinct edit."""
    edits = sorted(set(task.edits))
    number = {edit: i for i, edit in enumerate(edits)}
    return Steps(deltas(edits), np.array([number[edit] for edit in task.edits], np.int64))


def word_deltas(task: Task, encode: Callable[[list[str]], Float32[np.ndarray, "w d"]]) -> Float32[np.ndarray, "q d"]:
    """E_txt(w2) − E_txt(w1) of each query (eq. 3.2); every word is encoded once."""
    words = sorted({word for edit in task.edits for word in edit})
    vectors = encode(words)
    number = {word: i for i, word in enumerate(words)}
    sources, targets = ([number[edit[side]] for edit in task.edits] for side in (0, 1))
    return cast("Float32[np.ndarray, 'q d']", vectors[targets] - vectors[sources])


def nearest_others(
    images: Float32[np.ndarray, "r d"],
    queries: Float32[np.ndarray, "q d"],
    sources: Int64[np.ndarray, " q"],
    k: int = 1,
    rng: np.random.Generator | None = None,
) -> Int64[np.ndarray, "q k"]:
    """Rows of the k images nearest to each query by inner product, best first, without the query's own image.

    Args:
        images: unit rows.
        queries: one row per query, of any length.
        sources: row of each query's own image.
        k: how many.
        rng: draws among images that cannot be told apart; default_rng(0) where it is None.

    Raises:
        QueryError: k is not in [1, images − 1].
    """
    _check_k(k, len(images))
    rng = rng or np.random.default_rng(0)
    found = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        found[block] = best_others(queries[block] @ images.T, sources[block], k, rng)
    return found


def nearest_along(
    images: Float32[np.ndarray, "r d"],
    steps: Steps,
    sources: Int64[np.ndarray, " q"],
    scales: Sequence[float],
    k: int = 1,
    rng: np.random.Generator | None = None,
) -> Int64[np.ndarray, "s q k"]:
    """:func:`nearest_others` of E_img(I) + λ·Δ for several λ at once.

    Inner products are sums here: those of every image pair and of every edit are computed once, whatever the number
    of queries and of scales.

    Args:
        scales: the values of λ.

    Raises:
        QueryError: as :func:`nearest_others`.
    """
    _check_k(k, len(images))
    rng = rng or np.random.default_rng(0)
    along = steps.vectors @ images.T
    found = np.empty((len(scales), len(sources), k), np.int64)
    order = np.argsort(sources, kind="stable")
    for start in range(0, len(order), SMALL_BLOCK):
        block = order[start : start + SMALL_BLOCK]
        own, of = np.unique(sources[block], return_inverse=True)
        base, step = (images[own] @ images.T)[of], along[steps.which[block]]
        for number, scale in enumerate(scales):
            scores = step * np.float32(scale)
            scores += base
            found[number, block] = best_others(scores, sources[block], k, rng)
    return found


def _check_k(k: int, images: int) -> None:
    if not 1 <= k < images:
        raise QueryError(f"k must be in [1, {images - 1}]", got=k)


def best_others(
    scores: Float32[np.ndarray, "b r"], own: Int64[np.ndarray, " b"], k: int, rng: np.random.Generator
) -> Int64[np.ndarray, "b k"]:
    """The k best columns of each row without its own; ``scores`` is used up."""
    rows = np.arange(len(scores))
    scores[rows, own] = -np.inf
    best = np.empty((len(scores), k + 1), np.int64)
    values = np.empty((len(scores), k + 1), np.float32)
    for place in range(k + 1):  # one more than asked for: it may tie with the last
        best[:, place] = scores.argmax(1)
        values[:, place] = scores[rows, best[:, place]]
        scores[rows, best[:, place]] = -np.inf
    scores[rows[:, None], best] = values
    for row in np.flatnonzero((values[:, :-1] - values[:, 1:] < TIE).any(1)):
        best[row, :k] = _drawn(scores[row], k, rng)
    return best[:, :k]


def _drawn(scores: Float32[np.ndarray, " r"], k: int, rng: np.random.Generator) -> Int64[np.ndarray, " k"]:
    """The k best columns; among those that cannot be told apart one is drawn."""
    best = np.empty(k, np.int64)
    for place in range(k):
        best[place] = rng.choice(np.flatnonzero(scores >= scores.max() - TIE))
        scores[best[place]] = -np.inf
    return best


def score(found: Int64[np.ndarray, "q k"], task: Task, judge: Judge) -> Score:
    """S of eq. 3.1 for what was retrieved; of several images per query the best one counts (Table 3.1, n = 5)."""
    goals = np.repeat(task.goals, found.shape[1])
    shown = judge(found.ravel(), goals).reshape(found.shape) > SUCCESS
    success: Bool[np.ndarray, " q"] = np.asarray(shown.any(1))
    right = task.weights * success
    by_field = {
        name: float(right[task.fields == i].sum() / task.weights[task.fields == i].sum())
        for i, name in enumerate(FIELDS)
        if (task.fields == i).any()
    }
    return Score(float(right.sum()), by_field, success)


def delta_score(
    images: Float32[np.ndarray, "r d"],
    deltas: Float32[np.ndarray, "q d"],
    task: Task,
    judge: Judge,
    scale: float = 1.0,
    k: int = 1,
) -> Score:
    """The score of delta vectors, x = E_img(I) + λ·Δ (eq. 3.2).

    Args:
        images: unit rows, one per region.
        deltas: one per query, see :func:`word_deltas`.
        scale: λ.
        k: how many images are looked at per query.
    """
    queries = images[task.sources] + np.float32(scale) * deltas
    return score(nearest_others(images, queries, task.sources, k), task, judge)


def chance(task: Task, judge: Judge, regions: int, k: int = 1) -> float:
    """The score of k images drawn at random without replacement: what vectors that say nothing are expected to get.

    Args:
        judge: asked for every region and every goal of the task.
        regions: how many there are.
    """
    _check_k(k, regions)
    rows = np.arange(regions)
    goals, of = np.unique(task.goals, return_inverse=True)
    shown = np.array([(judge(rows, np.full(regions, goal)) > SUCCESS).sum() for goal in goals], np.int64)[of]
    others = shown - (judge(task.sources, task.goals) > SUCCESS)
    missed = np.ones(len(task))
    for drawn in range(k):
        missed *= np.clip((regions - 1 - drawn - others) / (regions - 1 - drawn), 0, 1)
    return float((task.weights * (1 - missed)).sum())
