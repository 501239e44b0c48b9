"""What a dual encoder of the scene world can do, on scenes and triplets it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from data.regions import Triplet
from data.scenes.render import render
from data.scenes.scene import sample
from data.scenes.world import triplets
from data.simat.captions import write_caption
from finetune.scenes.stream import EVALUATION, crop, held_out
from simat.types import Encoder
from simat.vectors import unit_rows

FIELDS = ("subject", "relation", "object")
SCALES = (0.5, 1.0, 2.0)
SIZE = 128  # pixels, as corpora have them


@dataclass(frozen=True)
class Question:
    """One picture and the one word that changes: rows of the gallery, and which of the three words it is."""

    source: int
    target: int
    field: int


def measure(encoder: Encoder, seed: int = 0, gallery: int = 400, cropped: bool = False) -> dict[str, Any]:
    """Retrieval by caption and by delta among one new scene of each of ``gallery`` triplets.

    Every held-out triplet is among them. ``found`` is the share of captions whose own scene is the nearest,
    ``found_held_out`` the same over triplets of which training saw none. ``delta`` holds, for every scale and field,
    the share of questions "this scene, but with another subject (relation, object)" whose nearest scene, the source's
    own left out, is that of the target triplet (thesis, eq. 3.2): by the difference of the two words and of the two
    captions. Place, colours and facing differ between source and target.

    Args:
        cropped: look at crops around subject and object instead of whole scenes.
    """
    chosen = gallery_triplets(gallery)
    images = encoder.encode_images([_picture(seed, n, triplet, cropped) for n, triplet in enumerate(chosen)])
    captions = encoder.encode_texts([write_caption(triplet) for triplet in chosen])
    right = (captions @ images.T).argmax(1) == np.arange(len(chosen))
    apart = np.array([triplet in set(held_out()) for triplet in chosen])
    asked = questions(chosen)
    return {
        "gallery": len(chosen),
        "held_out": int(apart.sum()),
        "questions": [sum(q.field == field for q in asked) for field in range(3)],
        "found": float(right.mean()),
        "found_held_out": float(right[apart].mean()),
        "delta": {
            "word": _answered(images, _word_steps(encoder, chosen, asked), asked),
            "caption": _answered(
                images, captions[[q.target for q in asked]] - captions[[q.source for q in asked]], asked
            ),
        },
    }


def gallery_triplets(count: int) -> tuple[Triplet, ...]:
    """The held-out triplets and others, ``count`` in all, the same for every seed."""
    apart = held_out()
    others = [triplet for triplet in triplets() if triplet not in set(apart)]
    order = np.random.default_rng(EVALUATION).permutation(len(others))
    kept = set(apart) | {others[i] for i in order[: max(0, count - len(apart))].tolist()}
    return tuple(triplet for triplet in triplets() if triplet in kept)


def questions(chosen: Sequence[Triplet]) -> list[Question]:
    """Every ordered pair of triplets that differ in one word alone."""
    found = []
    for field in range(3):
        rest = {n: (*triplet[:field], *triplet[field + 1 :]) for n, triplet in enumerate(chosen)}
        for _, same in groupby(sorted(rest, key=lambda n: rest[n]), key=lambda n: rest[n]):
            rows = list(same)
            found += [Question(a, b, field) for a in rows for b in rows if a != b]
    return found


def _picture(seed: int, number: int, triplet: Triplet, cropped: bool) -> Any:
    rendered = render(sample(EVALUATION + seed, number, triplet=triplet), SIZE)
    return crop(rendered) if cropped else rendered.image


def _word_steps(
    encoder: Encoder, chosen: Sequence[Triplet], asked: Sequence[Question]
) -> Float32[np.ndarray, "questions d"]:
    words = sorted({word for triplet in chosen for word in triplet})
    row = {word: n for n, word in enumerate(words)}
    vectors = encoder.encode_texts(words)
    targets = [row[chosen[q.target][q.field]] for q in asked]
    sources = [row[chosen[q.source][q.field]] for q in asked]
    steps: Float32[np.ndarray, "questions d"] = vectors[targets] - vectors[sources]
    return steps


def _answered(
    images: Float32[np.ndarray, "n d"], steps: Float32[np.ndarray, "questions d"], asked: Sequence[Question]
) -> dict[str, dict[str, float]]:
    sources, targets = (np.array([getattr(q, name) for q in asked]) for name in ("source", "target"))
    fields = np.array([q.field for q in asked])
    table = {}
    for scale in SCALES:
        right = _nearest(images, images[sources] + np.float32(scale) * steps, sources) == targets
        table[str(scale)] = {name: float(right[fields == n].mean()) for n, name in enumerate(FIELDS)}
    return table


def _nearest(
    images: Float32[np.ndarray, "n d"],
    queries: Float[np.ndarray, "questions d"],
    without: Int[np.ndarray, " questions"],
) -> Int[np.ndarray, " questions"]:
    scores = unit_rows(queries, "query vector") @ images.T
    scores[np.arange(len(scores)), without] = -np.inf
    best: Int[np.ndarray, " questions"] = scores.argmax(1)
    return best
