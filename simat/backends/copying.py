"""Copy and Encode: the two baselines that change nothing, whatever is asked (thesis 4.4 and 5.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simat.backends import Tools, check_accepts
from simat.backends.settings import settings_of
from simat.types import Accepts, Answer, Cancel, OnStep, Query, Result

if TYPE_CHECKING:
    from PIL.Image import Image

    from simat.generators.model import Diffusion
    from simat.generators.running import Run

WHATEVER = frozenset({"text", "edits", "reference", "mask", "strength", "seed"})


@dataclass(frozen=True)
class NoSettings:
    """There are none."""


class Copy:
    """The ``simat.backends`` entry point ``copy``: the input, cut to the model's square."""

    name = "copy"
    accepts = Accepts(frozenset({"image"}), WHATEVER)
    Settings: type[Any] = NoSettings

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def answer(
        self,
        query: Query,
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One picture; the rest of the query is there to be compared with backends that heed it.

        Raises:
            QueryError: a field too few or too many.
            ImageError: the picture cannot be read.
        """
        from simat.generators.masks import fitted
        from simat.generators.running import Run

        check_accepts(query, self.accepts, self.name)
        settings_of(self.Settings, settings)
        model, run = self._tools.diffusion, Run(on_step, cancel)
        with model.lock, run.whole(model):
            picture = fitted(query.image, model.size)
            made = self.picture(model, picture, run)
        models = {"diffusion": f"{model.name} {model.fingerprint}"}
        extras = {"input": picture, "seed": query.seed or 0, "config": {}, "models": models}
        return Answer((Result(0.0, image=made),), self.name, run.timings, extras)

    def picture(self, model: Diffusion, picture: Image, run: Run) -> Image:
        """What becomes of the input."""
        run.ask()
        return picture


class Encode(Copy):
    """The entry point ``encode``: the input through the autoencoder and back, the floor of every edit."""

    name = "encode"

    def picture(self, model: Diffusion, picture: Image, run: Run) -> Image:
        """What the autoencoder makes of the input."""
        latents = self._tools.trajectories.latents(model, picture, run)
        with run.stage("decode"):
            return model.pictures(latents)[0]
