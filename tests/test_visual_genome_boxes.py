"""Boxes and the merging of near duplicates."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from corpora import region
from genomes import released_regions
from hypothesis import given
from hypothesis import strategies as st

from data.regions import Box, Region, Triplet
from data.visual_genome.boxes import area, intersection, iou, merge_near_duplicates, union

EDGE = 12
_BOXES = st.tuples(*[st.integers(0, EDGE)] * 4)
_FULL_BOXES = st.tuples(*[st.integers(0, EDGE - 1)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 1, max(b[1], b[3]) + 1)
)
_CROPS = st.tuples(*[st.integers(0, 3)] * 2, *[st.integers(97, 100)] * 2)
TRIPLETS = (("cat", "licking", "spoon"), ("dog", "licking", "spoon"))
_ROWS = st.lists(st.tuples(st.integers(1, 2), st.sampled_from(TRIPLETS), _CROPS | _FULL_BOXES), max_size=12)
Row = tuple[int, Triplet, Box]


def made(rows: list[Row]) -> list[Region]:
    return [region(i, triplet, image, crop) for i, (image, triplet, crop) in enumerate(rows, 1)]


def painted(box: Box) -> np.ndarray:
    canvas = np.zeros((EDGE, EDGE), bool)
    canvas[box[1] : box[3], box[0] : box[2]] = True
    return canvas


def merges(found: list[Region]) -> list[tuple[Region, Region]]:
    """Pairs that should be one."""
    pairs = combinations(found, 2)
    return [
        (a, b) for a, b in pairs if (a.image_id, a.triplet) == (b.image_id, b.triplet) and iou(a.crop, b.crop) > 0.8
    ]


@given(_BOXES, _BOXES)
def test_boxes_agree_with_counting_pixels(a: Box, b: Box) -> None:
    both, either = painted(a) & painted(b), painted(a) | painted(b)
    assert area(a) == painted(a).sum()
    assert area(intersection(a, b)) == both.sum()
    assert iou(a, b) == (both.sum() / either.sum() if either.any() else 0)


@given(_FULL_BOXES, _FULL_BOXES)
def test_union_is_the_smallest_box_around_both(a: Box, b: Box) -> None:
    ys, xs = np.nonzero(painted(a) | painted(b))
    assert union(a, b) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


@given(_ROWS)
def test_merging_twice_changes_nothing_and_leaves_no_near_duplicates(rows: list[Row]) -> None:
    once = merge_near_duplicates(made(rows))
    assert merge_near_duplicates(once) == once
    assert merges(once) == []


@given(_ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(range(len(rows))))))
def test_merging_does_not_depend_on_the_order(rows_and_order: tuple[list[Row], list[int]]) -> None:
    rows, order = rows_and_order
    regions = made(rows)
    assert merge_near_duplicates(regions[i] for i in order) == merge_near_duplicates(regions)


@given(_ROWS)
def test_merging_covers_every_region_and_keeps_all_but_the_crop(rows: list[Row]) -> None:
    regions = made(rows)
    merged = merge_near_duplicates(regions)
    assert [(r.image_id, r.region_id) for r in merged] == sorted((r.image_id, r.region_id) for r in merged)
    before = {r.region_id: r for r in regions}
    assert [replace(r, crop=before[r.region_id].crop) for r in merged] == [before[r.region_id] for r in merged]
    for r in regions:
        same = [m for m in merged if (m.image_id, m.triplet) == (r.image_id, r.triplet)]
        assert any(union(m.crop, r.crop) == m.crop and m.region_id <= r.region_id for m in same)


def test_merging_goes_on_while_a_grown_crop_overlaps_another() -> None:
    crops = [(0, 0, 100, 85), (0, 0, 100, 100), (0, 0, 124, 100)]
    assert [round(iou(a, b), 2) for a, b in combinations(crops, 2)] == [0.85, 0.69, 0.81]
    for order in ((0, 1, 2), (0, 2, 1)):  # the second meets the largest before the crop has grown
        merged = merge_near_duplicates([region(i, TRIPLETS[0], 1, crops[place]) for i, place in enumerate(order, 1)])
        assert [(r.region_id, r.crop) for r in merged] == [(1, (0, 0, 124, 100))]


@pytest.mark.parametrize(
    "other",
    [region(2, TRIPLETS[1], 1), region(2, TRIPLETS[0], 2), region(2, TRIPLETS[0], 1, (0, 0, 100, 100))],
    ids=["other triplet", "other image", "IoU of 0.8"],
)
def test_merging_leaves_what_is_no_near_duplicate(other: Region) -> None:
    regions = [region(1, TRIPLETS[0], 1), other]
    assert merge_near_duplicates(regions) == regions


def test_merging_finds_little_left_to_do_in_the_release() -> None:
    regions = released_regions()
    groups: dict[object, list[Region]] = {}
    for r in regions:
        groups.setdefault((r.image_id, r.triplet), []).append(r)
    pairs = sum(len(group) * (len(group) - 1) // 2 for group in groups.values())
    left = [pair for group in groups.values() for pair in merges(group)]
    assert (pairs, len(left)) == (1202, 26)
    assert len(merge_near_duplicates(regions)) == len(regions) - 26
