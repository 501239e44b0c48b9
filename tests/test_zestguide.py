"""ZestGuide, paint-with-words and MultiDiffusion as backends: the laws, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_diffusion import GRID, SIZE, picture, save_tiny

from simat.errors import Cancelled, QueryError
from simat.generators.decoding import Course
from simat.generators.guidance import descent, layout_loss, segment_maps
from simat.generators.options import ModelOptions
from simat.generators.sampling import Guided, MultiDiffusion, Plain, Zest, region_weights
from simat.generators.schedule import Schedule, down, guided_noise, seeded_noise
from simat.studios import Studio
from simat.types import Query, Step

TEXT, STEPS = "a dog riding a red bicycle", 4
QUICK: dict[str, Any] = {"steps": STEPS, "guidance": 3.0}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def box(top: float, left: float, bottom: float, right: float, size: int = SIZE) -> np.ndarray:
    mask = np.zeros((size, size), np.float32)
    mask[int(top * size) : int(bottom * size), int(left * size) : int(right * size)] = 1
    return mask


LAYOUT = {"dog": box(0, 0, 0.5, 1), "red bicycle": box(0.5, 0.25, 1, 0.75)}


@pytest.fixture(scope="module")
def studio(tiny_folder: Path) -> Studio:
    return Studio(ModelOptions(str(tiny_folder), device="cpu", dtype="float32"))


def query(**given: Any) -> Query:
    return Query(**{"text": TEXT, "layout": LAYOUT, "seed": 3, **given})


def latents_of(studio: Studio, backend: str, asked: Query, **settings: Any) -> torch.Tensor:
    """The latents that a backend decodes in the end."""
    caught: list[torch.Tensor] = []
    model = studio.diffusion
    pictures = model.pictures
    model.pictures = lambda latents: caught.append(latents) or pictures(latents)  # type: ignore[method-assign]
    try:
        studio.answer(asked, backend, settings={**QUICK, **settings})
    finally:
        del model.pictures
    return torch.cat(caught)


@torch.no_grad()
def plain(studio: Studio, text: str = TEXT, seed: int = 3, guidance: float = 3.0) -> torch.Tensor:
    """Plain DDIM sampling, spelled out."""
    model = studio.diffusion
    schedule, prompts, empty = Schedule.of(model.alphas, STEPS), model.embed([text]), model.embed([""])
    latents = seeded_noise((1, 4, GRID, GRID), seed)
    for level in range(STEPS, 0, -1):
        noise = guided_noise(model, latents, schedule.timestep(level), prompts, empty, guidance)
        latents = down(schedule, latents, noise, level)
    return latents


@pytest.mark.parametrize("guidance", [3.0, 1.0])
@pytest.mark.parametrize("settings", [{"guidance_lr": 0, "pww": 0}, {"tau": 0, "pww": 0}])
def test_zestguide_without_guidance_is_plain_sampling_bit_for_bit(
    studio: Studio, settings: dict[str, Any], guidance: float
) -> None:
    found = latents_of(studio, "zestguide", query(), guidance=guidance, **settings)
    assert torch.equal(found, plain(studio, guidance=guidance))


def test_pww_of_weight_zero_is_plain_sampling_bit_for_bit(studio: Studio) -> None:
    assert torch.equal(latents_of(studio, "pww", query(), pww=0), plain(studio))


def test_zestguide_without_guidance_is_pww(studio: Studio) -> None:
    painted = latents_of(studio, "pww", query(), pww=2)
    assert torch.equal(latents_of(studio, "zestguide", query(), pww=2, guidance_lr=0), painted)
    assert not torch.equal(painted, plain(studio))


def test_multidiffusion_of_one_full_segment_is_plain_sampling_of_its_words(studio: Studio) -> None:
    whole = query(layout={TEXT: np.ones((SIZE, SIZE))})
    assert torch.equal(latents_of(studio, "multidiffusion", whole), plain(studio))
    part = query(layout={"red bicycle": np.ones((SIZE, SIZE))})
    assert torch.equal(latents_of(studio, "multidiffusion", part), plain(studio, "red bicycle"))


def test_multidiffusion_averages_the_predictions_of_its_regions(studio: Studio) -> None:
    model = studio.diffusion
    masks = torch.zeros(2, GRID, GRID)
    masks[0, :8], masks[1, 6:10] = 1, 1  # rows 6 and 7 belong to both
    weights = region_weights(masks)
    torch.testing.assert_close(weights.sum(0), torch.ones(GRID, GRID))
    assert weights[:, 7, 0].tolist() == [0.5, 0.5, 0.0] and weights[:, 12, 0].tolist() == [0, 0, 1]
    course = Course(Schedule.of(model.alphas, STEPS), model.embed([TEXT]), model.embed([""]), 3.0)
    latents = seeded_noise((1, 4, GRID, GRID), 0)
    regions = model.embed(["dog", "red bicycle", TEXT])
    with torch.no_grad():
        noise, move = MultiDiffusion(model, course, regions, weights).noise(latents, 2, 0.0)
        alone = [
            Plain(model, Course(course.schedule, model.embed([text]), course.empty, 3.0)).noise(latents, 2, 0.0)[0]
            for text in ("dog", "red bicycle", TEXT)
        ]
    expected = torch.zeros_like(latents)
    for row in range(GRID):
        parts = [float(weights[i, row, 0]) * alone[i][:, :, row] for i in range(3)]
        expected[:, :, row] = parts[0] + parts[1] + parts[2]
    assert move is None
    torch.testing.assert_close(noise, expected)


def guided_method(studio: Studio, **how: Any) -> Any:
    """A context that gives ZestGuide's loop with a loss on the two coarser resolutions."""
    from contextlib import contextmanager

    from simat.generators.attention import choose_layers, text_layers, watching
    from simat.generators.layouts import layout_of

    @contextmanager
    def made() -> Iterator[Zest]:
        model = studio.diffusion
        every = text_layers(model.unet, GRID, GRID)
        chosen = choose_layers(every, GRID)
        course = Course(Schedule.of(model.alphas, STEPS), model.embed([TEXT]), model.embed([""]), 3.0)
        settings = {"guidance_lr": 1.0, "until": 1.0, "decay": "linear", "loss": "thesis", "average": "global"}
        with watching(model.unet, chosen, every) as watch:
            layout = layout_of(LAYOUT, TEXT, model)
            yield Zest(model, course, layout, Guided(**{**settings, "paint": 0.0, **how}), watch)

    return made()


