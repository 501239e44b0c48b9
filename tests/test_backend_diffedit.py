"""DiffEdit and its ablations: the laws of the method."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from making import FEW, counted, few, made, pixels, question, studio_of
from PIL import Image
from tiny_diffusion import GRID, SIZE, picture

from simat.errors import Cancelled, QueryError
from simat.studios import Studio
from simat.types import Step

pytestmark = pytest.mark.usefixtures("one_thread")

EDITORS = ("diffedit", "diffedit_no_encoding", "sdedit", "encode_decode")
FULL, EMPTY = np.ones((SIZE, SIZE)), np.zeros((SIZE, SIZE))


@pytest.fixture
def studio(tiny: Any) -> Studio:
    return studio_of(tiny)


def half() -> np.ndarray:
    """The left half."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[:, : SIZE // 2] = 1
    return mask


def test_an_empty_mask_returns_the_input_bit_by_bit(studio: Studio) -> None:
    answer = made(studio, mask=EMPTY)
    assert answer[0].image.tobytes() == picture(1).tobytes()
    assert not answer.extras["mask"].any()


def test_an_empty_mask_leaves_the_latents_of_the_input(studio: Studio) -> None:
    """Through every step of the decoding, not around it."""
    from simat.generators.decoding import Course, decoded
    from simat.generators.running import Run
    from simat.generators.schedule import Schedule

    model = studio.diffusion
    schedule = Schedule.of(model.alphas, 5)
    trajectory = studio.trajectories.inverted(model, picture(1), schedule, 4, Run())
    course = Course(schedule, model.embed(["a cat"]), model.embed([""]), 3.0)
    latents = decoded(model, course, trajectory[:, None], torch.zeros((1, GRID, GRID), dtype=torch.bool), Run())
    assert latents.equal(model.encode([picture(1)]))


