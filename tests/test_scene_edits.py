"""Edits and layouts of drawn scenes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.scenes.render import OBJECT, SUBJECT, render
from data.scenes.scene import sample
from data.scenes.world import THINGS, triplets
from eval.metrics.masks import dilated
from eval.scene_edits import KINDS, PROTOCOLS, WORLD, scene_edits, scene_layouts, swapped, swaps
from simat.errors import QueryError

NUMBERS = st.integers(0, 400)


@given(NUMBERS, st.sampled_from(KINDS))
def test_swaps_make_sense_and_keep_everything_else(number: int, kind: str) -> None:
    scene = sample(WORLD, number)
    for other in swaps(scene, kind):
        goal = swapped(scene, kind, other)
        place = 0 if kind == "subject" else 2
        assert goal.triplet in triplets()
        assert [a == b for a, b in zip(goal.triplet, scene.triplet, strict=True)] == [n != place for n in range(3)]
        assert (goal.place, goal.colours, goal.facing) == (scene.place, scene.colours, scene.facing)
        assert goal.place in THINGS[other].places
        colour = goal.colours[place // 2]
        assert colour in THINGS[other].colours or not (colour or THINGS[other].colours)


def test_swaps_leave_out_nothing_that_makes_sense() -> None:
    scene = sample(WORLD, 5)
    subject, relation, thing = scene.triplet
    expected = {
        t[0] for t in triplets()
        if t[1:] == (relation, thing) and t[0] != subject and scene.place in THINGS[t[0]].places
        and scene.colours[0] in THINGS[t[0]].colours
    }  # fmt: skip
    assert set(swaps(scene, "subject")) == expected
    assert expected


@pytest.mark.parametrize("kind", KINDS)
def test_true_mask_is_where_the_picture_shows_the_thing(kind: str) -> None:
    part = SUBJECT if kind == "subject" else OBJECT
    for case in scene_edits(kind, 12, size=64):
        scene = sample(WORLD, int(case.key.rpartition("-")[2]))
        without = np.asarray(render(scene, 64, without=part).image).astype(int)
        change = np.abs(np.asarray(case.picture()).astype(int) - without).max(2)
        assert case.mask is not None
        assert not change[~dilated(case.mask, 1)].any()
        assert (change[case.mask] > 8).mean() > 0.8


def test_texts_differ_by_the_words_of_the_edit() -> None:
    for case in scene_edits("object", 20, size=64):
        source, _, target = case.edits.partition(" -> ")
        assert source in case.reference
        assert target in case.text
        assert case.facts["object"] == target
        assert case.changed == "object"


def test_edits_of_a_seed_are_always_the_same_and_longer_lists_begin_alike() -> None:
    few, many = scene_edits("subject", 3, seed=1, size=64), scene_edits("subject", 6, seed=1, size=64)
    assert [case.key for case in few] == [case.key for case in many[:3]]
    assert [case.text for case in few] == [case.text for case in many[:3]]
    assert [case.text for case in few] != [case.text for case in scene_edits("subject", 3, seed=2, size=64)]
    with pytest.raises(QueryError, match="no such kind of edit of scenes; got 'place'"):
        scene_edits("place", 1)


def test_layouts_of_few_are_among_the_filtered_and_these_among_all() -> None:
    found = {
        name: {case.key.partition("-")[2]: case for case in scene_layouts(name, 40, size=64)} for name in PROTOCOLS
    }
    for small, large in (("few", "filtered"), ("filtered", "all")):
        for number in set(found[small]) & set(found[large]):
            assert set(found[small][number].segments) <= set(found[large][number].segments)
    assert all(mask.mean() >= 0.05 for case in found["few"].values() for mask in case.segments.values())
    assert {len(case.segments) for case in found["few"].values()} == {1, 2}
    assert all(name in case.text for case in found["all"].values() for name in case.segments)
    with pytest.raises(QueryError, match="no such protocol of layouts"):
        scene_layouts("none", 1)
