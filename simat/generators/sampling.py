"""Down the levels of a schedule with a layout: one class per published method. Imported only with torch.

Each method says what noise to take a step with, and where to move after it. The step itself, what lies outside a mask,
cancellation and progress are the same for all.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Float32
from PIL.Image import Image

from simat.generators.attention import Paint, Watch, paint_strength
from simat.generators.decoding import Course
from simat.generators.guidance import Average, Decay, LossForm, decay, descent, layout_loss, overlap, segment_maps
from simat.generators.layouts import Layout
from simat.generators.model import Diffusion, Prompts
from simat.generators.running import Run
from simat.generators.schedule import down, guided_noise

Latents = Float32[torch.Tensor, "n c h w"]
Move = tuple[Latents, Latents | None]


@runtime_checkable
class Method(Protocol):
    """What distinguishes one method from another."""

    def noise(self, latents: Latents, level: int, done: float) -> Move:
        """ε to take the step down from ``level`` with, and what to add after it (None: nothing).

        Args:
            latents: x at the level.
            level: of the schedule.
            done: share of the steps already taken, from 0.
        """
        ...


@torch.no_grad()
def sampled(
    model: Diffusion,
    course: Course,
    method: Method,
    background: Float32[torch.Tensor, "levels n c h w"],
    mask: Bool[torch.Tensor, "n h w"],
    run: Run,
) -> Latents:
    """Decode from the highest level of the background; see :func:`simat.generators.decoding.decoded`.

    Args:
        model: the model.
        course: schedule, texts and guidance.
        method: makes the noise.
        background: latents of the input at the levels 0 … K; what lies outside the mask is taken from them.
        mask: 1 = paint; all ones where there is no input, of which only the highest level is looked at.
        run: asked and told at every step.
    """
    inside, latents, top = mask[:, None], background[-1], len(background) - 1

    def preview() -> Image:
        return model.preview(latents[:1])

    for j in run.steps("decode", range(top, 0, -1), preview):
        noise, move = method.noise(latents, j, (top - j) / top)
        below = down(course.schedule, latents, noise, j)
        latents = torch.where(inside, below if move is None else below + move, background[j - 1])
    return latents


@dataclass(frozen=True)
class Plain:
    """Sampling with the text alone."""

    model: Diffusion
    course: Course

    def noise(self, latents: Latents, level: int, done: float) -> Move:
        """Classifier-free guidance."""
        return _text_noise(self.model, self.course, latents, level), None


@dataclass(frozen=True)
class Guided:
    """How ZestGuide guides; the fields of :class:`simat.backends.zestguide.ZestSettings` that it needs."""

    guidance_lr: float
    until: float
    decay: Decay
    loss: LossForm
    average: Average
    paint: float


@dataclass
class Zest:
    """ZestGuide (thesis 6.3.2) with paint-with-words; either alone where the other's weight is 0.

    Attributes:
        losses: of every guided step and sample.
        overlaps: IoU of the segmentation read from the attention with the layout, of every step, sample and segment.
        maps: that segmentation Ŝ, of every step, sample and segment.
    """

    model: Diffusion
    course: Course
    layout: Layout
    how: Guided
    watch: Watch
    losses: list[Float[torch.Tensor, " n"]] = field(default_factory=list)
    overlaps: list[Float[torch.Tensor, "n segments"]] = field(default_factory=list)
    maps: list[Float[torch.Tensor, "n segments h w"]] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Of the finest maps that are looked at."""
        return max((layer.height, layer.width) for layer in self.watch.chosen)

    def noise(self, latents: Latents, level: int, done: float) -> Move:
        """A guided step in the first share of the steps, a painted one after it."""
        if self.how.guidance_lr and done < self.how.until:
            return self._guided(latents, level, done)
        with self.watch.on(True, self._paint(level), self._text_rows(len(latents))):
            noise = _text_noise(self.model, self.course, latents, level)
            self._note(self._segmentation("global"))
        return noise, None

    def _guided(self, latents: Latents, level: int, done: float) -> Move:
        # With and without the text in one batch: half the calls of the network, though both halves are derived.
        with torch.enable_grad(), self.watch.on(True, self._paint(level), self._text_rows(len(latents))):
            variable = latents.detach().requires_grad_()
            noise = _text_noise(self.model, self.course, variable, level)
            loss = layout_loss(self._segmentation(self.average), self.layout.at(*self.size), self.how.loss)
            gradient = _gradient(self.model, loss, variable)
            self._note(self._segmentation("global"))
        self.losses.append(loss.detach())
        rate = self.how.guidance_lr * decay(self.how.decay, done, self.course.schedule.alphas[level])
        return noise.detach(), -rate * descent(gradient)

    def _text_rows(self, samples: int) -> slice:
        """Of the network's batch: the samples with the text come after those with the empty one."""
        return slice(None) if self.course.guidance == 1 else slice(samples, 2 * samples)

    @property
    def average(self) -> Average:
        """How maps are averaged for the loss: the loss of the authors' Stable Diffusion XL takes them one by one."""
        return "head" if self.how.loss == "sdxl" else self.how.average

    def _segmentation(self, average: Average) -> Float[torch.Tensor, "n groups segments h w"]:
        return segment_maps([*self.watch.maps.values()], self.layout.tokens, self.size, average)

    def _paint(self, level: int) -> Paint | None:
        if not self.how.paint:
            return None
        strength = paint_strength(self.how.paint, self.course.schedule.alphas[level])
        return Paint(self.layout.masks, self.layout.tokens, strength)

    def _note(self, maps: Float[torch.Tensor, "n 1 segments h w"]) -> None:
        maps = maps.detach()
        self.overlaps.append(overlap(maps, self.layout.at(*self.size)))
        self.maps.append(maps[:, 0])


