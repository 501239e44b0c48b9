"""DDIM steps between the levels of one schedule, down (denoising) and up (inversion). Imported only with torch.

J. Song et al. 2021 (thesis eq. 5.2). Level 0 is the image, level j = 1 … N the j-th smallest timestep of ``leading``
spacing with an offset of one, as Stable Diffusion was released. A step between the levels j − 1 and j takes ε at the
timestep of j in *both* directions: so a trajectory that goes up lies on the levels that a decoding goes down.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32

from simat.errors import QueryError
from simat.generators.model import Diffusion, Prompts

Latents = Float32[torch.Tensor, "n c h w"]
OFFSET = 1  # timestep of level 1


@dataclass(frozen=True)
class Schedule:
    """The levels of N steps.

    Attributes:
        timesteps: of the levels 1 … N, increasing; ``timesteps[j − 1]`` conditions the step between j − 1 and j.
        alphas: ᾱ of the levels 0 … N; level 0 has that of the first training timestep (``set_alpha_to_one=False``).
    """

    timesteps: tuple[int, ...]
    alphas: tuple[float, ...]

    @classmethod
    def of(cls, alphas: Float[torch.Tensor, " T"], steps: int) -> Schedule:
        """The schedule of ``steps`` steps over the training timesteps of ``alphas``.

        Raises:
            QueryError: fewer than one step, or as many as training timesteps.
        """
        if not 1 <= steps < len(alphas):
            raise QueryError(f"the number of steps must lie between 1 and {len(alphas) - 1}", got=steps)
        stride = len(alphas) // steps
        timesteps = tuple(OFFSET + stride * j for j in range(steps))
        return cls(timesteps, tuple(float(alphas[t]) for t in (0, *timesteps)))

    def __len__(self) -> int:
        return len(self.timesteps)

    def level(self, strength: float) -> int:
        """K = ⌊N·r⌋, the level of an encoding ratio r in [0, 1]."""
        return int(len(self) * strength + 1e-9)  # 0.29 · 100 is 28.999…

    def timestep(self, level: int) -> int:
        """The timestep of a level ≥ 1."""
        return self.timesteps[level - 1]


def noised(schedule: Schedule, latents: Latents, noise: Latents, level: int) -> Latents:
    """√ᾱ·x0 + √(1 − ᾱ)·ε at a level; level 0 is x0 itself."""
    return latents if level == 0 else with_noise(latents, noise, schedule.alphas[level])


def with_noise(latents: Latents, noise: Latents, alpha: float) -> Latents:
    """√ᾱ·x0 + √(1 − ᾱ)·ε for an ᾱ in [0, 1]."""
    mixed: Latents = alpha**0.5 * latents + (1 - alpha) ** 0.5 * noise
    return mixed


def moved(latents: Latents, noise: Latents, alpha: float, target: float) -> Latents:
    """One Euler step of thesis eq. 5.3 from ᾱ = ``alpha`` to ``target``, with ε = ``noise`` (eq. 5.2)."""
    clean = (latents - (1 - alpha) ** 0.5 * noise) / alpha**0.5
    return with_noise(clean, noise, target)


def down(schedule: Schedule, latents: Latents, noise: Latents, level: int) -> Latents:
    """From ``level`` to the one below, nearer to the image."""
    return moved(latents, noise, schedule.alphas[level], schedule.alphas[level - 1])


def up(schedule: Schedule, latents: Latents, noise: Latents, level: int) -> Latents:
    """From the level below to ``level``, nearer to noise."""
    return moved(latents, noise, schedule.alphas[level - 1], schedule.alphas[level])


def guided_noise(
    model: Diffusion, latents: Latents, timestep: int, prompts: Prompts, empty: Prompts, guidance: float
) -> Latents:
    """Classifier-free guidance (Ho and Salimans 2021): ε(∅) + g·(ε(text) − ε(∅)), both in one batch.

    A guidance of 1 is the text alone, 0 the empty text alone; either costs one evaluation.
    """
    if guidance in {0, 1}:
        return model.noise(latents, timestep, prompts if guidance else empty)
    both = model.noise(torch.cat([latents, latents]), timestep, Prompts.joined([empty, prompts]))
    without, with_text = both.chunk(2)
    mixed: Latents = without + guidance * (with_text - without)
    return mixed


def seeded_noise(shape: tuple[int, ...], seed: int) -> Float32[torch.Tensor, ...]:
    """Gaussian noise of a CPU generator of its own: the same for every device and any batch."""
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)
