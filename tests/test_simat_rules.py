"""The triplet rule, against a slow equivalent and its laws."""

from __future__ import annotations

import pytest
from corpora import regions
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import CorpusError
from data.regions import Triplet
from data.simat.rules import RULES, Rule, choose_triplets, neighbours, rule_named

WORDS = st.sampled_from(["dog", "cat", "man"]), st.sampled_from(["on", "in"]), st.sampled_from([*"abcde"])
TRIPLETS = st.lists(st.tuples(*WORDS), max_size=40)
SMALL_RULE = Rule(top_objects=2)


def slowly(triplets: list[Triplet], rule: Rule) -> set[Triplet]:
    frequent = {t for t in triplets if triplets.count(t) >= rule.min_regions}
    shared = {t for t in frequent if len({u[1] for u in frequent if u[2] == t[2]}) >= rule.min_relations}

    def before(t: Triplet) -> int:
        rank = {u: (-triplets.count(u), triplets.index(u)) for u in shared if u[:2] == t[:2]}
        return sum(rank[u] < rank[t] for u in rank)

    kept = {t for t in shared if before(t) < rule.top_objects}
    return {t for t in kept if any(sum(a != b for a, b in zip(t, u, strict=True)) == 1 for u in kept)}


@given(TRIPLETS)
def test_choose_triplets_equals_the_slow_reading_of_the_rule(triplets: list[Triplet]) -> None:
    chosen = choose_triplets(regions(*triplets, copies=1), SMALL_RULE)

    assert set(chosen) == slowly(triplets, SMALL_RULE)
    assert len(chosen) == len(set(chosen))


@given(TRIPLETS)
def test_fewer_objects_choose_fewer_triplets(triplets: list[Triplet]) -> None:
    few, many = (len(choose_triplets(regions(*triplets, copies=1), Rule(top_objects=n))) for n in (1, 3))

    assert few <= many


def test_ties_go_to_the_first_occurrence() -> None:
    tied = [("dog", r, o) for o in ("x", "y", "z") for r in ("on", "in")]

    assert {t[2] for t in choose_triplets(regions(*tied), Rule(top_objects=2))} == {"x", "y"}
    assert {t[2] for t in choose_triplets(regions(*reversed(tied)), Rule(top_objects=2))} == {"z", "y"}


def test_a_triplet_of_one_region_counts_for_nothing() -> None:
    pair = regions(("dog", "on", "x"), ("dog", "in", "x"))

    assert len(choose_triplets(pair, Rule())) == 2
    assert choose_triplets(pair[:3], Rule()) == []  # the object is left with one relation


@given(st.sets(st.tuples(*WORDS)))
def test_neighbours_are_the_triplets_at_hamming_distance_one(triplets: set[Triplet]) -> None:
    ordered = sorted(triplets)
    expected = {t: [u for u in ordered if sum(a != b for a, b in zip(t, u, strict=True)) == 1] for t in ordered}

    assert neighbours(ordered) == expected


def test_rules_are_the_files_and_the_papers() -> None:
    assert (rule_named("release").top_objects, rule_named("paper").top_objects) == (20, 10)
    with pytest.raises(CorpusError, match="no such triplet rule; got 'best'; use release or paper"):
        rule_named("best")
    assert [*RULES] == ["release", "paper"]
