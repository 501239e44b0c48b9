"""ZestGuide (thesis chapter 6) and what it is compared with: words painted where a layout wants them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simat.backends.layouts import Canvas, LayoutSettings, Painter, alone
from simat.backends.settings import UNIT, Limits, check_limits
from simat.errors import QueryError
from simat.types import Accepts

if TYPE_CHECKING:
    import torch

    from simat.generators.decoding import Course
    from simat.generators.sampling import Guided, Method

ACCEPTS = Accepts(
    frozenset({"layout"}), frozenset({"text", "edits", "reference", "image", "mask", "strength", "seed", "samples"})
)
MAX_WEIGHT = 100.0


@dataclass(frozen=True)
class PaintSettings(LayoutSettings):
    """Paint-with-words (Balaji et al. 2022), and which attention the segmentation is read from.

    Attributes:
        pww: weight of paint-with-words; :class:`simat.generators.attention.Paint` has the formula.
        resolutions: longer sides of the attention maps that are looked at; None for the two finest that are coarser
            than the latents.
        part: of the UNet whose maps are looked at.
    """

    pww: float = 1.0
    resolutions: tuple[int, ...] | None = None
    part: str = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, pww=Limits(0.0, MAX_WEIGHT))
        _check_choices(self, part=("all", "encoder", "decoder"))


@dataclass(frozen=True)
class ZestSettings(PaintSettings):
    """How ZestGuide guides (thesis 6.3.2); the step sizes are those of the thesis's private model.

    Attributes:
        guidance_lr: η of eq. 6.5; the authors' code has 0.3 for Stable Diffusion 1.4 and 0.1 for XL.
        tau: share of the steps that are guided.
        decay: λ(t): ``linear``, ``sigma`` or ``constant``; see :func:`simat.generators.guidance.decay`.
        loss: ``thesis`` (eq. 6.4), ``bce``, ``sd`` or ``sdxl``; see :func:`simat.generators.guidance.layout_loss`.
        average: of the maps before the loss: ``global``, ``layer`` or ``head`` (Table 6.2).
    """

    guidance_lr: float = 1.0
    tau: float = 0.5
    decay: str = "linear"
    loss: str = "thesis"
    average: str = "global"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, guidance_lr=Limits(0.0, MAX_WEIGHT), tau=UNIT)
        _check_choices(
            self,
            decay=("linear", "sigma", "constant"),
            loss=("thesis", "bce", "sd", "sdxl"),
            average=("global", "layer", "head"),
        )


@dataclass(frozen=True)
class OutsideSettings(LayoutSettings):
    """Guidance by a recognition network (thesis 6.3.1).

    Attributes:
        recogniser: folder of a segmenter or an image classifier in the layout of transformers.
        guidance_lr, tau, decay: as for ZestGuide.
    """

    recogniser: str = ""
    guidance_lr: float = 1.0
    tau: float = 0.5
    decay: str = "linear"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, guidance_lr=Limits(0.0, MAX_WEIGHT), tau=UNIT)
        _check_choices(self, decay=("linear", "sigma", "constant"))


class Watched(Painter):
    """A painter that reads a segmentation from the text attention.

    Its answers hold, step by step, ``attention`` (Ŝ of eq. 6.3, [step, sample, segment, h, w]), ``iou`` ([step, sample,
    segment], with the layout) and ``loss`` ([guided step, sample]).
    """

    accepts = ACCEPTS

    def how(self, config: Any) -> Guided:
        """What the settings say to the method."""
        raise NotImplementedError

    @contextmanager
    def method(self, canvas: Canvas, course: Course) -> Iterator[Method]:
        """ZestGuide's loop; the UNet's attention is its own again at the end."""
        from simat.generators.attention import choose_layers, text_layers, watching
        from simat.generators.sampling import Zest

        model, config = canvas.model, canvas.config
        every = text_layers(model.unet, model.grid, model.grid)
        chosen = choose_layers(every, model.grid, config.resolutions, config.part)
        with model.watched(), watching(model.unet, chosen, every) as watch:
            yield Zest(model, course, canvas.layout, self.how(config), watch)

    def shown(self, methods: Sequence[Any]) -> dict[str, Any]:
        """Maps, their overlap with the layout, and the loss."""
        names = {"attention": "maps", "iou": "overlaps", "loss": "losses"}
        return {name: _stacked([getattr(method, field) for method in methods]) for name, field in names.items()}


class ZestGuide(Watched):
    """The ``simat.backends`` entry point ``zestguide``."""

    name = "zestguide"
    Settings = ZestSettings

    def how(self, config: Any) -> Guided:
        """Guidance, and paint-with-words beside it."""
        from simat.generators.sampling import Guided

        return Guided(config.guidance_lr, config.tau, config.decay, config.loss, config.average, config.pww)


class PaintWithWords(Watched):
    """The entry point ``pww``: ZestGuide without its guidance."""

    name = "pww"
    Settings = PaintSettings

    def how(self, config: Any) -> Guided:
        """No guidance."""
        from simat.generators.sampling import Guided

        return Guided(0.0, 0.0, "linear", "thesis", "global", config.pww)


class MultiDiffusion(Painter):
    """The entry point ``multidiffusion``: a text for each region, predictions averaged by the masks."""

    name = "multidiffusion"
    accepts = ACCEPTS

    def method(self, canvas: Canvas, course: Course) -> AbstractContextManager[Method]:
        """The words of each segment inside it, the whole text outside of all."""
        from simat.generators import sampling

        regions = canvas.model.embed([*canvas.layout.words, canvas.target])
        weights = sampling.region_weights(canvas.layout.masks)
        return alone(sampling.MultiDiffusion(canvas.model, course, regions, weights))


class ClassifierGuidance(Painter):
    """The entry point ``classifier_guidance``: the gradient of a recognition network from outside."""

    name = "classifier_guidance"
    accepts = ACCEPTS
    Settings = OutsideSettings

    def method(self, canvas: Canvas, course: Course) -> AbstractContextManager[Method]:
        """The gradient passes through recogniser, decoder and UNet."""
        from simat.generators.outside import OutsideGuidance, load_recogniser

        config = canvas.config
        if not config.recogniser:
            raise QueryError("the backend 'classifier_guidance' needs the setting 'recogniser'", remedy="give a folder")
        recogniser = load_recogniser(config.recogniser, canvas.model.device)
        for words in canvas.layout.words:
            recogniser.channels(words)
        how = (config.guidance_lr, config.tau, config.decay)
        return alone(OutsideGuidance(canvas.model, course, canvas.layout, recogniser, *how))

    def shown(self, methods: Sequence[Any]) -> dict[str, Any]:
        """The loss, [guided step, sample]."""
        return {"loss": _stacked([method.losses for method in methods])}

    def models(self, config: Any) -> dict[str, str]:
        """The recogniser."""
        from simat.generators.outside import fingerprint

        return {"recogniser": f"{config.recogniser} {fingerprint(config.recogniser)}"}


def _stacked(batches: Sequence[Sequence[torch.Tensor]]) -> Any:
    """Steps first, samples of all batches next; empty where no step was taken."""
    import numpy as np
    import torch

    kept = [torch.stack([*steps]) for steps in batches if steps]
    return torch.cat(kept, 1).cpu().numpy() if kept else np.empty((0, 0), np.float32)


def _check_choices(settings: object, **choices: tuple[str, ...]) -> None:
    for name, allowed in choices.items():
        if getattr(settings, name) not in allowed:
            remedy = f"use {', '.join(allowed)}"
            raise QueryError(f"no such {name}", got=repr(getattr(settings, name)), remedy=remedy)
