from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.scenes.captions import captions, described
from data.scenes.drawing import Pen
from data.scenes.layout import ABOVE, OVERLAP, WIDE, Layout, layout
from data.scenes.palette import APART, COLOURS, distance, distinct
from data.scenes.places import GROUNDS, STUFF, VARIANTS, backdrop
from data.scenes.scene import OWN, SceneError, sample
from data.scenes.world import OBJECTS, PEOPLE, PLACES, RELATIONS, SUBJECTS, THINGS, common_places, triplets

EVERY = triplets()
numbers = st.integers(0, 10_000)


def of(relation: str) -> list[tuple[tuple[str, str, str], Layout]]:
    return [(t, layout(t)) for t in EVERY if t[1] == relation]


def middle(box: tuple[float, float, float, float]) -> float:
    return (box[0] + box[2]) / 2


def test_world_is_as_rich_as_promised() -> None:
    assert len(SUBJECTS) >= 12
    assert len(OBJECTS) >= 20
    assert len(RELATIONS) >= 8
    assert len(PLACES) >= 8
    assert len(EVERY) >= 800
    assert len(set(EVERY)) == len(EVERY)


def test_world_uses_every_thing_and_every_place() -> None:
    assert {s for s, _, _ in EVERY} | {o for _, _, o in EVERY} == set(THINGS)
    assert {p for s, _, o in EVERY for p in common_places(s, o)} == set(PLACES) == set(GROUNDS)


@pytest.mark.parametrize(
    "nonsense", [("man", "riding", "flower"), ("bird", "riding", "bicycle"), ("elephant", "sitting on", "stool")]
)
def test_world_has_no_nonsense(nonsense: tuple[str, str, str]) -> None:
    assert nonsense not in EVERY
    with pytest.raises(SceneError, match="no such triplet"):
        sample(0, 0, nonsense)


def test_scene_of_a_place_where_a_thing_cannot_be_says_where_it_can() -> None:
    with pytest.raises(SceneError, match=r"not in this place.*room"):
        sample(0, 0, ("man", "lying on", "bed"), "beach")


def hidden(found: Layout) -> float:
    """Share of the narrower one's width over which the other stands."""
    (left, _, right, _), (other, _, end, _) = found.subject.box, found.object.box
    return max(0.0, right - other) / min(right - left, end - other)


def test_next_to_stands_beside_it_on_the_ground() -> None:
    for triplet, found in of("next to"):
        assert middle(found.subject.box) < middle(found.object.box), triplet
        assert found.object.box[0] < found.subject.box[2] + 6, triplet
        assert hidden(found) <= OVERLAP + 1e-9, triplet
        assert abs(found.subject.box[1] - found.object.box[1]) < 20, triplet


def test_chasing_is_behind_and_both_face_the_same_way() -> None:
    for triplet, found in of("chasing"):
        assert middle(found.subject.box) < middle(found.object.box), triplet
        assert hidden(found) <= OVERLAP + 1e-9, triplet
        scene = sample(1, 2, triplet)
        assert scene.faces(triplet[2]) in {scene.facing, ""}
        assert found.subject.pose == found.object.pose == "run"


def test_only_wide_things_hide_each_other_and_the_nearer_stands_lower() -> None:
    seen = 0
    for relation in ("next to", "chasing"):
        for triplet, found in of(relation):
            near, far = (found.subject, found.object)[:: 1 if found.subject_in_front else -1]
            if hidden(found) > 0:
                seen += 1
                assert min(near.width, far.width) >= WIDE, triplet
                assert not {near.name, far.name} & set(PEOPLE), triplet
                assert relation == "chasing" or near.box[1] < far.box[1], triplet
    assert seen > 50


def test_children_are_no_dwarfs_on_wide_seats() -> None:
    for triplet in (("girl", "riding", "boat"), ("boy", "sitting on", "rug"), ("girl", "riding", "car")):
        found = layout(triplet)
        assert found.object.width < 2.1 * found.subject.height, triplet


def test_jumping_over_is_above_without_touching() -> None:
    for triplet, found in of("jumping over"):
        assert found.subject.box[1] > found.object.box[3], triplet
        assert middle(found.subject.box) == pytest.approx(middle(found.object.box)), triplet


def test_standing_under_is_below_the_shade_and_within_its_width() -> None:
    for triplet, found in of("standing under"):
        assert found.subject.box[3] < found.object.anchor("shade")[1], triplet
        assert found.object.box[0] < middle(found.subject.box) < found.object.box[2], triplet
        assert found.subject.box[1] == pytest.approx(-1.5), triplet


@pytest.mark.parametrize("relation", ["sitting on", "riding"])
def test_sitting_touches_the_seat(relation: str) -> None:
    for triplet, found in of(relation):
        seats = [found.object.anchor(name) for name in ("seat", "back", "inside")]
        own = [found.subject.anchor(name) for name in ("seat", "feet")]
        assert min(np.hypot(a[0] - b[0], a[1] - b[1]) for a in seats for b in own) < 1e-9, triplet
        assert found.subject.box[3] > found.object.anchor("seat")[1], triplet


