"""What a trained model of the scene world makes, on one picture, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from data.scenes.captions import captions
from data.scenes.render import Rendered, render
from data.scenes.scene import Scene, sample
from simat.files import atomic
from simat.sheet import grid_sheet

if TYPE_CHECKING:
    from simat.generators.model import Diffusion

SEED = 3_000_000  # worlds that no training sees
STEPS, GUIDANCE = 25, 4.0
COLUMNS = 8


def unseen(count: int, size: int, first: int = 0) -> list[tuple[Scene, Rendered]]:
    """Scenes that no training saw, drawn."""
    scenes = [sample(SEED, first + number) for number in range(count)]
    return [(scene, render(scene, size)) for scene in scenes]


def prompts(count: int, seed: int) -> list[str]:
    """One caption each of unseen scenes, drawn at random."""
    generator = np.random.default_rng([SEED, seed])
    return [captions(sample(SEED, number))[int(generator.integers(5))] for number in range(count)]


def sample_sheet(path: Path, model: Diffusion, count: int = 64, seed: int = 0) -> None:
    """Pictures of captions drawn at random, none left out; their captions stand below them."""
    texts = prompts(count, seed)
    write_sheet(path, [*zip(sampled(model, texts, seed), texts, strict=True)])


def sampled(model: Diffusion, texts: Sequence[str], seed: int) -> list[Image.Image]:
    """A picture for each text by plain guided sampling; picture i has the seed ``seed + i``."""
    import torch

    from simat.generators.schedule import Schedule, down, guided_noise, seeded_noise

    schedule, shape = Schedule.of(model.alphas, STEPS), (model.channels, model.grid, model.grid)
    pictures: list[Image.Image] = []
    for first in range(0, len(texts), COLUMNS):
        rows = texts[first : first + COLUMNS]
        latents = torch.stack([seeded_noise(shape, seed + first + n) for n in range(len(rows))]).to(model.device)
        with torch.no_grad():
            words, empty = model.embed(rows), model.embed([""] * len(rows))
            for level in range(len(schedule), 0, -1):
                noise = guided_noise(model, latents, schedule.timestep(level), words, empty, GUIDANCE)
                latents = down(schedule, latents, noise, level)
        pictures += model.pictures(latents)
    return pictures


def write_sheet(path: Path, cells: Sequence[tuple[Image.Image, str]]) -> None:
    """Write pictures and their words as one PNG."""
    with atomic(path) as temporary:
        grid_sheet(cells, COLUMNS).quantize(256).save(temporary, format="PNG", optimize=True)
        temporary.chmod(0o644)


def as_pictures(pixels: Any) -> list[Image.Image]:
    """Pictures of pixels in [−1, 1], channels first."""
    rows: UInt8[np.ndarray, "n h w 3"] = (
        ((pixels.detach().float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    )
    return [Image.fromarray(row) for row in rows]