def test_outside_the_mask_the_latents_are_those_of_the_input(studio: Studio) -> None:
    answer = made(studio, mask=half(), settings={"trajectory": True})
    changed = np.abs(pixels(answer[0].image) - pixels(made(studio, "encode")[0].image)).mean((0, 2))
    assert changed[: SIZE // 2].mean() > 3 * changed[-SIZE // 8 :].mean()
    assert np.array_equal(answer.extras["trajectory"][0, 0], studio.diffusion.encode([picture(1)])[0].numpy())


def test_pixels_away_from_the_mask_are_kept_where_asked(studio: Studio) -> None:
    cell, kept = SIZE // GRID, {"keep": True}
    plain, blended = (pixels(made(studio, mask=half(), settings=more)[0].image) for more in ({}, kept))
    inside, far = slice(SIZE // 2), slice(SIZE // 2 + 2 * cell, None)
    assert np.array_equal(blended[:, inside], plain[:, inside])
    assert np.array_equal(blended[:, far], pixels(picture(1))[:, far])
    assert not np.array_equal(plain[:, far], blended[:, far])


def test_a_full_mask_keeps_nothing(studio: Studio) -> None:
    answers = [made(studio, mask=FULL, settings={"keep": keep})[0].image for keep in (False, True)]
    assert answers[0].tobytes() == answers[1].tobytes()


def test_a_full_mask_is_encode_decode(studio: Studio) -> None:
    assert made(studio, mask=FULL)[0].image.tobytes() == made(studio, "encode_decode")[0].image.tobytes()


def test_a_full_mask_without_encoding_is_sdedit(studio: Studio) -> None:
    ours = made(studio, "diffedit_no_encoding", mask=FULL, seed=4)
    assert ours[0].image.tobytes() == made(studio, "sdedit", seed=4)[0].image.tobytes()


@pytest.mark.parametrize("words", [{"edits": "dog -> dog"}, {"edits": (), "text": "a dog on the beach"}])
def test_a_query_that_is_the_reference_gives_an_empty_mask_and_the_input(studio: Studio, words: Any) -> None:
    answer = made(studio, **words)
    assert not answer.extras["mask"].any()
    assert answer[0].image.tobytes() == picture(1).tobytes()


@pytest.mark.parametrize("backend", ["diffedit", "diffedit_no_encoding"])
def test_strength_zero_returns_the_input(studio: Studio, backend: str) -> None:
    assert made(studio, backend, strength=0.0)[0].image.tobytes() == picture(1).tobytes()


@pytest.mark.parametrize("backend", EDITORS)
def test_strength_one_changes_the_picture(studio: Studio, backend: str) -> None:
    answer = made(studio, backend, strength=1.0)
    assert np.abs(pixels(answer[0].image) - pixels(picture(1))).mean() > 1
    assert np.isfinite(pixels(answer[0].image)).all()


def test_inversion_then_unguided_decoding_reconstructs(tiny: Any) -> None:
    """Better with smaller steps: the Euler scheme of eq. 5.3 comes back to where it started."""
    from simat.generators.decoding import Course, decoded
    from simat.generators.inversion import Trajectories
    from simat.generators.running import Run
    from simat.generators.schedule import Schedule

    errors = []
    for steps, level in ((5, 2), (40, 9)):  # both end at the timestep 201
        schedule, empty = Schedule.of(tiny.alphas, steps), tiny.embed([""])
        trajectory = Trajectories().inverted(tiny, picture(1), schedule, level, Run())
        everywhere = torch.ones((1, GRID, GRID), dtype=torch.bool)
        back = decoded(tiny, Course(schedule, empty, empty, 1.0), trajectory[:, None], everywhere, Run())
        errors.append(float((back - trajectory[:1]).norm() / trajectory[:1].norm()))
    assert errors[1] < 0.03
    assert errors[1] < errors[0] / 3


def test_timesteps_of_the_trajectory_are_those_of_the_decoding(studio: Studio, tiny: Any) -> None:
    with counted(tiny) as timesteps:
        made(studio, mask=half(), strength=0.8)
    assert timesteps == [1, 201, 401, 601, 601, 401, 201, 1]


def test_the_second_strength_inverts_nothing_anew(studio: Studio, tiny: Any) -> None:
    stages = []
    for strength in (0.4, 0.8, 0.6, 0.8):
        answer = made(studio, mask=half(), strength=strength)
        stages.append(round(answer.timings.get("invert", 0.0), 9) > 0)
    assert stages == [True, True, False, False]
    with counted(tiny) as timesteps:
        made(studio, mask=half(), strength=0.8, edits="dog -> bird")  # another text, the same inversion
    assert len(timesteps) == 4


def test_the_picture_is_encoded_once(studio: Studio) -> None:
    assert "encode" in made(studio).timings
    assert "encode" not in made(studio, settings={"steps": 4}).timings
    assert "encode" in made(studio, image=picture(2)).timings


@pytest.mark.parametrize("backend", ["diffedit", "diffedit_no_encoding", "sdedit"])
def test_the_same_seed_gives_the_same_pixels(tiny: Any, backend: str) -> None:
    first = made(studio_of(tiny), backend, seed=5)
    torch.manual_seed(99)
    again = made(studio_of(tiny), backend, seed=5)
    other = made(studio_of(tiny), backend, seed=6)
    assert first[0].image.tobytes() == again[0].image.tobytes()
    assert first[0].image.tobytes() != other[0].image.tobytes()


@pytest.mark.parametrize("backend", ["diffedit", "sdedit"])
@pytest.mark.parametrize("batch", [2, 20])
def test_sample_i_is_the_only_sample_of_seed_plus_i(studio: Studio, backend: str, batch: int) -> None:
    settings = {"batch": batch}
    three = made(studio, backend, settings, seed=5, samples=3)
    assert len(three) == 3
    for number, result in enumerate(three):
        alone = made(studio, backend, settings, seed=5 + number)
        assert np.abs(pixels(result.image) - pixels(alone[0].image)).max() <= 2


def test_the_mask_finds_where_the_texts_disagree(studio: Studio, tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network whose predictions differ by the text in one corner alone."""
    target = tiny.embed(["a cat on the beach"]).states[0]

    def noise(latents: Any, timestep: int, prompts: Any) -> Any:
        output = latents.clone()
        for row, states in enumerate(prompts.states):
            if states.equal(target):
                output[row, :, :4, 4:8] += 1
        return output

    monkeypatch.setattr(tiny, "noise", noise)
    mask = made(studio).extras["mask"][0]
    assert mask[:4, 4:8].all()
    assert mask.sum() == 16


def test_a_given_mask_is_used_as_it_is(studio: Studio) -> None:
    answer = made(studio, mask=half())
    assert np.array_equal(answer.extras["mask"][0], np.arange(GRID)[None].repeat(GRID, 0) < GRID // 2)
    assert "mask" not in answer.timings


def test_a_lower_threshold_gives_a_larger_mask(studio: Studio) -> None:
    shares = [made(studio, settings={"threshold": t}).extras["mask"].mean() for t in (0.8, 0.5, 0.2, 0.0)]
    assert shares == sorted(shares)
    assert shares[-1] == 1 > shares[0]


@pytest.mark.parametrize("backend", EDITORS)
def test_answers_tell_how_they_came_about(studio: Studio, tiny: Any, backend: str) -> None:
    answer = made(studio, backend, seed=3, strength=0.6, samples=2)
    assert (answer.backend, len(answer), answer.extras["seed"]) == (backend, 2, 3)
    assert answer.extras["config"]["strength"] == 0.6
    assert answer.extras["config"]["steps"] == FEW["steps"]
    assert answer.extras["models"] == {"diffusion": f"{tiny.name} {tiny.fingerprint}"}
    assert (answer.extras["reference"], answer.extras["target"]) == ("a dog on the beach", "a cat on the beach")
    assert answer.extras["mask"].shape == answer.extras["mask_soft"].shape == (2, GRID, GRID)
    assert answer[0].caption == "a cat on the beach"
    assert 0 < answer.timings["unet"] < answer.timings["total"]
    assert "trajectory" not in answer.extras


def test_settings_come_from_the_model_then_the_caller_then_the_query(
    studio: Studio, tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(tiny.__dict__, "defaults", {"diffedit": {"guidance": 2.0, "strength": 0.3, "noises": 1}})
    config = made(studio, settings={"steps": 5}, strength=0.5).extras["config"]
    assert (config["guidance"], config["strength"], config["noises"]) == (FEW["guidance"], 0.5, FEW["noises"])
    plain = studio.answer(question(strength=None), settings={"steps": 3}).extras["config"]
    assert (plain["guidance"], plain["strength"], plain["noises"]) == (2.0, 0.3, 1)


@pytest.mark.parametrize("name", ["tiny_v", "tiny_xl"])
def test_other_models_edit_too(name: str, request: pytest.FixtureRequest) -> None:
    answer = made(studio_of(request.getfixturevalue(name)))
    assert answer[0].image.size == (SIZE, SIZE)
    assert 0 < answer.extras["mask"].mean() < 1


def test_pictures_of_other_sizes_are_cut_to_the_square(studio: Studio) -> None:
    wide = Image.new("RGB", (3 * SIZE, 2 * SIZE), (200, 10, 10))
    wide.paste((10, 200, 10), (0, 0, SIZE // 2, 2 * SIZE))
    mask = np.zeros((2 * SIZE, 3 * SIZE), np.float32)
    mask[:, -SIZE:] = 1
    answer = made(studio, image=wide, mask=mask)
    assert answer.extras["input"].size == (SIZE, SIZE)
    assert pixels(answer.extras["input"])[..., 1].max() < 60  # the green edge is cut off
    assert answer.extras["mask"][0].any(0).tolist() == [False] * 12 + [True] * 4  # and so is a half of the mask


def test_progress_is_told_after_every_step(studio: Studio) -> None:
    told: list[Step] = []
    studio.answer(question(samples=2), settings={**FEW, "batch": 2}, on_step=told.append)
    stages = [(step.stage, step.step, step.total) for step in told]
    masks = [("mask", 1, 2), ("mask", 2, 2)]
    decoding = [("decode", n, 4) for n in range(1, 5)]
    assert stages == [*masks, *masks, *(("invert", n, 4) for n in range(1, 5)), *decoding, *decoding]
    assert told[-1].preview is not None
    assert told[-1].preview.size == (GRID, GRID)


@pytest.mark.parametrize("backend", [*EDITORS, "copy", "encode"])
def test_cancelling_at_any_moment_stops_and_spoils_nothing(tiny: Any, backend: str) -> None:
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    studio = studio_of(tiny)
    settings = {**few(studio, backend), **({"steps": 3} if backend in EDITORS else {})}
    whole = studio.answer(question(), backend, settings=settings, cancel=count)
    for moment in range(1, asked + 1):
        left = iter([False] * (moment - 1) + [True] * asked)
        with pytest.raises(Cancelled, match="cancelled"):
            studio_of(tiny).answer(question(), backend, settings=settings, cancel=lambda left=left: next(left))
    again = studio.answer(question(), backend, settings=settings)
    assert again[0].image.tobytes() == whole[0].image.tobytes()


def test_a_cancelled_inversion_goes_on_where_it_was(studio: Studio, tiny: Any) -> None:
    expected = made(studio_of(tiny), mask=half())
    left = iter([False] * 5 + [True] * 9)
    with pytest.raises(Cancelled):
        studio.answer(question(mask=half()), settings=FEW, cancel=lambda: next(left))
    with counted(tiny) as timesteps:
        answer = made(studio, mask=half())
    assert 4 < len(timesteps) < 8
    assert answer[0].image.tobytes() == expected[0].image.tobytes()


def test_copy_is_the_input_and_encode_its_autoencoding(studio: Studio, tiny: Any) -> None:
    assert made(studio, "copy")[0].image.tobytes() == picture(1).tobytes()
    expected = tiny.pictures(tiny.encode([picture(1)]))[0]
    assert made(studio, "encode")[0].image.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"image": None}, "needs image.*it takes edits, image, mask, reference, samples, seed, strength, text"),
        ({"layout": {"dog": FULL}}, "would ignore layout"),
        ({"scale": 2.0}, "would ignore scale"),
        ({"image": 3}, "id of an index"),
        ({"edits": "cat -> dog"}, "'cat' is not in the reference"),
        ({"edits": "do -> cat"}, "'do' is not in the reference"),
        ({"edits": "dog -> dragon"}, "does not know a word; got 'dragon'"),
        ({"edits": ()}, "needs words"),
        ({"text": "a cat"}, "say the same thing twice"),
        ({"mask": np.ones((3, 5))}, "another size.*got 5 × 3.*make it 64 × 64"),
        ({"mask": np.ones((SIZE, SIZE, 1))}, "another size"),
        ({"mask": np.full((SIZE, SIZE), 255)}, r"values in \[0, 1\]"),
        ({"mask": np.full((SIZE, SIZE), np.nan)}, r"values in \[0, 1\]"),
        ({"mask": np.eye(SIZE)}, "covers no cell of 4 × 4 pixels"),
        ({"mask": FULL, "edits": (), "text": "a cat"}, "would ignore the reference"),
    ],
)
def test_questions_that_cannot_be_answered_say_why(studio: Studio, more: dict[str, Any], match: str) -> None:
    with pytest.raises(QueryError, match=match):
        made(studio, **more)


@pytest.mark.parametrize("backend", ["sdedit", "encode_decode"])
def test_editors_of_the_whole_picture_take_no_mask(studio: Studio, backend: str) -> None:
    with pytest.raises(QueryError, match="would ignore mask"):
        made(studio, backend, mask=FULL)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength: float) -> None:
    with pytest.raises(QueryError, match=r"strength must lie in \[0, 1\]"):
        question(strength=strength)


@pytest.mark.parametrize("more", [{"samples": 0}, {"seed": -1}])
def test_samples_and_seeds_out_of_range_are_refused(more: dict[str, int]) -> None:
    with pytest.raises(QueryError, match="must"):
        question(**more)
