"""Down the levels of a schedule with a text, keeping what lies outside a mask. Imported only with torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float32
from PIL.Image import Image

from simat.generators.model import Diffusion, Prompts
from simat.generators.running import Run
from simat.generators.schedule import Schedule, down, guided_noise, noised

Latents = Float32[torch.Tensor, "n c h w"]


@dataclass(frozen=True)
class Course:
    """What a decoding goes by.

    Attributes:
        schedule: the levels.
        prompts: one text per row.
        empty: as many empty texts.
        guidance: of classifier-free guidance; 1 is none.
    """

    schedule: Schedule
    prompts: Prompts
    empty: Prompts
    guidance: float


@torch.no_grad()
def decoded(
    model: Diffusion,
    course: Course,
    background: Float32[torch.Tensor, "levels n c h w"],
    mask: Bool[torch.Tensor, "n h w"],
    run: Run,
) -> Latents:
    """Decode from the highest level of the background, with mask guidance (thesis 5.3.2, step 3).

    After each step from level j to j − 1: y ← M·y + (1 − M)·background[j − 1]. Where the mask is empty, the end is
    ``background[0]`` exactly; where it is full, nothing but the start is taken from the background.

    Args:
        model: the model.
        course: schedule, texts and guidance.
        background: latents of the input at the levels 0 … K.
        mask: 1 = edit.
        run: asked and told at every step.
    """
    inside, latents = mask[:, None], background[-1]

    def preview() -> Image:
        return model.preview(latents[:1])

    for j in run.steps("decode", range(len(background) - 1, 0, -1), preview):
        noise = guided_noise(model, latents, course.schedule.timestep(j), course.prompts, course.empty, course.guidance)
        latents = torch.where(inside, down(course.schedule, latents, noise, j), background[j - 1])
    return latents


def with_one_noise(
    schedule: Schedule, latents: Latents, noise: Latents, level: int
) -> Float32[torch.Tensor, "levels n c h w"]:
    """The picture mixed with one noise, at the levels 0 … K: what SDEdit starts from (Meng et al. 2021)."""
    return torch.stack([noised(schedule, latents, noise, j) for j in range(level + 1)])
