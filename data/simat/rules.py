"""Which (subject, relation, object) triplets a SIMAT corpus is made of."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from data.corpus import CorpusError
from data.regions import Region, Triplet
from data.simat.vocabulary import FIELDS, replaced


@dataclass(frozen=True)
class Rule:
    """The triplet rule of SIMAT, in the order in which its steps apply.

    Attributes:
        min_regions: regions that a triplet needs.
        min_relations: relations that an object needs among the triplets with enough regions.
        top_objects: most frequent objects kept per (subject, relation); ties go to the first occurrence.
    """

    min_regions: int = 2
    min_relations: int = 2
    top_objects: int = 20


RULES: Mapping[str, Rule] = {"release": Rule(), "paper": Rule(top_objects=10)}
"""``release``: what the released files were made with. ``paper``: what thesis section 3.2 says, ten objects."""


def rule_named(name: str) -> Rule:
    """One of :data:`RULES`.

    Raises:
        CorpusError: no such rule.
    """
    if name not in RULES:
        raise CorpusError("no such triplet rule", got=repr(name), remedy=f"use {' or '.join(RULES)}")
    return RULES[name]


def choose_triplets(regions: Sequence[Region], rule: Rule) -> list[Triplet]:
    """The triplets of a corpus, in order of first occurrence.

    Args:
        regions: annotated relationships, in the order of their data set: it breaks ties.

    Returns:
        Triplets with enough regions, whose object has enough relations and is frequent enough with its subject and
        relation, and that have a neighbour among themselves.
    """
    counts = Counter(region.triplet for region in regions)
    frequent = {t: n for t, n in counts.items() if n >= rule.min_regions}
    relations = defaultdict(set)
    for _, relation, obj in frequent:
        relations[obj].add(relation)
    shared = {t: n for t, n in frequent.items() if len(relations[t[2]]) >= rule.min_relations}
    kept = _top_objects(shared, rule.top_objects)
    near = neighbours(kept)
    return [t for t in kept if near[t]]


def neighbours(triplets: Collection[Triplet]) -> dict[Triplet, list[Triplet]]:
    """The triplets at Hamming distance 1 from each triplet, in the order given."""
    groups: dict[tuple[str, Triplet], list[Triplet]] = defaultdict(list)
    for t in triplets:
        for field in FIELDS:
            groups[field, replaced(t, field, "")].append(t)
    order = {t: i for i, t in enumerate(triplets)}
    found: dict[Triplet, list[Triplet]] = {t: [] for t in triplets}
    for group in groups.values():
        for t in group:
            found[t] += [other for other in group if other != t]
    return {t: sorted(others, key=order.__getitem__) for t, others in found.items()}


def _top_objects(counts: Mapping[Triplet, int], top: int) -> list[Triplet]:
    groups: dict[tuple[str, str], list[Triplet]] = defaultdict(list)
    for t in counts:
        groups[t[:2]].append(t)
    kept = {t for group in groups.values() for t in sorted(group, key=lambda t: -counts[t])[:top]}
    return [t for t in counts if t in kept]
