"""Oracles and the filter of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from corpora import region, regions
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import CorpusError
from data.simat.oracle import AnnotationOracle, MatrixOracle, Oracle, Pair, passing
from data.simat.queries import Query

DOG, CAT, COW = ("dog", "on", "bed"), ("cat", "on", "bed"), ("cow", "on", "bed")
CAPTIONS = {DOG: "A dog.", CAT: "A cat.", COW: "A cow."}


class Fixed:
    """Gives the same numbers whatever it is asked."""

    name = "fixed"

    def __init__(self, *numbers: list[float]) -> None:
        self._numbers = iter(numbers)

    def probabilities(self, pairs: Sequence[Pair]) -> np.ndarray:
        return np.array(next(self._numbers))


def test_annotation_oracle_knows_a_region_and_its_neighbours_in_the_crop() -> None:
    crop, inside, outside = (0, 0, 100, 80), (10, 10, 90, 70), (90, 0, 200, 80)
    pool = [region(1, DOG, 7, crop), region(2, CAT, 7, inside), region(3, COW, 7, outside), region(4, COW, 8, crop)]
    oracle = AnnotationOracle(pool, CAPTIONS)

    assert isinstance(oracle, Oracle)
    assert oracle.probabilities([(pool[0], c) for c in CAPTIONS.values()]).tolist() == [1, 1, 0]
    assert oracle.probabilities([(pool[1], c) for c in CAPTIONS.values()]).tolist() == [1, 1, 0]
    assert oracle.probabilities([(pool[2], "A cow."), (pool[3], "A cow."), (pool[3], "A hen.")]).tolist() == [1, 1, 0]


def test_annotation_oracle_sees_what_lies_in_the_crop_by_half() -> None:
    crop = (0, 0, 100, 80)
    other = region(2, CAT, 7, crop)
    for edge, seen in ((150, 1.0), (151, 0.0)):  # 100 - 50 of 100 pixels, 100 - 50 of 101
        moved = replace(other, subject_box=(50, 0, edge, 80), object_box=crop)
        oracle = AnnotationOracle([region(1, DOG, 7, crop), moved], CAPTIONS)
        assert oracle.probabilities([(region(1, DOG, 7, crop), "A cat.")]).tolist() == [seen]


def test_annotation_oracle_forgives_a_box_without_area() -> None:
    flat = replace(region(2, CAT, 7), subject_box=(5, 5, 5, 5))

    assert AnnotationOracle([flat], CAPTIONS).probabilities([(region(1, DOG, 7), "A cat.")]).tolist() == [0]


def test_matrix_oracle_looks_up_rows_and_columns() -> None:
    matrix = np.array([[0.25, 0.5], [0.75, 1.0]], dtype=np.float32)
    oracle = MatrixOracle(matrix, {30: 1, 4: 0}, {"A cat.": 1, "A dog.": 0})

    assert isinstance(oracle, Oracle)
    pairs = [(region(30, DOG), "A cat."), (region(4, DOG), "A cat."), (region(30, CAT), "A dog.")]
    assert oracle.probabilities(pairs).tolist() == [1.0, 0.5, 0.75]
    with pytest.raises(CorpusError, match="does not cover every region and caption; got 5"):
        oracle.probabilities([(region(5, DOG), "A cat.")])
    with pytest.raises(CorpusError, match=r"does not cover every region and caption; got A hen\."):
        oracle.probabilities([(region(4, DOG), "A hen.")])


@pytest.mark.parametrize("value", [-0.01, 1.01, np.nan, np.inf])
def test_matrix_with_a_number_that_is_no_probability_is_refused(value: float) -> None:
    with pytest.raises(CorpusError, match=r"numbers outside \[0, 1\]"):
        MatrixOracle(np.array([[0.5, value]]), {1: 0}, {"a": 0, "b": 1})


def test_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(CorpusError, match=r"another shape; got \(2, 1\) instead of \(1, 2\)"):
        MatrixOracle(np.zeros((2, 1)), {1: 0}, {"a": 0, "b": 1})


def test_filter_keeps_queries_that_show_their_source_and_not_their_goal() -> None:
    queries = [Query(r, "subj", "cat") for r in regions(DOG, copies=4)]
    oracle = Fixed([0.91, 0.9, 0.95, 1.0], [0.09, 0.0, 0.1, 0.0])

    assert passing(queries, CAPTIONS, oracle) == [queries[0], queries[3]]  # both bounds are strict


@given(st.lists(st.sampled_from([DOG, CAT, COW]), min_size=1, max_size=8))
def test_annotation_filter_drops_exactly_the_queries_whose_goal_is_in_the_crop(triplets: list) -> None:
    pool = [region(number, triplet, image=1) for number, triplet in enumerate(triplets)]
    queries = [Query(r, "subj", goal[0]) for r in pool for goal in CAPTIONS if goal != r.triplet]
    kept = passing(queries, CAPTIONS, AnnotationOracle(pool, CAPTIONS))

    assert kept == [query for query in queries if query.goal not in triplets]


@pytest.mark.parametrize("numbers", [[0.5], [0.5, 2.0], [0.5, np.nan]])
def test_oracle_that_gives_no_probability_per_pair_is_refused(numbers: list[float]) -> None:
    queries = [Query(r, "subj", "cat") for r in regions(DOG)]

    with pytest.raises(CorpusError, match=r"'fixed' does not give one number in \[0, 1\] per pair"):
        passing(queries, CAPTIONS, Fixed(numbers, numbers))
