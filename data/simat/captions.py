"""Captions of triplets: a small grammar that writes them, and a reader of captions that others wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from data.corpus import CorpusError
from data.regions import Triplet
from data.simat.text import clean_line, read_rows
from data.simat.vocabulary import FIELDS

MASS = frozenset(
    {
        "beer", "bread", "cake", "cheese", "coffee", "dirt", "fire", "food", "fruit", "fur", "grass", "gravel",
        "ground", "hair", "hay", "ice", "juice", "luggage", "milk", "mud", "rain", "sand", "snow", "straw", "surf",
        "tennis", "traffic", "water", "wine", "wood",
    }
)  # fmt: skip
"""Nouns that take no article."""
PLURAL = frozenset({"children", "feet", "geese", "men", "mice", "people", "scissors", "teeth", "women"})
SINGULAR_IN_S = frozenset({"bus", "canvas", "cross", "lens", "tennis"})
BARE = frozenset({"outside", "inside", "outdoors", "indoors", "upside down"})
"""Words for a place that follow the verb without preposition or article."""
ENTERED = frozenset(
    {
        "bag", "basket", "bathtub", "bed", "boat", "bowl", "box", "bus", "car", "crib", "dirt", "field", "grass", "hay",
        "hood", "ocean", "park", "pen", "pool", "river", "sand", "sink", "snow", "straw", "suitcase", "tub", "water",
    }
)  # fmt: skip
"""What one lies in; one lies on everything else."""
SURFACES = frozenset({"beach", "carpet", "court", "dirt", "floor", "ground", "road", "sand", "sidewalk", "street"})
"""What one runs and plays on, where the relation says "in" or "with"."""
SPOKEN = {
    ("playing with", "water"): "playing in water", ("playing with", "field"): "playing in a field",
    ("playing with", "park"): "playing in a park", ("playing with", "grass"): "playing on grass",
    ("playing with", "tennis court"): "playing on a tennis court", ("eating from", "water"): "drinking water",
    ("sitting on a", "water"): "sitting in water", ("laying in", "wall"): "laying against a wall",
    ("waiting at", "bus"): "waiting for a bus", ("playing with", "snow"): "playing in snow",
}  # fmt: skip
"""What is said in other words than the relation's."""


def write_caption(triplet: Triplet) -> str:
    """A sentence for any triplet: ``("man", "sitting on a", "chair")`` gives "A man sitting on a chair.".

    Articles follow the noun (a, an, none before mass nouns and plurals, another before the subject's own kind); an
    article at the end of the relation is not said twice; prepositions follow the place.
    """
    subject, relation, obj = triplet
    sentence = f"{_noun(subject)} {_predicate(subject, relation, obj)}."
    return sentence[0].upper() + sentence[1:]


def write_captions(triplets: Iterable[Triplet], given: Mapping[Triplet, str] | None = None) -> dict[Triplet, str]:
    """Captions by triplet: the given ones, and the grammar's for the others.

    Raises:
        CorpusError: two triplets get one caption, so that no oracle could tell them apart.
    """
    given = given or {}
    captions = {t: given.get(t) or write_caption(t) for t in triplets}
    owners: dict[str, Triplet] = {}
    for t, caption in captions.items():
        if caption in owners:
            raise CorpusError(f"two triplets have the caption {caption!r}", got=f"{owners[caption]} and {t}")
        owners[caption] = t
    return captions


def read_captions(path: Path) -> dict[Triplet, str]:
    """Read captions by triplet from a CSV or TSV file with the columns subj, rel, obj and caption.

    Raises:
        CorpusError: no such columns, a word or caption that is empty, too long or not printable, or a triplet twice.
    """
    columns = (*FIELDS, "caption")
    captions: dict[Triplet, str] = {}
    for where, row in read_rows(path, columns, "\t" if path.suffix == ".tsv" else ","):
        subject, relation, obj, caption = (
            clean_line(text, f"{name} on {where}") for name, text in zip(columns, row, strict=True)
        )
        if (subject, relation, obj) in captions:
            raise CorpusError(f"{where} has a triplet for the second time", got=(subject, relation, obj))
        captions[subject, relation, obj] = caption
    return captions


def _predicate(subject: str, relation: str, obj: str) -> str:
    verb = relation.removesuffix(" a").removesuffix(" an")
    if (relation, obj) in SPOKEN:
        return SPOKEN[relation, obj]
    if obj in BARE:
        return f"{verb.partition(' ')[0]} {obj}"
    if obj == subject and verb == "running in":
        return f"running with another {obj}"
    if obj == subject and not _is_plural(obj):
        return f"{_placed(verb, obj)} another {obj}"
    return f"{_placed(verb, obj)} {_noun(obj)}"


def _placed(verb: str, obj: str) -> str:
    if verb == "laying in":
        return verb if obj in ENTERED else "laying on"
    if verb in {"running in", "playing with"} and obj in SURFACES:
        return f"{verb.partition(' ')[0]} on"
    return verb


def _noun(word: str) -> str:
    if _is_plural(word) or _last(word) in MASS:
        return word
    return f"{'an' if word[:1].lower() in {*'aeiou'} else 'a'} {word}"


def _is_plural(word: str) -> bool:
    last = _last(word)
    return last in PLURAL or (last.endswith("s") and not last.endswith("ss") and last not in SINGULAR_IN_S)


def _last(words: str) -> str:
    return words.rpartition(" ")[2]