@pytest.mark.parametrize("loss", ["thesis", "bce", "sd", "sdxl"])
def test_the_step_lowers_the_loss_of_the_attention_it_reads(studio: Studio, loss: str) -> None:
    latents = seeded_noise((1, 4, GRID, GRID), 5)
    for rate in (0.0, 0.05):
        with guided_method(studio, guidance_lr=1.0, loss=loss) as method:
            _, move = method.noise(latents, 3, 0.0)
            method.noise(latents + rate * move, 3, 0.0)
        before, after = (float(x) for x in method.losses)
        assert after == before if rate == 0 else after < before


def test_the_move_is_eq_6_5_of_the_exact_gradient(studio: Studio) -> None:
    """Against central differences of the loss, one latent at a time."""
    latents = seeded_noise((1, 4, GRID, GRID), 5)
    with guided_method(studio, guidance_lr=0.7) as method:
        _, move = method.noise(latents, 3, 0.25)
        assert float(move.abs().max()) == pytest.approx(0.7 * 0.75)  # η · λ
        prompts, timestep = method.course.prompts, method.course.schedule.timestep(3)

        def loss(x: torch.Tensor) -> float:
            with torch.no_grad(), method.watch.on(record=True):
                method.model.noise(x, timestep, prompts)
                maps = segment_maps([*method.watch.maps.values()], method.layout.tokens, method.size)
            return float(layout_loss(maps, method.layout.at(*method.size)))

        places = [int(move.abs().argmax()), 100, 517]
        found = []
        for place in places:
            step = torch.zeros(latents.numel())
            step[place] = 0.05
            step = step.view_as(latents)
            found.append((loss(latents + step) - loss(latents - step)) / 0.1)
    expected = move.flatten()[places]
    scale = float(expected[0]) / found[0]
    assert scale < 0  # downhill
    np.testing.assert_allclose(np.array(found) * scale, expected, atol=0.02 * abs(float(expected[0])))


