"""DDIM up and down: against the schedulers of diffusers, and its own laws."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMInverseScheduler
from hypothesis import given
from hypothesis import strategies as st
from tiny_diffusion import scheduler

from simat.errors import QueryError
from simat.generators.schedule import Schedule, down, moved, noised, seeded_noise, up, with_noise

ALPHAS = scheduler().alphas_cumprod.double()


def predicted(latents: torch.Tensor, timestep: int) -> torch.Tensor:
    """Stands for a network: depends on both."""
    return torch.tanh(latents * 0.7 + timestep / 1000)


def start() -> torch.Tensor:
    return seeded_noise((2, 4, 3, 3), 1)


@pytest.mark.parametrize("steps", [1, 7, 10, 50, 999])
def test_schedule_has_the_timesteps_of_diffusers(steps: int) -> None:
    schedule, theirs = Schedule.of(ALPHAS, steps), scheduler()
    theirs.set_timesteps(steps)
    assert list(schedule.timesteps) == theirs.timesteps.tolist()[::-1]
    inverse = DDIMInverseScheduler.from_config(theirs.config)
    inverse.set_timesteps(steps)
    assert list(schedule.timesteps) == inverse.timesteps.tolist()


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_decoding_is_that_of_diffusers(steps: int) -> None:
    schedule, theirs = Schedule.of(ALPHAS, steps), scheduler()
    theirs.set_timesteps(steps)
    ours = expected = start()
    for timestep in theirs.timesteps.tolist():
        expected = theirs.step(predicted(expected, timestep), timestep, expected).prev_sample
    for level in range(steps, 0, -1):
        ours = down(schedule, ours, predicted(ours, schedule.timestep(level)), level)
    assert torch.allclose(ours, expected, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_inversion_is_that_of_diffusers(steps: int) -> None:
    schedule = Schedule.of(ALPHAS, steps)
    theirs = DDIMInverseScheduler.from_config(scheduler().config)
    theirs.set_timesteps(steps)
    ours = expected = start()
    for timestep in theirs.timesteps.tolist():
        expected = theirs.step(predicted(expected, timestep), timestep, expected).prev_sample
    for level in range(1, steps + 1):
        ours = up(schedule, ours, predicted(ours, schedule.timestep(level)), level)
    assert torch.allclose(ours, expected, atol=1e-4)


@given(st.integers(1, 60), st.data())
def test_a_step_up_undoes_the_step_down_of_the_same_noise(steps: int, data: st.DataObject) -> None:
    schedule = Schedule.of(ALPHAS, steps)
    level = data.draw(st.integers(1, steps))
    latents, noise = start(), seeded_noise((2, 4, 3, 3), 2)
    back = up(schedule, down(schedule, latents, noise, level), noise, level)
    assert torch.allclose(back, latents, atol=1e-3)


def test_noise_that_is_known_decodes_to_the_picture() -> None:
    schedule, clean, noise = Schedule.of(ALPHAS, 10), start(), seeded_noise((2, 4, 3, 3), 5)
    latents = noised(schedule, clean, noise, 8)
    for level in range(8, 0, -1):
        latents = down(schedule, latents, noise, level)
    assert torch.allclose(latents, with_noise(clean, noise, schedule.alphas[0]), atol=1e-4)


def test_level_zero_is_the_picture_itself() -> None:
    assert noised(Schedule.of(ALPHAS, 10), start(), seeded_noise((2, 4, 3, 3), 5), 0).equal(start())


def test_moving_to_the_same_alpha_moves_nothing() -> None:
    assert torch.allclose(moved(start(), seeded_noise((2, 4, 3, 3), 3), 0.4, 0.4), start(), atol=1e-6)


@pytest.mark.parametrize(
    ("steps", "strength", "level"), [(50, 0.0, 0), (50, 1.0, 50), (50, 0.8, 40), (50, 0.799, 39), (100, 0.29, 29)]
)
def test_level_is_the_whole_part_of_steps_times_strength(steps: int, strength: float, level: int) -> None:
    assert Schedule.of(ALPHAS, steps).level(strength) == level


@pytest.mark.parametrize("steps", [0, -1, 1000, 5000])
def test_steps_out_of_range_are_refused(steps: int) -> None:
    with pytest.raises(QueryError, match="between 1 and 999"):
        Schedule.of(ALPHAS, steps)


def test_seeded_noise_is_that_of_its_seed_alone() -> None:
    torch.manual_seed(0)
    first = seeded_noise((2, 3), 7)
    torch.manual_seed(1)
    assert seeded_noise((2, 3), 7).equal(first)
    assert not seeded_noise((2, 3), 8).equal(first)
    assert seeded_noise((4, 3), 7)[:2].equal(first)
