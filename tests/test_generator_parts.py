"""Masks, inversions, prompts and settings, each by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from making import counted
from scipy import ndimage
from tiny_diffusion import GRID, SIZE, picture

from simat.backends.settings import Limits, check_limits, settings_of
from simat.errors import Cancelled, QueryError
from simat.generators.inversion import Trajectories
from simat.generators.masks import filled, fitted, given_mask, grown, noise_difference, rescaled
from simat.generators.prompts import check_words, prompts_of
from simat.generators.running import Run, batches
from simat.generators.schedule import Schedule, seeded_noise
from simat.types import Query, Step

pytestmark = pytest.mark.usefixtures("one_thread")

DIFFERENCES = hnp.arrays(np.float32, (4, 4), elements=st.floats(0, 100, width=32))


@given(DIFFERENCES)
def test_rescaled_differences_fill_the_unit_interval_in_their_order(values: np.ndarray) -> None:
    soft = rescaled(torch.from_numpy(values), 3.0).numpy()
    assert soft.min() == 0
    assert soft.max() in {0, 1}
    order = np.argsort(values, axis=None)
    assert (np.diff(soft.ravel()[order]) >= 0).all()


@given(DIFFERENCES, st.floats(0.5, 50))
def test_scaling_a_difference_changes_no_mask(values: np.ndarray, factor: float) -> None:
    """What guidance would do to it."""
    difference = torch.from_numpy(values)
    assert torch.allclose(rescaled(difference, 3.0), rescaled(difference * factor, 3.0), atol=1e-3)


def test_extreme_differences_are_cut() -> None:
    difference = torch.zeros(10, 10)
    difference[0, 0], difference[5:, :] = 1000.0, 1.0
    assert float(rescaled(difference, 3.0)[9, 9]) == pytest.approx(1 / (3 * float(difference.mean())), rel=1e-3)


def slow_difference(model: Any, latents: Any, texts: tuple[str, str], noises: Any, timestep: int) -> Any:
    """One noise and one text at a time."""
    alpha, total = float(model.alphas[timestep]), 0.0
    for noise in noises:
        mixed = alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise[None]
        ours, theirs = (model.noise(mixed, timestep, model.embed([text])) for text in texts)
        total = total + (ours - theirs).abs()
    return (total / len(noises)).mean((0, 1))


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_noise_difference_is_that_of_one_by_one(tiny: Any, batch: int, strength: float) -> None:
    latents, noises = tiny.encode([picture(1)]), seeded_noise((3, 4, GRID, GRID), 3)
    texts = ("a cat", "a dog")
    prompts = [tiny.embed([text]) for text in texts]
    found = noise_difference(tiny, latents, *prompts, noises, strength, Run(), batch)
    with torch.no_grad():
        expected = slow_difference(tiny, latents, texts, noises, min(int(strength * 1000), 999))
    assert torch.allclose(found, expected, atol=1e-4)


@given(hnp.arrays(np.bool_, (2, 7, 6)))
def test_filling_and_growing_are_those_of_scipy(cells: np.ndarray) -> None:
    masks = torch.from_numpy(cells)
    for number, mask in enumerate(cells):
        assert np.array_equal(filled(masks)[number].numpy(), ndimage.binary_fill_holes(mask))
        assert np.array_equal(grown(masks, 2)[number].numpy(), ndimage.binary_dilation(mask, iterations=2))
        narrow = ndimage.binary_erosion(mask, iterations=2, border_value=1)
        assert np.array_equal(grown(masks, -2)[number].numpy(), narrow)
        assert grown(masks, 0) is masks


@given(hnp.arrays(np.bool_, (GRID, GRID)))
def test_a_mask_of_whole_cells_is_kept(cells: np.ndarray) -> None:
    soft = given_mask(np.kron(cells, np.ones((4, 4))), picture(1), SIZE, GRID)
    assert np.array_equal(soft.numpy() >= 0.5, cells)
    assert set(soft.unique().tolist()) <= {0, 1}


def test_a_mask_may_be_of_bools_and_of_the_square() -> None:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:8] = True
    soft = given_mask(mask, picture(1, 3 * SIZE), SIZE, GRID)
    assert (soft.numpy()[:2] == 1).all()
    assert (soft.numpy()[2:] == 0).all()


def test_a_picture_of_the_right_size_is_left_as_it_is() -> None:
    assert fitted(picture(1), SIZE).tobytes() == picture(1).tobytes()
    assert fitted(picture(1, 100), SIZE).size == (SIZE, SIZE)


def test_a_trajectory_is_the_beginning_of_a_longer_one(tiny: Any) -> None:
    schedule = Schedule.of(tiny.alphas, 6)
    kept = Trajectories()
    short = kept.inverted(tiny, picture(1), schedule, 2, Run())
    long = kept.inverted(tiny, picture(1), schedule, 5, Run())
    at_once = Trajectories().inverted(tiny, picture(1), schedule, 5, Run())
    assert len(short) == 3
    assert long[:3].equal(short)
    assert long.equal(at_once)
    assert long[:1].equal(tiny.encode([picture(1)]))


def test_pictures_and_schedules_have_trajectories_of_their_own(tiny: Any) -> None:
    kept, schedule = Trajectories(), Schedule.of(tiny.alphas, 3)
    first = kept.inverted(tiny, picture(1), schedule, 2, Run())
    assert not kept.inverted(tiny, picture(2), schedule, 2, Run()).equal(first)
    assert not kept.inverted(tiny, picture(1), Schedule.of(tiny.alphas, 4), 2, Run()).equal(first)
    with counted(tiny) as timesteps:
        assert kept.inverted(tiny, picture(1), schedule, 2, Run()).equal(first)
    assert timesteps == []


def test_the_trajectory_not_used_for_longest_is_forgotten(tiny: Any) -> None:
    kept, schedule = Trajectories(kept=2), Schedule.of(tiny.alphas, 2)
    for seed in (1, 2, 1, 3):
        kept.inverted(tiny, picture(seed), schedule, 1, Run())
    with counted(tiny) as timesteps:
        kept.inverted(tiny, picture(3), schedule, 1, Run())
        assert timesteps == []
        kept.inverted(tiny, picture(2), schedule, 1, Run())
    assert timesteps == [1]


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        (Query(edits="dog -> cat"), ("dog", "cat")),
        (Query(edits="dog -> cat, beach -> snow"), ("dog, beach", "cat, snow")),
        (Query(edits="+ snow"), ("", "snow")),
        (Query(edits="- dog"), ("dog", "")),
        (Query(edits="dog -> cat", reference="A dog on a beach"), ("A dog on a beach", "A cat on a beach")),
        (Query(edits="dog -> elephant", reference="a dog"), ("a dog", "an elephant")),
        (Query(edits="dog -> cat, cat -> dog", reference="a dog and a cat"), ("a dog and a cat", "a cat and a dog")),
        (Query(edits="+ snow", reference="a dog"), ("a dog", "a dog with snow")),
        (Query(text="a cat", reference="a dog"), ("a dog", "a cat")),
        (Query(text="a cat"), ("", "a cat")),
        (Query(edits="dog -> cat", reference="  "), ("dog", "cat")),
    ],
)
def test_prompts_of_a_query(query: Query, texts: tuple[str, str]) -> None:
    assert prompts_of(query) == texts


@pytest.mark.parametrize("reference", ["a hotdog", "a cat", "dogs"])
def test_an_edit_changes_whole_words(reference: str) -> None:
    with pytest.raises(QueryError, match="'dog' is not in the reference"):
        prompts_of(Query(edits="dog -> bird", reference=reference))


def test_words_that_a_vocabulary_lacks_are_told(tiny: Any, tiny_xl: Any) -> None:
    check_words(tiny.tokenizers, "a dog", "")
    check_words(tiny_xl.tokenizers, "a dragon")  # in pieces, every word has tokens
    with pytest.raises(QueryError, match="does not know a word; got 'dragon'"):
        check_words(tiny.tokenizers, "a dog", "a dragon")


@dataclass(frozen=True)
class Example:
    number: int = 1
    share: float = 0.5
    name: str = "x"
    flag: bool = False
    pair: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_limits(self, share=Limits(0.0, 1.0), number=Limits(1.0))


def test_settings_are_read_from_text_and_from_values() -> None:
    read = settings_of(Example, {"number": "3", "share": "1", "name": "7", "flag": "true", "pair": "[1, 2]"})
    assert read == Example(3, 1.0, "7", True, (1, 2))
    assert settings_of(Example, {"share": 1, "pair": [1]}) == Example(share=1.0, pair=(1,))
    assert settings_of(Example, None, {"number": 2}, {"number": 4}, {}) == Example(4)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"nam": "x"}, "no such setting; got 'nam'; there are: number, share, name, flag, pair"),
        ({"number": "many"}, "'number' is a int; got 'many'"),
        ({"number": 1.5}, "'number' is a int"),
        ({"number": True}, "'number' is a int"),
        ({"flag": 1}, "'flag' is a bool"),
        ({"name": 3}, "'name' is a str"),
        ({"number": 0}, "'number' must be at least 1; got 0"),
        ({"share": 1.01}, r"'share' must be in \[0, 1\]; got 1.01"),
        ({"share": "NaN"}, "'share' must be"),
        ({"share": float("inf")}, "'share' must be"),
    ],
)
def test_settings_that_make_no_sense_are_told(given: dict[str, Any], match: str) -> None:
    with pytest.raises(QueryError, match=match):
        settings_of(Example, given)


def test_a_run_asks_before_and_tells_after_every_step() -> None:
    events: list[Any] = []

    def cancel() -> bool:
        events.append("asked")
        return len(events) > 5

    run = Run(events.append, cancel)
    with pytest.raises(Cancelled):
        for item in run.steps("stage", "abcdef"):
            events.append(item)
    assert events == ["asked", "asked", "a", Step("stage", 1, 6), "asked", "b", Step("stage", 2, 6), "asked"]
    assert run.timings["stage"] > 0


@given(st.lists(st.integers()), st.integers(1, 5))
def test_batches_are_the_items_in_order(items: list[int], size: int) -> None:
    parts = [*batches(items, size)]
    assert [item for part in parts for item in part] == items
    assert all(0 < len(part) <= size for part in parts)