def test_zestguide_moves_the_attention_to_the_layout(studio: Studio) -> None:
    settings: dict[str, Any] = {**QUICK, "steps": 8, "pww": 0, "resolutions": [8]}
    left = studio.answer(query(), "zestguide", settings={**settings, "guidance_lr": 0}).extras
    right = studio.answer(query(), "zestguide", settings={**settings, "guidance_lr": 1.0, "tau": 1.0}).extras
    wanted = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(left["layout"]), 8)
    losses = [
        float(layout_loss(torch.from_numpy(extras["attention"][-1])[:, None], wanted)) for extras in (left, right)
    ]
    assert losses[1] < losses[0] - 0.1
    assert right["loss"].shape == (8, 1) and right["loss"][-1] < right["loss"][0]


def test_answer_carries_maps_overlaps_and_losses_of_every_step(studio: Studio) -> None:
    extras = studio.answer(query(samples=3), "zestguide", settings={**QUICK, "batch": 4}).extras
    assert extras["attention"].shape == (STEPS, 3, 2, 8, 8) and extras["iou"].shape == (STEPS, 3, 2)
    assert extras["loss"].shape == (STEPS // 2, 3) and np.isfinite(extras["loss"]).all()
    assert extras["segments"] == ("dog", "red bicycle") and extras["tokens"] == ((2,), (5, 6))
    assert extras["config"]["tau"] == 0.5 and extras["seed"] == 3
    at = extras["attention"]
    mask = extras["layout"][:, ::2, ::2] >= 0.5
    found = at > 0.5 * at.max((-2, -1), keepdims=True)
    np.testing.assert_allclose(extras["iou"], (found & mask).sum((-2, -1)) / (found | mask).sum((-2, -1)), rtol=1e-5)


def test_samples_do_not_depend_on_each_other(studio: Studio) -> None:
    """Sample i draws from a generator of seed + i, and its gradient is its own."""
    two = latents_of(studio, "zestguide", query(samples=2))
    alone = latents_of(studio, "zestguide", query(seed=4))
    torch.testing.assert_close(two[1:], alone, rtol=1e-3, atol=1e-3)
    assert torch.equal(latents_of(studio, "zestguide", query(seed=4)), alone)  # the same seed, bit for bit


def test_a_gradient_of_zero_moves_nothing(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    from simat.generators import sampling

    monkeypatch.setattr(sampling, "layout_loss", lambda maps, masks, form: 0 * maps.sum((1, 2, 3, 4)))
    with guided_method(studio) as method:
        _, move = method.noise(seeded_noise((1, 4, GRID, GRID), 5), 3, 0.0)
    assert torch.equal(descent(move), torch.zeros_like(move)) and torch.equal(move.abs(), torch.zeros_like(move))


@pytest.mark.parametrize("backend", ["zestguide", "pww"])
def test_processors_are_put_back_after_cancellation(studio: Studio, backend: str) -> None:
    before, asked = dict(studio.diffusion.unet.attn_processors), iter([False, False, False, True])
    seen: list[Step] = []
    with pytest.raises(Cancelled):
        studio.answer(query(), backend, settings=QUICK, cancel=lambda: next(asked), on_step=seen.append)
    after = studio.diffusion.unet.attn_processors
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
    assert 0 < len(seen) < STEPS


def test_processors_are_put_back_after_an_exception(studio: Studio) -> None:
    def stop(step: Step) -> None:
        raise ZeroDivisionError

    before = dict(studio.diffusion.unet.attn_processors)
    with pytest.raises(ZeroDivisionError):
        studio.answer(query(), "zestguide", settings=QUICK, on_step=stop)
    assert all(studio.diffusion.unet.attn_processors[name] is before[name] for name in before)
    assert torch.equal(latents_of(studio, "zestguide", query(), guidance_lr=0, pww=0), plain(studio))


def test_progress_is_told_after_every_step_with_a_preview(studio: Studio) -> None:
    seen: list[Step] = []
    studio.answer(query(), "zestguide", settings=QUICK, on_step=seen.append)
    assert [(s.stage, s.step, s.total) for s in seen] == [("decode", n, STEPS) for n in range(1, STEPS + 1)]
    assert all(s.preview is not None for s in seen)


def test_zestguide_edits_inside_its_segments_only(studio: Studio) -> None:
    photo = picture()
    answer = studio.answer(query(image=photo, layout={"dog": box(0, 0, 0.5, 0.5)}), "zestguide", settings=QUICK)
    mask = answer.extras["mask"][0]
    assert mask[:8, :8].all() and mask.sum() == 64
    latents = latents_of(studio, "zestguide", query(image=photo, layout={"dog": box(0, 0, 0.5, 0.5)}))
    kept = studio.diffusion.encode([photo])
    outside = torch.from_numpy(~mask)
    assert torch.equal(latents[0][:, outside], kept[0][:, outside])
    assert not torch.equal(latents[0][:, ~outside], kept[0][:, ~outside])


@pytest.mark.parametrize("given", [{"mask": np.zeros((SIZE, SIZE))}, {"strength": 0.0}])
def test_an_edit_that_changes_nothing_returns_the_picture(studio: Studio, given: dict[str, Any]) -> None:
    photo = picture()
    answer = studio.answer(query(image=photo, **given), "zestguide", settings=QUICK)
    assert np.array_equal(answer[0].image, photo)
    assert answer.extras["loss"].size == 0


def test_a_full_mask_of_full_strength_repaints_everything(studio: Studio) -> None:
    answer = studio.answer(query(image=picture(), mask=np.ones((SIZE, SIZE))), "zestguide", settings=QUICK)
    assert answer.extras["mask"].all() and len(answer.extras["iou"]) == STEPS


def test_two_text_encoders_share_one_sequence(tiny_xl_folder: Path) -> None:
    studio = Studio(ModelOptions(str(tiny_xl_folder), device="cpu", dtype="float32"))
    answer = studio.answer(query(), "zestguide", settings=QUICK)
    assert answer.extras["tokens"] == ((2,), (5, 6))
    assert np.isfinite(answer.extras["loss"]).all() and answer.extras["loss"][1] < answer.extras["loss"][0]


def test_guidance_in_half_precision_is_finite_and_downhill(tiny_folder: Path) -> None:
    studio = Studio(ModelOptions(str(tiny_folder), device="cpu", dtype="bfloat16"))
    loss = studio.answer(query(), "zestguide", settings={**QUICK, "steps": 8, "tau": 1.0}).extras["loss"]
    assert np.isfinite(loss).all() and loss[-1] < loss[0]


def test_defaults_of_a_model_stand_in_its_folder(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "own")
    (folder / "simat.json").write_text('{"settings": {"zestguide": {"guidance_lr": 0.3, "resolutions": [4]}}}')
    studio = Studio(ModelOptions(str(folder), device="cpu", dtype="float32"))
    extras = studio.answer(query(), "zestguide", settings={"steps": 2}).extras
    assert extras["config"]["guidance_lr"] == 0.3 and extras["attention"].shape[-1] == 4


@pytest.mark.parametrize("backend", ["zestguide", "pww", "multidiffusion"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layout": None}, "needs layout; it takes"),
        ({"layout": {}}, "at least one segment"),
        ({"text": None}, "needs words"),
        ({"text": "a horse"}, "'dog'; add them to 'a horse'"),
        ({"layout": {"cat": LAYOUT["dog"]}}, "not in the text; got 'cat'"),
        ({"text": "a wombat and a dog", "layout": {"dog": LAYOUT["dog"]}}, "does not know a word; got 'wombat'"),
        ({"text": "a " * 14 + "dog", "layout": {"dog": LAYOUT["dog"]}}, "after the 16 tokens"),
        ({"layout": {"dog": np.zeros((SIZE, SIZE))}}, "a segment is empty; got 'dog'"),
        ({"layout": {"dog": box(0, 0, 0.02, 1)}}, "covers no cell"),
        ({"layout": {"dog": np.full((SIZE, SIZE), np.nan)}}, r"values in \[0, 1\].*nan"),
        ({"layout": {"dog": 255 * LAYOUT["dog"]}}, r"values in \[0, 1\].*255"),
        ({"layout": {"dog": np.ones((SIZE, 2 * SIZE))}}, "a square.*'dog' of 128 × 64"),
        ({"layout": {"dog": np.ones((SIZE, SIZE, 3))}}, "a square"),
        ({"layout": {"dog": LAYOUT["dog"], "bicycle": box(0.5, 0, 1, 1, 32)}}, "differ in size"),
        ({"layout": {"dog": LAYOUT["dog"], "bicycle": box(0.4, 0, 1, 1)}}, "overlap; got 448 pixels of 'dog' and"),
        ({"layout": {"red bicycle": LAYOUT["dog"], "bicycle": LAYOUT["red bicycle"]}}, "name the same words"),
        ({"strength": 0.5}, "ignore the strength without an image"),
        ({"mask": np.ones((SIZE, SIZE))}, "ignore the mask without an image"),
        ({"reference": "a cat"}, "ignore the reference beside a text"),
        ({"scale": 2.0}, "would ignore scale"),
        ({"image": picture(), "layout": {"dog": np.ones((32, 48))}}, "another size than the picture"),
        ({"image": picture(), "mask": np.full((SIZE, SIZE), np.nan)}, r"values in \[0, 1\]"),
    ],
)
def test_bad_queries_are_refused(studio: Studio, backend: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        studio.answer(query(**given), backend, settings=QUICK)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"guidance_lr": -1}, "'guidance_lr' must be in"),
        ({"guidance_lr": float("nan")}, "'guidance_lr' must be in"),
        ({"tau": 1.5}, r"'tau' must be in \[0, 1\]"),
        ({"pww": -0.1}, "'pww' must be in"),
        ({"guidance": 0.5}, "'guidance' must be in"),
        ({"loss": "mse"}, "no such loss; got 'mse'; use thesis, bce, sd, sdxl"),
        ({"decay": "cosine"}, "no such decay"),
        ({"average": "pixel"}, "no such average"),
        ({"part": "middle"}, "no such part"),
        ({"resolutions": [5]}, "there are 16, 8, 4"),
        ({"eta": 1}, "no such setting; got 'eta'; there are: steps"),
    ],
)
def test_bad_settings_are_refused(studio: Studio, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        studio.answer(query(), "zestguide", settings={**QUICK, **settings})


def test_a_full_segment_and_a_layout_of_another_size_are_taken(studio: Studio) -> None:
    whole = studio.answer(query(layout={"dog": np.ones((300, 300), bool)}), "zestguide", settings=QUICK)
    assert whole.extras["layout"].min() == 1 and np.isfinite(whole.extras["loss"]).all()
    small = studio.answer(query(layout={"dog": box(0, 0, 0.5, 0.5, 8)}), "pww", settings=QUICK)
    assert small.extras["layout"][0].sum() == 64
