from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from data.scenes.render import FIRST_STUFF, OBJECT, SUBJECT, render, tight_box
from data.scenes.scene import SceneError, sample
from data.scenes.world import RELATIONS, triplets

numbers = st.integers(0, 5000)


def grown(mask: np.ndarray) -> np.ndarray:
    """A mask and the pixels around it, which averaging touches."""
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(3))) > 0


def difference(one: Image.Image, other: Image.Image) -> np.ndarray:
    return np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int))


def test_render_is_the_same_in_another_process() -> None:
    code = """if True:
    import hashlib
    from data.scenes.render import render
    from data.scenes.scene import sample
    print([hashlib.sha256(render(sample(2, n), 96).image.tobytes()).hexdigest() for n in range(8)])
    """
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    own = [hashlib.sha256(render(sample(2, n), 96).image.tobytes()).hexdigest() for n in range(8)]
    assert other.stdout.strip() == str(own)
    assert len(set(own)) == 8


@given(numbers, st.sampled_from([SUBJECT, OBJECT]))
@settings(max_examples=20)
def test_leaving_a_thing_out_changes_only_where_it_was_seen(number: int, which: int) -> None:
    scene = sample(6, number)
    whole, without = render(scene, 96), render(scene, 96, without=which)
    changed = difference(whole.image, without.image).any(axis=2)
    # Slivers thinner than half a pixel show in the picture and not in the mask.
    assert (changed & ~grown(whole.mask(which))).sum() <= 0.02 * changed.sum()
    assert not without.mask(which).any()
    moved = whole.segments != without.segments
    assert (moved == whole.mask(which)).all()
    assert changed[whole.mask(which)].mean() > 0.7


@given(numbers)
@settings(max_examples=20)
def test_boxes_are_tight(number: int) -> None:
    rendered = render(sample(7, number), 80)
    for which in (SUBJECT, OBJECT):
        x0, y0, x1, y1 = rendered.box(which)
        mask = rendered.mask(which)
        assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
        assert all(edge.any() for edge in (mask[y0], mask[y1 - 1], mask[:, x0], mask[:, x1 - 1]))


def test_box_of_nothing_is_zero() -> None:
    assert tight_box(np.zeros((4, 4), dtype=bool)) == (0, 0, 0, 0)


@given(numbers)
@settings(max_examples=5)
def test_sizes_show_the_same_picture(number: int) -> None:
    scene = sample(8, number)
    small, large = render(scene, 64), render(scene, 512)
    assert difference(small.image, large.image.resize((64, 64), Image.Resampling.BOX)).mean() < 6
    centres = large.segments[4::8, 4::8]
    assert (small.segments == centres).mean() > 0.93


@given(numbers)
@settings(max_examples=20)
def test_every_pixel_is_a_thing_or_labelled_stuff(number: int) -> None:
    segments = render(sample(9, number), 64).segments
    assert set(np.unique(segments)) >= {SUBJECT, OBJECT}
    assert ((segments == SUBJECT) | (segments == OBJECT) | (segments >= FIRST_STUFF)).all()


def test_subject_facing_left_stands_on_the_other_side() -> None:
    for number in range(40):
        scene = sample(10, number, ("dog", "next to", "car"))
        rendered = render(scene, 64)
        subject, thing = rendered.box(SUBJECT), rendered.box(OBJECT)
        assert (subject[0] < thing[0]) == (scene.facing == "right")


@pytest.mark.parametrize("relation", RELATIONS)
def test_both_are_seen_and_whole(relation: str) -> None:
    generator = np.random.default_rng(11)
    some = [t for t in triplets() if t[1] == relation]
    for number in range(60):
        scene = sample(12, number, some[int(generator.integers(len(some)))])
        whole = render(scene, 64)
        for which, other, least in ((SUBJECT, OBJECT, 0.04), (OBJECT, SUBJECT, 0.016)):
            seen, all_of_it = whole.mask(which).sum(), render(scene, 64, without=other).mask(which).sum()
            assert seen >= least * 64**2, scene
            assert seen >= 0.4 * all_of_it, scene
            x0, y0, x1, y1 = whole.box(which)
            assert min(x0, y0) > 0, scene
            assert max(x1, y1) < 64, scene


@pytest.mark.parametrize("size", [0, 63, 513, -64])
def test_render_rejects_sizes_out_of_range(size: int) -> None:
    with pytest.raises(SceneError, match="64 to 512"):
        render(sample(0, 0), size)
