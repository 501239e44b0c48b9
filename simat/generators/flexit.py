"""FlexIT: an objective over the latents of one picture, and the descent on it (Couairon 2023, chapter 4).

Imported only with torch. The form of the losses that the published weights go with is the default; that of the text
of the thesis is an option (:class:`Weights`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from simat.errors import ModelError, QueryError
from simat.generators.augment import Augmentation, Pictures, views
from simat.generators.codecs import Codec, Latents, soft_clamp
from simat.generators.networks import DualNetwork
from simat.generators.perceptual import PerceptualDistance

Scalar = Float[Tensor, ""]


@dataclass(frozen=True)
class Weights:
    """What the objective is made of; a weight of 0 switches its term off.

    Attributes:
        image: λ_I of eq. 4.1.
        source: λ_S of eq. 4.1.
        perceptual: λ_p of eq. 4.5.
        latent: λ_z of eq. 4.5.
        embedding: ``squared`` is ‖C_i(D(z)) − P‖² on the concatenation of the networks (eq. 4.2); ``dot`` is minus the
            mean over the networks of ⟨C_i(D(z)), P⟩. Where embeddings have unit length (one view), the
            gradient of ``squared`` is that of ``dot`` times twice the number of networks. The published λ_p and λ_z go
            with ``dot``.
        norm: over the latent code: ``l21`` (eq. 4.4), ``l1`` or ``l2`` (Table A.2).
        relative: divide that norm of z − z0 by the norm of z0; the published λ_z goes with this.
    """

    image: float = 0.2
    source: float = 0.4
    perceptual: float = 0.15
    latent: float = 0.05
    embedding: str = "dot"
    norm: str = "l21"
    relative: bool = True


class Losses(NamedTuple):
    """The terms of eq. 4.5 before they are weighted, and their weighted sum."""

    total: Scalar
    embedding: Scalar
    perceptual: Scalar
    latent: Scalar


class Frame(NamedTuple):
    """Where the descent is.

    Attributes:
        step: how many updates were made.
        picture: D(z), clamped to [0, 1].
        losses: at this step, by name.
    """

    step: int
    picture: Float[Tensor, "1 3 height width"]
    losses: dict[str, float]


class Objective:
    """L_total of eq. 4.5 for one picture and one pair of words.

    Attributes:
        start: z0, the latents of the picture.
    """

    def __init__(
        self,
        codec: Codec,
        networks: Sequence[DualNetwork],
        picture: Float[Tensor, "1 3 height width"],
        words: tuple[str | None, str | None],
        weights: Weights | None = None,
        perceptual: PerceptualDistance | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        """``words`` are S and T, None where the edit has none; ``perceptual`` is needed where its weight is not 0."""
        self._codec, self._networks = codec, networks
        self._weights, self._augmentation = weights or Weights(), augmentation or Augmentation()
        self._perceptual = perceptual if self._weights.perceptual else None
        if self._weights.perceptual and perceptual is None:
            raise QueryError("a perceptual weight without a perceptual distance", remedy="give one, or the weight 0")
        self.start = codec.encode(picture)
        with torch.no_grad():
            self._targets = [target(network, picture, words, self._weights) for network in networks]
            self._looks = self._perceptual.features(picture) if self._perceptual else []
            self._length = _norm(self.start, self._weights.norm) if self._weights.relative else torch.ones(())

    def __call__(self, latents: Latents, generator: torch.Generator) -> tuple[Losses, Pictures]:
        """Losses at ``latents`` with fresh views, and D(z) as it is shown."""
        decoded = self._codec.decode(latents)
        picture = soft_clamp(decoded)
        zero = latents.new_zeros(())
        embedding = self._embedding(picture, generator)
        perceptual = (
            self._perceptual.between(self._perceptual.features(picture), self._looks)[0] if self._perceptual else zero
        )
        latent = _norm(latents - self.start, self._weights.norm) / self._length.to(latents)
        total = embedding + self._weights.perceptual * perceptual + self._weights.latent * latent
        return Losses(total, embedding, perceptual, latent), decoded.detach().clamp(0, 1)

    def gradient(self, latents: Latents, generator: torch.Generator) -> tuple[Latents, Losses, Pictures]:
        """∇_z L_total, with what :meth:`__call__` gives, free of the graph."""
        latents = latents.detach().requires_grad_(True)
        losses, picture = self(latents, generator)
        (slope,) = torch.autograd.grad(losses.total, latents)
        return slope, Losses(*(loss.detach() for loss in losses)), picture

    def _embedding(self, picture: Pictures, generator: torch.Generator) -> Scalar:
        terms = []
        for network, goal in zip(self._networks, self._targets, strict=True):
            mean = embed(network, picture, self._augmentation, generator)
            terms.append((mean - goal).square().sum() if self._weights.embedding == "squared" else -(mean * goal).sum())
        stacked = torch.stack(terms)
        return stacked.sum() if self._weights.embedding == "squared" else stacked.mean()


def target(
    network: DualNetwork,
    picture: Float[Tensor, "1 3 height width"],
    words: tuple[str | None, str | None],
    weights: Weights,
) -> Float[Tensor, "1 d"]:
    """P = C_t(T) + λ_I C_i(I0) − λ_S C_t(S) (eq. 4.1), of unit terms, itself not normalised; I0 is not augmented."""
    source, wanted = words
    point = weights.image * network.embed_images(network.prepared(picture))
    if wanted is not None:
        point = point + network.embed_texts([wanted]).to(point)
    if source is not None:
        point = point - weights.source * network.embed_texts([source]).to(point)
    return point


def embed(
    network: DualNetwork,
    picture: Float[Tensor, "1 3 height width"],
    augmentation: Augmentation,
    generator: torch.Generator,
) -> Float[Tensor, "1 d"]:
    """The mean of the unit embeddings of fresh views; of the picture itself where there shall be none."""
    if augmentation.count == 0:
        return network.embed_images(network.prepared(picture))
    seen = views(picture, augmentation.draw(generator), network.size)
    return network.embed_images(seen).mean(0, keepdim=True)


def descend(objective: Objective, updates: int, rate: float, generator: torch.Generator) -> Iterator[Frame]:
    """Follow z ← z − μ‖z0‖₂ g/‖g‖₂ (section 4.3, after the fast gradient method of Dong et al. 2018).

    Args:
        objective: of one picture.
        updates: N; 0 gives plain autoencoding.
        rate: μ.
        generator: of the CPU; draws the views. Fewer updates with the same seed are a prefix of more.

    Yields:
        N + 1 frames: the first is plain autoencoding, the last the answer.

    Raises:
        ModelError: a loss or a gradient is not finite.
    """
    latents, stride = objective.start, rate * torch.linalg.vector_norm(objective.start)
    for step in range(updates):
        slope, losses, picture = objective.gradient(latents, generator)
        yield _frame(step, picture, losses)
        length = torch.linalg.vector_norm(slope)
        if not math.isfinite(float(length)):
            raise ModelError(
                "the gradient of FlexIT is not finite", got=f"step {step}", remedy="lower the learning rate"
            )
        latents = latents - stride * slope / length if length > 0 else latents  # nothing to follow on a plain
    with torch.no_grad():
        losses, picture = objective(latents, generator)
    yield _frame(updates, picture, losses)


def _frame(step: int, picture: Pictures, losses: Losses) -> Frame:
    values = {name: float(loss) for name, loss in losses._asdict().items()}
    if not all(map(math.isfinite, values.values())):
        raise ModelError(
            "a loss of FlexIT is not finite", got=f"{values} at step {step}", remedy="lower the learning rate"
        )
    return Frame(step, picture, values)


def _norm(latents: Latents, kind: str) -> Scalar:
    """Of one picture's latents; ``vector_norm`` has a zero gradient at zero, where that of a root has none."""
    order = {"l21": 2, "l1": 1, "l2": 2}[kind]
    length: Tensor = torch.linalg.vector_norm(latents, ord=order, dim=1 if kind == "l21" else None)
    return length.sum()
