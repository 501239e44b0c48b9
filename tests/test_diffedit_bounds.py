"""Proposition 5.1 of the thesis, on a model whose constants are estimated (appendix A.4).

The norm is the root mean square, for which noise has length one, as the proof of the first bound takes it.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tiny_diffusion import GRID, picture

from simat.generators.decoding import Course, decoded
from simat.generators.inversion import Trajectories
from simat.generators.running import Run
from simat.generators.schedule import Schedule, noised, seeded_noise

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, LEVELS = 20, (5, 10, 16)
TEXTS = ("a cat on the beach", "a red car")
EVERYWHERE = torch.ones((1, GRID, GRID), dtype=torch.bool)


def length(values: torch.Tensor) -> float:
    return float(values.square().mean().sqrt())


class Study:
    """Distances from the input after an edit, and the constants of the model along the way."""

    def __init__(self, model: Any) -> None:
        self.model, self.schedule = model, Schedule.of(model.alphas, STEPS)
        self.pictures = [picture(seed) for seed in (1, 2)]
        self.trajectories = Trajectories()
        self.largest = self.lipschitz = 0.0
        self.contrasts: list[float] = []

    def edited(self, start: torch.Tensor, level: int, text: str) -> torch.Tensor:
        prompts = self.model.embed([text])
        course = Course(self.schedule, prompts, prompts, 1.0)
        background = torch.stack([start] * (level + 1))
        return decoded(self.model, course, background, EVERYWHERE, Run())

    def trajectory(self, number: int) -> torch.Tensor:
        return self.trajectories.inverted(self.model, self.pictures[number], self.schedule, max(LEVELS), Run())

    @torch.no_grad()
    def estimate(self) -> None:
        """C, K1 and K2 at the inverted latents, K1 between neighbours of every one of them."""
        empty = self.model.embed([""])
        for number in range(len(self.pictures)):
            path = self.trajectory(number)
            for text in TEXTS:
                prompts, contrast = self.model.embed([text]), 0.0
                for j in range(1, len(path), 3):
                    timestep, here = self.schedule.timestep(j), path[j : j + 1]
                    there = here + 0.05 * seeded_noise(tuple(here.shape), j)
                    with_text, without, moved = (
                        self.model.noise(x, timestep, p) for x, p in ((here, prompts), (here, empty), (there, prompts))
                    )
                    self.largest = max(self.largest, length(with_text))
                    self.lipschitz = max(self.lipschitz, length(moved - with_text) / length(there - here))
                    contrast = max(contrast, length(with_text - without))
                self.contrasts.append(contrast)


@pytest.fixture(scope="module")
def study(tiny_folder: Any, one_thread: Any) -> Study:
    from tiny_diffusion import loaded

    made = Study(loaded(tiny_folder))
    made.estimate()
    return made


@pytest.mark.parametrize("level", LEVELS)
def test_both_bounds_of_proposition_5_1_hold(study: Study, level: int) -> None:
    schedule = study.schedule
    tau = math.sqrt(1 / schedule.alphas[level] - 1)
    encoded, mixed = [], []
    for number in range(len(study.pictures)):
        path = study.trajectory(number)
        noise = seeded_noise(tuple(path[:1].shape), number)
        for text in TEXTS:
            encoded.append(length(study.edited(path[level][None], level, text) - path[:1]))
            start = noised(schedule, path[:1], noise, level)
            mixed.append(length(study.edited(start, level, text) - path[:1]))
    first = (study.largest + 1) * tau
    contrast, root = sum(study.contrasts) / len(study.contrasts), math.sqrt(tau**2 + 1)
    second = contrast * tau / root * (tau + root) ** study.lipschitz
    assert 0 < sum(mixed) / len(mixed) <= first
    assert 0 < sum(encoded) / len(encoded) <= second
    assert sum(encoded) < sum(mixed)


def test_the_second_bound_is_the_tighter_one_at_low_ratios(study: Study) -> None:
    """Figure 5.3: K2 is small beside C."""
    contrast = sum(study.contrasts) / len(study.contrasts)
    assert contrast < 0.5 * study.largest