def test_lying_on_rests_on_the_surface_and_is_wider_than_high() -> None:
    for triplet, found in of("lying on"):
        left, bottom, right, top = found.subject.box
        lowest = found.subject.anchor("seat")[1] if triplet[0] in PEOPLE else bottom  # hair may hang
        assert lowest == pytest.approx(found.object.anchor("bed")[1]), triplet
        assert right - left > top - bottom, triplet


def test_holding_touches_the_hand() -> None:
    for triplet, found in of("holding"):
        assert found.object.anchor("grip") == pytest.approx(found.subject.anchor("hand")), triplet


def test_carrying_is_above_the_hands_or_on_the_back() -> None:
    for triplet, found in of("carrying"):
        x, y = found.subject.anchor("top" if triplet[0] in PEOPLE else "back")
        above = 0.0 if triplet[0] in PEOPLE else ABOVE
        assert found.object.anchor("rest") == pytest.approx((x, y + above)), triplet
        assert found.object.box[1] > found.subject.box[1] + 10, triplet


def test_layout_steps_are_the_largest_that_fit() -> None:
    for triplet in EVERY:
        left, bottom, right, top = layout(triplet).box
        scale = 1.05 ** layout(triplet).steps
        assert (right - left) * scale <= 93 + 1e-9, triplet
        assert (top - bottom) * scale <= 89 + 1e-9, triplet


@given(numbers, numbers)
def test_scene_is_decided_by_its_seed_and_number(seed: int, number: int) -> None:
    assert sample(seed, number) == sample(seed, number)


def test_scenes_of_another_seed_are_others() -> None:
    assert [sample(0, n) for n in range(20)] != [sample(1, n) for n in range(20)]


def test_scene_is_the_same_in_another_process() -> None:
    code = "from data.scenes.scene import sample; print([sample(5, n) for n in range(30)])"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert other.stdout.strip() == str([sample(5, n) for n in range(30)])


@pytest.mark.parametrize("seed", [0, 7])
def test_every_triplet_comes_once_before_any_comes_twice(seed: int) -> None:
    turn = [sample(seed, number).triplet for number in range(len(EVERY))]
    assert sorted(turn) == sorted(EVERY)


@given(numbers)
def test_colours_stand_out_from_the_place_wherever_any_does(number: int) -> None:
    scene = sample(3, number)
    colours = THINGS[scene.triplet[0]].colours
    far = [c for c in colours if all(distance(COLOURS[c], ground) >= APART for ground in GROUNDS[scene.place])]
    assert scene.colours[0] in (far or colours)


@pytest.mark.parametrize("thing", OWN)
def test_colours_stand_out_from_a_thing_that_has_its_own(thing: str) -> None:
    for subject in ("bear", "cow", "dog"):
        for triplet in [t for t in EVERY if t[::2] == (subject, thing)]:
            for number in range(12):
                first = sample(5, number, triplet).colours[0]
                assert distance(COLOURS[first], OWN[thing][0]) >= APART, (triplet, first)


def test_distinct_takes_the_best_where_nothing_stands_out() -> None:
    assert distinct(("red", "white"), (COLOURS["red"], COLOURS["white"], (240, 240, 240))) in (["red"], ["white"])
    assert distinct(("red", "pink", "blue"), (COLOURS["red"],)) == ["pink", "blue"]


@given(numbers)
def test_captions_say_the_triplet_and_the_second_says_everything(number: int) -> None:
    scene = sample(4, number)
    five = captions(scene)
    subject, relation, thing = scene.triplet
    assert len(set(five)) == 5
    assert all(word in caption for caption in five for word in (subject, relation, thing))
    assert all(word in five[1] for word in (*scene.colours, scene.place, f"facing {scene.facing}"))


@pytest.mark.parametrize(
    ("name", "colour", "words"),
    [
        ("man", "red", "a man in red"),
        ("cat", "orange", "an orange cat"),
        ("umbrella", "blue", "a blue umbrella"),
        ("elephant", "", "an elephant"),
    ],
)
def test_described_chooses_article_and_order(name: str, colour: str, words: str) -> None:
    assert described(name, colour) == words


@pytest.mark.parametrize("place", PLACES)
def test_backdrop_covers_its_frame_and_labels_every_fill(place: str) -> None:
    for variant in range(VARIANTS):
        drawing = backdrop(place, variant)
        assert drawing.raster(1.28).shape == (128, 128)
        assert (drawing.raster(1.28) > 1).all(), (place, variant)
        assert {fill.partition(":")[0] for fill in drawing.fills[1:]} <= set(STUFF)
        assert len(drawing.fills) < 64


@pytest.mark.parametrize("name", THINGS)
def test_drawing_fits_its_box(name: str) -> None:
    drawing = THINGS[name].draw("stand")
    slots = drawing.raster(4)
    assert 4 < (slots > 0).sum() < slots.size
    assert all(edge.any() for edge in (slots[:3], slots[-3:], slots[:, :3], slots[:, -3:])), "the box is not tight"
    assert len(drawing.fills) < 90


def test_pen_turned_moves_shapes_and_anchors_alike() -> None:
    pen = Pen()
    pen.box("main", 0, 0, 10, 2, ink=False)
    pen.mark(tip=(10.0, 2.0))
    turned = pen.turned(90).done()
    assert turned.box == pytest.approx((-2, 0, 0, 10))
    assert turned.anchors["tip"] == pytest.approx((-2, 10))
