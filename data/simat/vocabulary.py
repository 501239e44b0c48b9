"""The words of SIMAT: its subjects, its relations, and the three slots of a triplet (thesis, section 3.2)."""

from __future__ import annotations

from typing import Literal

from data.regions import Triplet

Field = Literal["subj", "rel", "obj"]
FIELDS: tuple[Field, ...] = ("subj", "rel", "obj")
"""Names of the slots of a triplet, in its order, as the released files have them."""

SUBJECTS = (
    "man", "woman", "cat", "dog", "people", "boy", "girl", "bird", "bear", "cow", "giraffe", "sheep", "horse", "zebra",
    "elephant",
)  # fmt: skip
RELATIONS = (
    "sitting on a", "playing with", "laying in", "swinging", "leaning on", "touching", "running in", "eating from",
    "sleeping on", "jumping on", "grabbing", "licking", "biting", "sniffing", "chasing", "entering", "waiting at",
    "selling", "balancing on", "leaving",
)  # fmt: skip


def replaced(triplet: Triplet, field: Field, word: str) -> Triplet:
    """The triplet with ``word`` in slot ``field``."""
    slot = FIELDS.index(field)
    subject, relation, obj = (word if i == slot else old for i, old in enumerate(triplet))
    return subject, relation, obj


def changed(source: Triplet, target: Triplet) -> tuple[Field, str]:
    """The slot in which two triplets at Hamming distance 1 differ, and the target's word in it."""
    [(field, word)] = [(field, b) for field, a, b in zip(FIELDS, source, target, strict=True) if a != b]
    return field, word
