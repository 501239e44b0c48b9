"""Queries: the draw, the two orders, the counts, the weights, the split."""

from __future__ import annotations

import numpy as np
import pytest
from corpora import region, regions
from hypothesis import given
from hypothesis import strategies as st

from data.simat.queries import (
    Query,
    candidate_queries,
    caption_lines,
    draw_queries,
    draw_test_regions,
    matrix_rows,
    neighbour_counts,
    region_rows,
    score_weights,
    value_counts,
)
from data.simat.vocabulary import FIELDS, changed, replaced

DOG, CAT, FLOOR, APART = ("dog", "on", "bed"), ("cat", "on", "bed"), ("dog", "on", "floor"), ("cow", "in", "hay")
TRIPLETS = [DOG, CAT, FLOOR, APART]


def test_candidates_lead_to_every_neighbour_and_nowhere_else() -> None:
    found = [(q.region.triplet, q.field, q.value, q.target, q.goal) for q in candidate_queries(regions(DOG), TRIPLETS)]

    expected = [(DOG, "subj", "dog", "cat", CAT), (DOG, "obj", "bed", "floor", FLOOR)]
    assert found == expected * 2
    assert [*candidate_queries(regions(APART, ("a", "b", "c")), TRIPLETS)] == []


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 6))
def test_draw_takes_all_or_five_of_each_pair_whatever_the_order(seed: int, copies: int, per_pair: int) -> None:
    pool = regions(*TRIPLETS, copies=copies)
    drawn = draw_queries(pool, TRIPLETS, np.random.default_rng(seed), per_pair)
    again = draw_queries(pool[::-1], TRIPLETS[::-1], np.random.default_rng(seed), per_pair)

    assert drawn == again == sorted(drawn, key=lambda q: q.order)
    assert len(drawn) == len({q.order for q in drawn}) == 4 * min(copies, per_pair)
    assert {q.order for q in drawn} <= {q.order for q in candidate_queries(pool, TRIPLETS)}


def test_another_seed_draws_other_regions() -> None:
    pool = regions(DOG, CAT, copies=30)
    draws = [draw_queries(pool, [DOG, CAT], np.random.default_rng(seed)) for seed in (0, 1)]

    assert draws[0] != draws[1]


@given(st.sampled_from(TRIPLETS), st.sampled_from(FIELDS), st.text(min_size=1))
def test_replacing_a_word_and_finding_the_change_are_inverse(triplet: tuple, field: str, word: str) -> None:
    goal = replaced(triplet, field, word)
    if goal != triplet:
        assert changed(triplet, goal) == (field, word)


def test_caption_lines_follow_code_points_not_triplets() -> None:
    captions = {DOG: "a dog", CAT: "Zebras", FLOOR: "A dog"}

    assert caption_lines(captions) == {FLOOR: 0, CAT: 1, DOG: 2}


def test_regions_rank_by_number_in_one_order_and_by_text_in_the_other() -> None:
    pool = [region(100, CAT), region(20, DOG), region(100_000, DOG), region(9, DOG)]
    lines = {DOG: 0, CAT: 1}

    assert region_rows(pool, lines) == {9: 0, 20: 1, 100_000: 2, 100: 3}
    assert matrix_rows(pool, lines) == {100_000: 0, 20: 1, 9: 2, 100: 3}


def test_norm_counts_neighbours_and_norm2_counts_a_word_in_every_field() -> None:
    same = ("man", "on", "man"), ("man", "on", "dog"), ("dog", "on", "man")
    pool = regions(*same, copies=1)
    queries = [Query(pool[0], "subj", "dog"), Query(pool[0], "obj", "dog"), Query(pool[1], "obj", "man")]

    assert neighbour_counts(queries, same) == [2, 2, 1]
    assert value_counts(queries) == [2, 2, 1]  # "man" as subject and as object: one count


@given(st.lists(st.tuples(st.integers(1, 900), st.booleans()), min_size=1, max_size=30))
def test_weights_sum_to_one_in_each_domain_and_fall_as_the_root(rows: list[tuple[int, bool]]) -> None:
    norm2, is_test = np.array([n for n, _ in rows]), np.array([t for _, t in rows])
    weights = score_weights(norm2, is_test)

    for domain in (is_test, ~is_test):
        if domain.any():
            assert weights[domain].sum() == pytest.approx(1)
            np.testing.assert_allclose(weights[domain] * np.sqrt(norm2[domain]), (weights * np.sqrt(norm2))[domain][0])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 99))
def test_split_by_image_never_lets_an_image_into_both_domains(images: list[int], seed: int) -> None:
    pool = [region(number, DOG, image) for number, image in enumerate(images)]
    test = draw_test_regions(pool, "image", np.random.default_rng(seed))

    in_test = {r.image_id for r in pool if r.region_id in test}
    assert in_test.isdisjoint({r.image_id for r in pool if r.region_id not in test})
    assert len(in_test) == len(set(images)) // 2
    assert test == draw_test_regions(pool[::-1], "image", np.random.default_rng(seed))


def test_split_by_region_halves_the_regions_and_lets_images_leak() -> None:
    pool = [region(number, DOG, number % 3) for number in range(40)]
    test = draw_test_regions(pool, "region", np.random.default_rng(0))

    assert len(test) == 20
    assert {r.image_id for r in pool if r.region_id in test} == {0, 1, 2}
