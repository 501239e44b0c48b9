"""What the tests of making pictures share: a studio around a tiny model, few steps, counted evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image
from tiny_diffusion import picture

from simat.generators.model import Diffusion
from simat.studios import Studio
from simat.types import Answer, Query

FEW: dict[str, Any] = {"steps": 5, "noises": 2, "guidance": 3.0}
REFERENCE = "a dog on the beach"


def studio_of(model: Diffusion) -> Studio:
    """A new studio, with its own memory of inversions, around a model that is loaded."""
    studio = Studio()
    studio.__dict__["_diffusion"] = model
    return studio


def question(**more: Any) -> Query:
    """A dog on the beach becomes a cat."""
    return Query(**{"image": picture(1), "edits": "dog -> cat", "reference": REFERENCE, **more})


def few(studio: Studio, backend: str) -> dict[str, Any]:
    """The settings of few steps that a backend takes."""
    return {name: value for name, value in FEW.items() if hasattr(studio.backend(backend).Settings, name)}


def made(studio: Studio, backend: str = "diffedit", settings: Any = None, **more: Any) -> Answer:
    """The answer of a backend in few steps."""
    return studio.answer(question(**more), backend, settings={**few(studio, backend), **(settings or {})})


def pixels(picture: Image.Image) -> np.ndarray:
    """Pixels as integers that can be subtracted."""
    return np.asarray(picture, np.int16)


@contextmanager
def counted(model: Diffusion) -> Iterator[list[int]]:
    """The timesteps at which the model is evaluated."""
    timesteps: list[int] = []
    original = model.noise

    def noise(latents: Any, timestep: int, prompts: Any) -> Any:
        timesteps.append(timestep)
        return original(latents, timestep, prompts)

    model.noise = noise  # type: ignore[method-assign]
    try:
        yield timesteps
    finally:
        del model.noise
