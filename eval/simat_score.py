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
BLOCK = 2048  # queries scored at once
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
    """

    sources: Int64[np.ndarray, " q"]
    goals: Int64[np.ndarray, " q"]
    weights: Float[np.ndarray, " q"]
    fields: Int64[np.ndarray, " q"]
    edits: Sequence[tuple[str, str]]

    def __len__(self) -> int:
        return len(self.sources)


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
        raise QueryError(f"the corpus has no queries in the domain {domain}", got=str(corpus.folder))
    weights = np.array(table["weight"], np.float64)[rows]
    return Task(
        sources=np.array(table["dataset_id"], np.int64)[rows],
        goals=np.array(table["target_ids"], np.int64)[rows],
        weights=weights / weights.sum(),
        fields=np.array([FIELDS.index(field) for field in table["field"]], np.int64)[rows],
        edits=[(table["value"][row], table["target"][row]) for row in rows],
    )


def annotation_judge(corpus: Corpus) -> Judge:
    """1 where the region was annotated with the caption's triplet, else 0: the truth where scenes are drawn."""
    shown = corpus.table("regions")["caption_id"].to_numpy().astype(np.int64)
    return lambda regions, captions: (shown[regions] == captions).astype(np.float64)


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
) -> Int64[np.ndarray, "q k"]:
    """Rows of the k images nearest to each query by inner product, best first, without the query's own image.

    Raises:
        QueryError: k is not in [1, images − 1].
    """
    if not 1 <= k < len(images):
        raise QueryError(f"k must be in [1, {len(images) - 1}]", got=k)
    found = np.empty((len(queries), k), np.int64)
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        scores = queries[block] @ images.T
        scores[np.arange(len(scores)), sources[block]] = -np.inf
        if k == 1:
            found[block, 0] = scores.argmax(1)
            continue
        best = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        found[block] = np.take_along_axis(best, order, 1)
    return found


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
