"""FlexIT: the latents of a picture descend towards an edited point of a multimodal space (thesis chapter 4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from simat.backends import Tools, check_accepts
from simat.backends.settings import Limits, check_limits, settings_of
from simat.errors import QueryError
from simat.types import Accepts, Answer, Cancel, OnStep, Query, Result

if TYPE_CHECKING:
    from PIL.Image import Image

    from simat.generators.flexit import Frame, Objective, Weights
    from simat.generators.flexit_parts import Parts, Shelf
    from simat.generators.running import Run

MAX_SIZE, MAX_WEIGHT = 2048.0, 1000.0


@dataclass(frozen=True)
class FlexItSettings:
    """How far, towards what, and in which space; the defaults are those of the thesis (section 4.3, Table A.2).

    Attributes:
        strength: how many of the steps are taken, where the query names none.
        steps: N, the updates at strength 1.
        learning_rate: μ, the length of an update relative to the latents of the input.
        augmentations: d, views per network and step; 0 shows the networks the picture itself.
        image_weight: λ_I of eq. 4.1.
        source_weight: λ_S of eq. 4.1.
        perceptual_weight: λ_p of eq. 4.5; 0 switches the term off.
        latent_weight: λ_z of eq. 4.5; 0 switches the term off.
        embedding: ``dot``, which the weights go with, or ``squared`` as eq. 4.2 prints it.
        norm: ``l21`` (eq. 4.4), ``l1`` or ``l2``, of the change of the latents.
        relative: divide it by that norm of the latents of the input.
        codec: ``auto`` (``vq`` of the scene world, else the autoencoder of the model), ``vq``, ``kl``, ``pixels``, or
            the folder of an autoencoder.
        perceptual: ``auto`` (``efficientnet`` for the scene world, else ``vgg``), or what
            :func:`simat.generators.perceptual.load_perceptual` takes.
        size: edge of the square that is edited; 0 is 128 for the scene world, else 288.
        keep: every how many updates a frame is kept; the first and the last are in any case.
    """

    strength: float = 1.0
    steps: int = 160
    learning_rate: float = 0.05
    augmentations: int = 8
    image_weight: float = 0.2
    source_weight: float = 0.4
    perceptual_weight: float = 0.15
    latent_weight: float = 0.05
    embedding: str = "dot"
    norm: str = "l21"
    relative: bool = True
    codec: str = "auto"
    perceptual: str = "auto"
    size: int = 0
    keep: int = 8

    def __post_init__(self) -> None:
        weights = ("image_weight", "source_weight", "perceptual_weight", "latent_weight")
        check_limits(self, **{name: Limits(0.0, MAX_WEIGHT) for name in weights})
        check_limits(self, strength=Limits(0.0, 1.0), learning_rate=Limits(0.0, 10.0), size=Limits(0.0, MAX_SIZE))
        check_limits(self, steps=Limits(0.0), keep=Limits(1.0), augmentations=Limits(0.0, 1024.0))
        for name, allowed in (("embedding", ("dot", "squared")), ("norm", ("l21", "l1", "l2"))):
            if getattr(self, name) not in allowed:
                raise QueryError(f"the setting {name!r} must be one of {', '.join(allowed)}", got=getattr(self, name))

    @property
    def updates(self) -> int:
        """How many updates are made."""
        return round(self.strength * self.steps)

    @property
    def weights(self) -> Weights:
        """Those of the objective."""
        from simat.generators.flexit import Weights

        return Weights(
            self.image_weight,
            self.source_weight,
            self.perceptual_weight,
            self.latent_weight,
            self.embedding,
            self.norm,
            self.relative,
        )


@dataclass
class Course:
    """What one sample leaves behind: frames by number of updates, losses by name."""

    frames: dict[int, Image]
    losses: dict[str, list[float]]


class FlexIt:
    """The ``simat.backends`` entry point ``flexit``.

    Answers hold, by sample, ``frames`` (pictures by number of updates; 0 is plain autoencoding) and ``losses`` (the
    terms of eq. 4.5 by name, after 0, 1, … updates); ``input``, the square that was edited; ``reference`` and
    ``target``, the texts; and ``perceptual``, the extractor of that distance.
    """

    name = "flexit"
    accepts = Accepts(frozenset({"image"}), frozenset({"text", "edits", "reference", "strength", "seed", "samples"}))
    Settings: type[Any] = FlexItSettings

    def __init__(self, tools: Tools) -> None:
        self._tools, self._lock = tools, threading.Lock()
        self._shelf: Shelf | None = None

    def answer(
        self,
        query: Query,
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One edited picture per sample; sample i draws its views from a generator of its own, of seed + i.

        Raises:
            QueryError: a field too few or too many, words that are not in the reference or that a network does not
                know, a setting out of range.
            ImageError: the picture cannot be read.
            EncoderError: a network cannot be loaded.
            ModelError: an autoencoder or a perceptual distance cannot be loaded; losses that are not finite.
            Cancelled: asked for by the caller.
        """
        from simat.generators.masks import fitted
        from simat.generators.prompts import prompts_of
        from simat.generators.running import Run

        check_accepts(query, self.accepts, self.name)
        run, started = Run(on_step, cancel), time.perf_counter()
        asked = {} if query.strength is None else {"strength": query.strength}
        shelf = self._opened()
        config = settings_of(self.Settings, shelf.defaults.get(self.name), settings, asked)
        words = prompts_of(query)
        with run.stage("load"):
            parts = shelf.parts(config.codec, config.perceptual if config.perceptual_weight else None)
        with run.stage("encode"):
            picture = fitted(query.image, config.size or parts.size)
            objective = _objective(picture, words, config, parts)
        seeds = [(query.seed or 0) + i for i in range(1 if query.samples is None else query.samples)]
        courses = [_descended(objective, config, seed, run) for seed in seeds]
        run.timings["total"] = time.perf_counter() - started
        results = tuple(Result(0.0, image=course.frames[config.updates], caption=words[1]) for course in courses)
        extras = {
            "frames": tuple(course.frames for course in courses),
            "losses": tuple(course.losses for course in courses),
            "input": picture,
            "reference": words[0],
            "target": words[1],
            "seed": seeds[0] if seeds else query.seed or 0,
            "config": asdict(config),
            "models": parts.identities(),
        }
        return Answer(results, self.name, run.timings, extras)

    def _opened(self) -> Shelf:
        from simat.generators.flexit_parts import Shelf

        with self._lock:
            if self._shelf is None:
                self._shelf = Shelf(self._tools.options)
            return self._shelf


def _objective(picture: Image, words: tuple[str, str], config: FlexItSettings, parts: Parts) -> Objective:
    from simat.generators.augment import Augmentation
    from simat.generators.flexit import Objective

    return Objective(
        parts.codec,
        parts.networks,
        parts.pixels(picture),
        (words[0] or None, words[1] or None),
        config.weights,
        parts.perceptual,
        Augmentation(config.augmentations),
    )


def _descended(objective: Objective, config: FlexItSettings, seed: int, run: Run) -> Course:
    import torch

    from simat.generators.flexit import descend
    from simat.generators.flexit_parts import as_image

    latest: list[Frame] = []
    course = Course({}, {})
    path = descend(objective, config.updates, config.learning_rate, torch.Generator("cpu").manual_seed(seed))
    for step in run.steps("optimise", range(config.updates + 1), lambda: as_image(latest[0].picture)):
        latest[:] = [next(path)]
        for name, loss in latest[0].losses.items():
            course.losses.setdefault(name, []).append(loss)
        if step % config.keep == 0 or step == config.updates:
            course.frames[step] = as_image(latest[0].picture)
    return course
