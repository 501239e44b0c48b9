"""What editors by denoising share: settings, the parts of one answer, its shape. DiffEdit and its ablations are four
choices of two things: where to edit (a mask, or everywhere) and what to start from (an inversion, or one fixed noise).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from simat.backends import Tools, check_accepts
from simat.backends.settings import UNIT, Limits, check_limits, settings_of
from simat.errors import QueryError
from simat.types import Accepts, Answer, Cancel, OnStep, Query, Result

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from simat.generators.inversion import Trajectories
    from simat.generators.model import Diffusion
    from simat.generators.running import Run
    from simat.generators.schedule import Schedule

MAX_GUIDANCE = 100.0


@dataclass(frozen=True)
class EditSettings:
    """How a picture is edited by denoising.

    Attributes:
        strength: the encoding ratio r of thesis 5.3.1, where the query names none.
        steps: N, of the whole schedule; ⌊N·r⌋ of them are taken.
        guidance: of classifier-free guidance: 7.5 for models of text, 5 for models of classes; 1 is none.
        batch: rows that the network takes at once, at least two.
        trajectory: let the answer hold the latents of the background.
    """

    strength: float = 0.8
    steps: int = 50
    guidance: float = 7.5
    batch: int = 20
    trajectory: bool = False

    def __post_init__(self) -> None:
        check_limits(self, strength=UNIT, steps=Limits(1.0), guidance=Limits(0.0, MAX_GUIDANCE), batch=Limits(2.0))


@dataclass(frozen=True)
class Job:
    """One query made ready.

    Attributes:
        query, config: what is asked, and the settings of the editor.
        model, run, trajectories: what works on it.
        reference, target: the two texts.
        picture: the square that is edited.
        latents: its x0, [1, c, h, w].
        schedule, level: K of N steps.
    """

    query: Query
    config: Any
    model: Diffusion
    run: Run
    trajectories: Trajectories
    reference: str
    target: str
    picture: Image
    latents: torch.Tensor
    schedule: Schedule
    level: int

    @property
    def seed(self) -> int:
        """Of the first sample."""
        return self.query.seed or 0

    @property
    def samples(self) -> range:
        """Numbers of the samples."""
        return range(1 if self.query.samples is None else self.query.samples)

    def noise(self, sample: int, count: int) -> torch.Tensor:
        """Noises of one sample, [count, c, h, w], from a generator of its own."""
        from simat.generators.schedule import seeded_noise

        return seeded_noise((count, *self.latents.shape[1:]), self.seed + sample).to(self.model.device)


class Editor(ABC):
    """A backend that edits by denoising.

    Answers hold ``mask`` (bool) and ``mask_soft`` (in [0, 1]), [sample, h, w] on the latent grid; ``input``, the square
    that was edited; ``reference`` and ``target``, the texts; and on request ``trajectory``, [level, sample, c, h, w].

    A sample whose latents come out as they went in is the input itself, bit by bit: an empty mask changes nothing.
    """

    name: str
    accepts: Accepts
    Settings: type[Any] = EditSettings

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    @abstractmethod
    def soft_masks(self, job: Job) -> torch.Tensor:
        """Where to edit, in [0, 1], [sample, h, w]."""

    @abstractmethod
    def chosen(self, job: Job, soft: torch.Tensor) -> torch.Tensor:
        """The masks as they are used, bool."""

    @abstractmethod
    def background(self, job: Job, samples: Sequence[int]) -> torch.Tensor:
        """Latents of the input at the levels 0 … K, [K + 1, sample, c, h, w]."""

    def uses_reference(self, query: Query) -> bool:
        """Whether the reference says more than what the edits apply to."""
        return False

    def answer(
        self,
        query: Query,
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One edited picture per sample; sample i draws from a generator of its own, of seed + i.

        Raises:
            QueryError: a field too few or too many, words that are not in the reference, a mask that does not fit, a
                setting out of range.
            ImageError: the picture cannot be read.
            ModelError: the model cannot be loaded.
            Cancelled: asked for by the caller.
        """
        from simat.generators.running import Run

        check_accepts(query, self.accepts, self.name)
        if query.reference is not None and query.text is not None and not self.uses_reference(query):
            raise QueryError(f"the backend {self.name!r} would ignore the reference beside a text", got=query.reference)
        model = self._tools.diffusion
        asked = {} if query.strength is None else {"strength": query.strength}
        config = settings_of(self.Settings, model.defaults.get(self.name), settings, asked)
        run = Run(on_step, cancel)
        with model.lock, run.whole(model):
            job = self._job(query, config, run)
            soft = self.soft_masks(job)
            mask = self.chosen(job, soft)
            latents, trajectory = self._edited(job, mask)
            with run.stage("decode"):
                pictures = self._pictures(job, latents, mask)
        extras = {**_extras(job), "mask_soft": soft.cpu().numpy(), "mask": mask.cpu().numpy()}
        if trajectory is not None:
            extras["trajectory"] = trajectory.cpu().numpy()
        results = tuple(Result(0.0, image=picture, caption=job.target) for picture in pictures)
        return Answer(results, self.name, run.timings, extras)

    def finished(self, job: Job, made: Image, mask: torch.Tensor) -> Image:
        """The picture of one sample, from what its latents decode to."""
        return made

    def _pictures(self, job: Job, latents: torch.Tensor, masks: torch.Tensor) -> list[Image]:
        import torch

        made = []
        for row, mask in zip(latents, masks, strict=True):
            job.run.ask()
            same = torch.equal(row, job.latents[0])
            made.append(job.picture.copy() if same else self.finished(job, job.model.pictures(row[None])[0], mask))
        return made

    def _job(self, query: Query, config: Any, run: Run) -> Job:
        from simat.generators.masks import fitted
        from simat.generators.prompts import check_words, prompts_of
        from simat.generators.schedule import Schedule

        model = self._tools.diffusion
        reference, target = prompts_of(query)
        check_words(model.tokenizers, reference, target)
        schedule = Schedule.of(model.alphas, config.steps)
        picture = fitted(query.image, model.size)
        trajectories = self._tools.trajectories
        latents = trajectories.latents(model, picture, run)
        level = schedule.level(config.strength)
        return Job(query, config, model, run, trajectories, reference, target, picture, latents, schedule, level)

    def _edited(self, job: Job, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        import torch

        from simat.generators.running import batches

        edited, trajectories = [], []
        for part in batches(job.samples, job.config.batch // 2):
            inside = mask[part[0] : part[-1] + 1]
            nothing = not (job.level and inside.any())
            if nothing and not job.config.trajectory:
                edited.append(job.latents.expand(len(part), -1, -1, -1))
                continue
            background = self.background(job, part)
            trajectories.append(background)
            edited.append(background[0] if nothing else _decoded(job, background, inside))
        return torch.cat(edited), torch.cat(trajectories, 1) if job.config.trajectory else None


def _decoded(job: Job, background: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    from simat.generators.decoding import Course, decoded

    target, empty = (job.model.embed([text]).repeated(len(inside)) for text in (job.target, ""))
    course = Course(job.schedule, target, empty, job.config.guidance)
    return decoded(job.model, course, background, inside, job.run)


def _extras(job: Job) -> dict[str, Any]:
    return {
        "input": job.picture,
        "reference": job.reference,
        "target": job.target,
        "seed": job.seed,
        "config": asdict(job.config),
        "models": {"diffusion": f"{job.model.name} {job.model.fingerprint}"},
    }
