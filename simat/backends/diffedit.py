"""DiffEdit: change what a text asks for, where the network's own predictions say so (thesis chapter 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simat.backends.editing import Editor, EditSettings, Job
from simat.backends.settings import UNIT, Limits, check_limits
from simat.types import Accepts, Query

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@dataclass(frozen=True)
class MaskedSettings(EditSettings):
    """Those of every editor, and how the mask is found (thesis 5.3.2, step 1).

    Attributes:
        noises: n, independent noises whose differences are averaged.
        mask_strength: the noise at which predictions are contrasted, as a share of the training timesteps.
        clamp: extreme differences are cut at this many times their mean.
        threshold: from where on a difference, rescaled to [0, 1], is inside the mask.
        fill: let the mask have no holes: predictions differ most at outlines.
        grow: cells by which the mask is widened, or narrowed where it is negative.
        keep: let pixels away from the mask be the input's own, where the autoencoder would blur them; from the mask's
            edge on, the two are blended over two cells.
    """

    noises: int = 10
    mask_strength: float = 0.5
    clamp: float = 3.0
    threshold: float = 0.5
    fill: bool = False
    grow: int = 0
    keep: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(
            self, noises=Limits(1.0), mask_strength=UNIT, clamp=Limits(1.0), threshold=UNIT, grow=Limits(-16.0, 16.0)
        )


class DiffEdit(Editor):
    """The ``simat.backends`` entry point ``diffedit``: a contrasted mask, an inverted background."""

    name = "diffedit"
    accepts = Accepts(
        frozenset({"image"}), frozenset({"text", "edits", "reference", "mask", "strength", "seed", "samples"})
    )
    Settings = MaskedSettings

    def uses_reference(self, query: Query) -> bool:
        """The mask contrasts it with the target."""
        return query.mask is None

    def soft_masks(self, job: Job) -> torch.Tensor:
        """The mask that is given, or one contrasted for every sample from its own noises."""
        import torch

        from simat.generators.masks import given_mask

        if job.query.mask is not None:
            given = given_mask(job.query.mask, job.query.image, job.model.size, job.model.grid)
            return given.to(job.model.device).expand(len(job.samples), -1, -1)
        return torch.stack([_contrasted(job, sample) for sample in job.samples])

    def chosen(self, job: Job, soft: torch.Tensor) -> torch.Tensor:
        """Inside from the threshold on, tidied as the settings say; of a given mask, where it covers half of a cell."""
        from simat.generators.masks import COVERED, filled, grown

        if job.query.mask is not None:
            return soft >= COVERED
        mask = soft >= job.config.threshold
        return grown(filled(mask) if job.config.fill else mask, job.config.grow)

    def finished(self, job: Job, made: Image, mask: torch.Tensor) -> Image:
        """As it was decoded, or blended into the input."""
        from simat.generators.masks import blended

        return blended(made, job.picture, mask) if job.config.keep else made

    def background(self, job: Job, samples: Sequence[int]) -> torch.Tensor:
        """The inversion, the same for all samples."""
        trajectory = job.trajectories.inverted(job.model, job.picture, job.schedule, job.level, job.run)
        return trajectory[:, None].expand(-1, len(samples), -1, -1, -1)


class NoEncoding(DiffEdit):
    """The entry point ``diffedit_no_encoding``: DiffEdit with one fixed noise in the place of the inversion."""

    name = "diffedit_no_encoding"

    def background(self, job: Job, samples: Sequence[int]) -> torch.Tensor:
        """The picture mixed with one noise per sample."""
        return one_noise(job, samples)


def one_noise(job: Job, samples: Sequence[int]) -> torch.Tensor:
    """The picture mixed with the first noise of each sample's generator, at the levels 0 … K."""
    import torch

    from simat.generators.decoding import with_one_noise

    noise = torch.cat([job.noise(sample, 1) for sample in samples])
    return with_one_noise(job.schedule, job.latents.expand(len(samples), -1, -1, -1), noise, job.level)


def _contrasted(job: Job, sample: int) -> torch.Tensor:
    import torch

    from simat.generators.masks import noise_difference, rescaled

    config = job.config
    target, reference = (job.model.embed([text]) for text in (job.target, job.reference))
    if torch.equal(target.states, reference.states):  # nothing to contrast, whatever rounding says
        return torch.zeros(job.latents.shape[-2:], device=job.model.device)
    noises = job.noise(sample, config.noises)
    difference = noise_difference(
        job.model, job.latents, target, reference, noises, config.mask_strength, job.run, config.batch // 2
    )
    return rescaled(difference, config.clamp)
