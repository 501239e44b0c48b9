"""What backends that paint to a layout share: settings, the parts of one answer, its shape."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from simat.backends import Tools, check_accepts
from simat.backends.editing import MAX_GUIDANCE
from simat.backends.settings import UNIT, Limits, check_limits, settings_of
from simat.errors import QueryError
from simat.types import Accepts, Answer, Cancel, OnStep, Query, Result

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from simat.generators.decoding import Course
    from simat.generators.layouts import Layout
    from simat.generators.model import Diffusion
    from simat.generators.running import Run
    from simat.generators.sampling import Method
    from simat.generators.schedule import Schedule


@dataclass(frozen=True)
class LayoutSettings:
    """How a picture is painted.

    Attributes:
        steps: N of DDIM.
        guidance: of classifier-free guidance, 1 is none (thesis 6.4.1: 3).
        strength: the encoding ratio where an image is edited; otherwise the whole schedule is taken.
        batch: rows that the network takes at once, at least two.
    """

    steps: int = 50
    guidance: float = 3.0
    strength: float = 1.0
    batch: int = 8

    def __post_init__(self) -> None:
        check_limits(self, steps=Limits(1.0), guidance=Limits(1.0, MAX_GUIDANCE), strength=UNIT, batch=Limits(2.0))


@dataclass(frozen=True)
class Canvas:
    """One query made ready.

    Attributes:
        query, config: what is asked, and the settings of the backend.
        model, run: what works on it.
        target: the text.
        layout: where its words shall be.
        schedule: all levels.
        picture: the square that is edited, None where there is none.
        trajectory: its latents at the levels 0 … K, [level, c, h, w].
        mask: where it is edited, [h, w].
    """

    query: Query
    config: Any
    model: Diffusion
    run: Run
    target: str
    layout: Layout
    schedule: Schedule
    picture: Image | None
    trajectory: torch.Tensor | None
    mask: torch.Tensor

    @property
    def seed(self) -> int:
        """Of the first sample."""
        return self.query.seed or 0

    @property
    def samples(self) -> range:
        """Numbers of the samples."""
        return range(1 if self.query.samples is None else self.query.samples)

    def course(self, samples: int) -> Course:
        """What a decoding of some samples goes by."""
        from simat.generators.decoding import Course

        target, empty = self.model.embed([self.target]), self.model.embed([""])
        return Course(self.schedule, target.repeated(samples), empty.repeated(samples), self.config.guidance)

    def background(self, samples: Sequence[int]) -> torch.Tensor:
        """What painting starts from and what stays outside the mask, [level, sample, c, h, w].

        Without a picture: the noise of each sample, from a generator of its own, at every level.
        """
        import torch

        from simat.generators.schedule import seeded_noise

        if self.trajectory is not None:
            return self.trajectory[:, None].expand(-1, len(samples), -1, -1, -1)
        shape = (1, self.model.channels, self.model.grid, self.model.grid)
        noise = torch.cat([seeded_noise(shape, self.seed + sample) for sample in samples]).to(self.model.device)
        return noise.expand(len(self.schedule) + 1, -1, -1, -1, -1)


class Painter(ABC):
    """A backend that paints words where a layout wants them; on an image, inside a mask only.

    Answers hold ``segments``, ``tokens`` and ``layout`` ([segment, h, w] on the latent grid), ``mask`` and ``input``
    where an image is edited, and what the method has to show.
    """

    name: str
    accepts: Accepts
    Settings: type[Any] = LayoutSettings

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    @abstractmethod
    def method(self, canvas: Canvas, course: Course) -> AbstractContextManager[Method]:
        """The method for a batch of samples; what it changed in the model is undone at the end."""

    def shown(self, methods: Sequence[Any]) -> dict[str, Any]:
        """What the answer holds of the methods that painted its batches."""
        return {}

    def models(self, config: Any) -> dict[str, str]:
        """Identities of networks beside the diffusion model."""
        return {}

    def answer(
        self,
        query: Query,
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One picture per sample; sample i draws from a generator of its own, of seed + i.

        Raises:
            QueryError: a field too few or too many, words that are not in the text or cut off, masks that are empty,
                overlap or do not fit, a setting out of range.
            ImageError: the picture cannot be read.
            ModelError: a model cannot be loaded.
            Cancelled: asked for by the caller.
        """
        from simat.generators.running import Run

        check_accepts(query, self.accepts, self.name)
        _check_fields(query, self.name)
        model = self._tools.diffusion
        asked = {} if query.strength is None else {"strength": query.strength}
        config = settings_of(self.Settings, model.defaults.get(self.name), settings, asked)
        run = Run(on_step, cancel)
        with model.lock, run.whole(model):
            canvas = self._canvas(query, config, run)
            latents, methods = self._painted(canvas)
            with run.stage("decode"):
                pictures = [_picture(canvas, row) for row in latents]
        extras = {**_extras(canvas), **self.shown(methods)}
        extras["models"] = {"diffusion": f"{model.name} {model.fingerprint}", **self.models(config)}
        results = tuple(Result(0.0, image=picture, caption=canvas.target) for picture in pictures)
        return Answer(results, self.name, run.timings, extras)

    def _canvas(self, query: Query, config: Any, run: Run) -> Canvas:
        import torch

        from simat.generators.layouts import layout_of
        from simat.generators.masks import COVERED, fitted, given_mask
        from simat.generators.prompts import check_words, prompts_of
        from simat.generators.schedule import Schedule

        model = self._tools.diffusion
        target = prompts_of(query)[1]
        check_words(model.tokenizers, target)
        layout = layout_of(query.layout, target, model, query.image)
        schedule = Schedule.of(model.alphas, config.steps)
        if query.image is None:
            everywhere = torch.ones(model.grid, model.grid, dtype=torch.bool, device=model.device)
            return Canvas(query, config, model, run, target, layout, schedule, None, None, everywhere)
        picture, level = fitted(query.image, model.size), schedule.level(config.strength)
        trajectory = self._tools.trajectories.inverted(model, picture, schedule, level, run)
        if query.mask is None:
            soft = layout.masks.amax(0)
        else:
            soft = given_mask(query.mask, query.image, model.size, model.grid).to(model.device)
        return Canvas(query, config, model, run, target, layout, schedule, picture, trajectory, soft >= COVERED)

    def _painted(self, canvas: Canvas) -> tuple[torch.Tensor, list[Any]]:
        import torch

        from simat.generators.running import batches
        from simat.generators.sampling import sampled

        latents, methods = [], []
        for part in batches(canvas.samples, canvas.config.batch // 2):
            background, course = canvas.background(part), canvas.course(len(part))
            if len(background) == 1 or not canvas.mask.any():
                latents.append(background[0])
                continue
            mask = canvas.mask.expand(len(part), -1, -1)
            with self.method(canvas, course) as method:
                latents.append(sampled(canvas.model, course, method, background, mask, canvas.run))
            methods.append(method)
        return torch.cat(latents), methods


@contextmanager
def alone(method: Any) -> Iterator[Any]:
    """A method that changes nothing in the model."""
    yield method


def _check_fields(query: Query, name: str) -> None:
    if query.reference is not None and query.text is not None:
        raise QueryError(f"the backend {name!r} would ignore the reference beside a text", got=query.reference)
    if query.image is None:
        for field in ("mask", "strength"):
            if getattr(query, field) is not None:
                remedy = "it says how an image is edited: give one"
                raise QueryError(f"the backend {name!r} would ignore the {field} without an image", remedy=remedy)


def _picture(canvas: Canvas, row: torch.Tensor) -> Image:
    import torch

    canvas.run.ask()
    if canvas.picture is not None and canvas.trajectory is not None and torch.equal(row, canvas.trajectory[0]):
        return canvas.picture.copy()
    return canvas.model.pictures(row[None])[0]


def _extras(canvas: Canvas) -> dict[str, Any]:
    extras = {
        "target": canvas.target,
        "segments": canvas.layout.words,
        "tokens": canvas.layout.tokens,
        "layout": canvas.layout.masks.cpu().numpy(),
        "seed": canvas.seed,
        "config": asdict(canvas.config),
    }
    if canvas.picture is not None:
        masks = canvas.mask.expand(len(canvas.samples), -1, -1)
        extras.update(input=canvas.picture, mask=masks.cpu().numpy())
    return extras
