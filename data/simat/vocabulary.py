"""The words of SIMAT: its subjects, its relations, and the three slots of a triplet (thesis, section 3.2)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from data.corpus import CorpusError
from data.regions import Triplet
from data.simat.text import clean_line

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


@dataclass(frozen=True)
class Vocabulary:
    """Which subjects and relations a corpus is about; its objects are whatever they are found with.

    Raises:
        CorpusError: no word, or a word twice.
    """

    subjects: tuple[str, ...] = SUBJECTS
    relations: tuple[str, ...] = RELATIONS

    def __post_init__(self) -> None:
        for name, words in (("subjects", self.subjects), ("relations", self.relations)):
            if not words:
                raise CorpusError(f"the vocabulary has no {name}")
            if twice := sorted({word for word in words if words.count(word) > 1}):
                raise CorpusError(f"the vocabulary has {name} twice", got=", ".join(twice))

    def as_dict(self) -> dict[str, Any]:
        """The document of a vocabulary file."""
        return {"subjects": list(self.subjects), "relations": list(self.relations)}


SIMAT = Vocabulary()
VOCABULARY_FILE = "vocabulary.json"
"""Name of the vocabulary that a data set brings with it."""


def read_vocabulary(path: Path) -> Vocabulary:
    """Read a JSON document ``{"subjects": [text], "relations": [text]}``.

    Words are compared as they stand in annotations once cleaned: in lower case, with single spaces.

    Raises:
        CorpusError: unreadable, of another shape, or a word that is empty, too long or not printable.
    """
    help_text = 'write {"subjects": ["cat"], "relations": ["sitting on"]}'
    try:
        document = json.loads(path.read_bytes())
        lists = [document[name] for name in ("subjects", "relations")]
    except OSError as error:
        raise CorpusError("cannot read the vocabulary", got=f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError("this is no vocabulary", got=str(path), remedy=help_text) from error
    if not all(isinstance(words, list) and all(isinstance(word, str) for word in words) for words in lists):
        raise CorpusError("this is no vocabulary", got=str(path), remedy=help_text)
    subjects, relations = (
        tuple(" ".join(clean_line(word, f"a word of {path.name}").lower().split()) for word in words) for words in lists
    )
    return Vocabulary(subjects, relations)


def replaced(triplet: Triplet, field: Field, word: str) -> Triplet:
    """The triplet with ``word`` in slot ``field``."""
    slot = FIELDS.index(field)
    subject, relation, obj = (word if i == slot else old for i, old in enumerate(triplet))
    return subject, relation, obj


def changed(source: Triplet, target: Triplet) -> tuple[Field, str]:
    """The slot in which two triplets at Hamming distance 1 differ, and the target's word in it."""
    [(field, word)] = [(field, b) for field, a, b in zip(FIELDS, source, target, strict=True) if a != b]
    return field, word
