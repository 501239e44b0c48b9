"""What delta vectors are compared with in Tables 3.1 and 3.2 of the thesis."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float32, Int64

from eval.simat_score import BLOCK, Steps, Task, nearest_others


def text_to_image(
    images: Float32[np.ndarray, "r d"],
    captions: Float32[np.ndarray, "c d"],
    task: Task,
    k: int = 1,
    rng: np.random.Generator | None = None,
) -> Int64[np.ndarray, "q k"]:
    """The images nearest to the target's caption: plain retrieval, an upper bound (thesis 3.4.1).

    Args:
        images: unit rows, one per region.
        captions: unit rows, by ``caption_id``.
        task: the queries.
        k: images per query.
        rng: as :func:`eval.simat_score.nearest_others`.
    """
    return nearest_others(images, captions[task.goals], task.sources, k, rng)


def text_delta_success(
    captions: Float32[np.ndarray, "c d"],
    shown: Int64[np.ndarray, " r"],
    steps: Steps,
    task: Task,
    scale: float = 1.0,
    exclude: bool = False,
) -> Bool[np.ndarray, " q"]:
    """Whether E_txt(caption of the query image) + λ·Δ is nearest to the target's caption (Table 3.2).

    Args:
        captions: unit rows, by ``caption_id``.
        shown: the caption of every region.
        steps: the delta vectors.
        task: the queries.
        scale: λ.
        exclude: leave the query image's own caption out of the answers.
    """
    # Many regions have the same caption: each question is asked once.
    asked, of = np.unique(np.stack([shown[task.sources], steps.which]), axis=1, return_inverse=True)
    starts, edits = asked
    queries = captions[starts] + np.float32(scale) * steps.vectors[edits]
    found = nearest_rows(captions, queries, starts if exclude else None)
    return np.asarray(found[of.ravel()] == task.goals)


def nearest_rows(
    rows: Float32[np.ndarray, "c d"],
    queries: Float32[np.ndarray, "q d"],
    excluded: Int64[np.ndarray, " q"] | None = None,
) -> Int64[np.ndarray, " q"]:
    """The row nearest to each query by inner product, the first among equals; one row per query may be left out."""
    found = np.empty(len(queries), np.int64)
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        scores = queries[block] @ rows.T
        if excluded is not None:
            scores[np.arange(len(scores)), excluded[block]] = -np.inf
        found[block] = scores.argmax(1)
    return found
