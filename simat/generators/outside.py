"""Guidance by a recognition network from outside (thesis 6.3.1, eq. 6.1), as Bansal et al. 2023 apply it.

Any segmenter or image classifier in the layout of transformers, given by its folder. Imported only with torch.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy, interpolate, logsigmoid

from simat.errors import ModelError, QueryError
from simat.files import sha256_file
from simat.generators.attention import resized
from simat.generators.decoding import Course
from simat.generators.guidance import Decay, decay, descent
from simat.generators.layouts import INSIDE, Layout
from simat.generators.model import Diffusion
from simat.generators.sampling import Latents, Move
from simat.generators.schedule import guided_noise

LISTED = 12  # labels named in an error


@dataclass(frozen=True)
class Recogniser:
    """A network that names what it sees.

    Attributes:
        network: of transformers.
        segments: whether it labels pixels, or whole pictures.
        labels: by output channel.
        mean, std: of the pixels that it takes.
        edge: of the pictures that it takes; None for any.
    """

    network: Any
    segments: bool
    labels: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    edge: int | None

    def channels(self, words: str) -> tuple[int, ...]:
        """Channels of the labels that are a segment's words; else hold them; else stand among them, as whole words.

        Raises:
            QueryError: none; the error lists some labels.
        """
        found = [n for n, label in enumerate(self.labels) if label.lower() == words.lower()]
        found = found or [n for n, label in enumerate(self.labels) if _within(words, label)]
        found = found or [n for n, label in enumerate(self.labels) if _within(label, words)]
        if not found:
            some = ", ".join(self.labels[:LISTED])
            raise QueryError("the recogniser has no label for a segment", got=repr(words), remedy=f"it has {some} …")
        return tuple(found)

    def logits(self, pixels: Float[Tensor, "n 3 h w"]) -> Tensor:
        """Its outputs for pixels in [0, 1]; differentiable."""
        if self.edge is not None:
            pixels = interpolate(pixels, (self.edge, self.edge), mode="bilinear", align_corners=False, antialias=True)
        mean, std = (torch.tensor(v, device=pixels.device).view(1, -1, 1, 1) for v in (self.mean, self.std))
        output: Tensor = self.network((pixels - mean) / std).logits
        return output

    def loss(self, pixels: Float[Tensor, "n 3 h w"], layout: Layout) -> Float[Tensor, " n"]:
        """−log p(labels of the layout | picture).

        A segmenter: the mean over the segments' pixels. A classifier: summed over segments, each seen alone in its
        bounding box.
        """
        targets = [self.channels(words) for words in layout.words]
        if not self.segments:
            return torch.stack(
                [self._named(_box(pixels, m), t) for m, t in zip(layout.masks, targets, strict=True)]
            ).sum(0)
        logits = self.logits(pixels)
        wanted = _label_map(resized(layout.masks, *logits.shape[-2:]), targets)
        losses = cross_entropy(logits, wanted.expand(len(pixels), -1, -1), ignore_index=-1, reduction="none")
        return losses.sum((1, 2)) / (wanted >= 0).sum().clamp(min=1)

    def _named(self, pixels: Float[Tensor, "n 3 h w"], channels: Sequence[int]) -> Float[Tensor, " n"]:
        logits = self.logits(pixels)
        if self.network.config.problem_type == "multi_label_classification":
            return -logsigmoid(logits[:, list(channels)].amax(1))
        return -logits.log_softmax(1)[:, list(channels)].logsumexp(1)


def load_recogniser(folder: str | Path, device: torch.device) -> Recogniser:
    """A segmenter or classifier from a folder of transformers.

    Raises:
        ModelError: no such folder, or a network of another kind.
    """
    from transformers import (
        AutoConfig,
        AutoImageProcessor,
        AutoModelForImageClassification,
        AutoModelForSemanticSegmentation,
    )

    if not (Path(folder) / "config.json").is_file():
        raise ModelError("no recogniser there", got=str(folder), remedy="give the folder of a transformers model")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        segments = any("Segmentation" in name for name in config.architectures or ())
        kind = AutoModelForSemanticSegmentation if segments else AutoModelForImageClassification
        network = kind.from_pretrained(folder, local_files_only=True).to(device).eval().requires_grad_(False)
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).split("\n")[0]
        raise ModelError("this recogniser cannot be loaded", got=str(folder), remedy=reason) from error
    labels = tuple(str(config.id2label[n]) for n in range(len(config.id2label)))
    mean, std = tuple(processor.image_mean or (0.0,) * 3), tuple(processor.image_std or (1.0,) * 3)
    return Recogniser(network, segments, labels, mean, std, _edge(processor))


def fingerprint(folder: str | Path) -> str:
    """SHA-256 of a recogniser's weights."""
    weights = sorted(Path(folder).glob("*.safetensors"))
    return " ".join(sha256_file(path) for path in weights)


@dataclass
class OutsideGuidance:
    """Classifier guidance: steps down the gradient of −log p(layout | x̂0), x̂0 the picture predicted from x_t.

    The gradient passes through the recogniser, the decoder and the UNet; it is normalised and weighed as in eq. 6.5, so
    that ``guidance_lr`` means the same as for ZestGuide.

    Attributes:
        losses: of every guided step and sample.
    """

    model: Diffusion
    course: Course
    layout: Layout
    recogniser: Recogniser
    guidance_lr: float
    until: float
    decay: Decay
    losses: list[Float[Tensor, " n"]] = field(default_factory=list)

    def noise(self, latents: Latents, level: int, done: float) -> Move:
        """A guided step in the first share of the steps, a plain one after it."""
        timestep, course = self.course.schedule.timestep(level), self.course
        if not (self.guidance_lr and done < self.until):
            return guided_noise(self.model, latents, timestep, course.prompts, course.empty, course.guidance), None
        alpha = course.schedule.alphas[level]
        with torch.enable_grad():
            variable = latents.detach().requires_grad_()
            with_text = self.model.noise(variable, timestep, course.prompts)
            clean = (variable - (1 - alpha) ** 0.5 * with_text) / alpha**0.5
            loss = self.recogniser.loss(self.model.decode(clean), self.layout)
            gradient = torch.autograd.grad(loss.sum(), variable)[0]
        self.losses.append(loss.detach())
        noise = with_text.detach()
        if course.guidance != 1:
            without = self.model.noise(latents, timestep, course.empty)
            noise = without + course.guidance * (noise - without)
        return noise, -self.guidance_lr * decay(self.decay, done, alpha) * descent(gradient)


def _within(words: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words.strip())}(?!\w)", text, re.IGNORECASE) is not None


def _edge(processor: Any) -> int | None:
    size = dict(processor.size or {})
    return size.get("height") or size.get("shortest_edge")


def _box(pixels: Float[Tensor, "n 3 h w"], mask: Float[Tensor, "grid grid"]) -> Tensor:
    rows, columns = ((mask >= INSIDE).any(axis).nonzero().flatten() for axis in (1, 0))
    step = pixels.shape[-1] // mask.shape[-1]
    top, bottom = int(rows[0]) * step, (int(rows[-1]) + 1) * step
    left, right = int(columns[0]) * step, (int(columns[-1]) + 1) * step
    return pixels[..., top:bottom, left:right]


def _label_map(masks: Float[Tensor, "segments h w"], targets: Sequence[Sequence[int]]) -> Tensor:
    wanted = torch.full(masks.shape[1:], -1, dtype=torch.long, device=masks.device)
    for mask, channels in zip(masks, targets, strict=True):
        wanted[mask >= INSIDE] = channels[0]
    return wanted