@dataclass(frozen=True)
class MultiDiffusion:
    """Bar-Tal et al. 2023: each region is denoised with its own text, the predictions are averaged by the masks.

    A region is a segment, or what no segment covers, which is painted with the whole text. Averaging the noises is
    averaging the steps, because a step is linear in them. Their random backgrounds of the first steps are left out.

    Attributes:
        regions: a text per region, one row each.
        weights: of each region, summing to one in every cell.
    """

    model: Diffusion
    course: Course
    regions: Prompts
    weights: Float[torch.Tensor, "regions h w"]

    def noise(self, latents: Latents, level: int, done: float) -> Move:
        """Σᵢ Mᵢ · ε(x_t, text of region i), with guidance; regions without a cell cost nothing."""
        mixed = torch.zeros_like(latents)
        for region, weight in enumerate(self.weights):
            if weight.any():
                prompts = row_of(self.regions, region).repeated(len(latents))
                course = Course(self.course.schedule, prompts, self.course.empty, self.course.guidance)
                mixed = mixed + weight * _text_noise(self.model, course, latents, level)
        return mixed, None


def region_weights(masks: Float[torch.Tensor, "segments h w"]) -> Float[torch.Tensor, "regions h w"]:
    """The masks, and what they leave, made to sum to one in every cell."""
    rest = (1 - masks.sum(0)).clamp(min=0)
    every = torch.cat([masks, rest[None]])
    return every / every.sum(0)


def row_of(prompts: Prompts, row: int) -> Prompts:
    """One text of several."""
    part = slice(row, row + 1)
    return Prompts(prompts.states[part], {name: value[part] for name, value in prompts.added.items()})


def _text_noise(model: Diffusion, course: Course, latents: Latents, level: int) -> Latents:
    timestep = course.schedule.timestep(level)
    return guided_noise(model, latents, timestep, course.prompts, course.empty, course.guidance)


def _gradient(model: Diffusion, loss: Float[torch.Tensor, " n"], variable: Latents) -> Latents:
    """Of each sample's loss; samples do not depend on each other. Counted as time inside the network."""
    started = time.perf_counter()
    gradient: Latents = torch.autograd.grad(loss.sum(), variable)[0]
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    model.unet_seconds += time.perf_counter() - started
    return gradient
