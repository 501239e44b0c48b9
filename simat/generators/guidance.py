"""ZestGuide (thesis 6.3): a segmentation read from the text attention, its loss, and the step down its gradient.

Segments are indexed by i, pixels by p, tokens by n; L counts layers and heads together. Imported only with torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import interpolate

Average = Literal["global", "layer", "head"]
LossForm = Literal["thesis", "bce", "sd", "sdxl"]
Decay = Literal["linear", "sigma", "constant"]

SMOOTH = 1e-3  # probabilities are drawn this far into (0, 1): no infinite loss, no gradient of 10¹²
FLOOR = 1e-6  # a map that stays below it is not stretched to one
SCALE = 10.0  # of maps, for the loss of the authors' Stable Diffusion 1.4
DEAD_ZONE = 0.2  # errors below it count nothing in the authors' losses
BEST = 20  # maps per segment in the loss of the authors' Stable Diffusion XL
INSIDE = 0.5  # of a map's maximum: where a segment is taken to be

Maps = Float[Tensor, "n groups segments h w"]
Masks = Float[Tensor, "segments h w"]


def segment_maps(
    layers: Sequence[Float[Tensor, "n _ _ _ tokens"]],
    tokens: Sequence[Sequence[int]],
    size: tuple[int, int],
    average: Average = "global",
) -> Maps:
    """Ŝᵢ = 1/L Σ_l Σ_n [n ∈ Tᵢ] A_l(n), every map brought to one resolution (eq. 6.3).

    Args:
        layers: maps of each layer, softmax over tokens.
        tokens: Tᵢ of each segment.
        size: height and width to bring the maps to, bilinearly.
        average: over all layers and heads (one group), over the heads of a layer (a group per layer), or not at all
            (Table 6.2).
    """
    groups, heads = [], 0
    for maps in layers:
        heads += maps.shape[1]
        summed = torch.stack([maps[..., list(ids)].sum(-1) for ids in tokens], 2)
        if average != "head":  # the resolution is changed linearly: it may come after the sum over heads
            summed = summed.sum(1, keepdim=True) if average == "global" else summed.mean(1, keepdim=True)
        fine = interpolate(summed.flatten(1, 2), size, mode="bilinear", align_corners=False)
        groups.append(fine.unflatten(1, (summed.shape[1], len(tokens))))  # type: ignore[no-untyped-call]
    if average == "global":
        return torch.stack(groups).sum(0) / heads
    return torch.cat(groups, 1)


def layout_loss(maps: Maps, masks: Masks, form: LossForm = "thesis") -> Float[Tensor, " n"]:
    """How far the segmentation of each sample is from the layout: a sum over segments, a mean over pixels and groups.

    - ``thesis``: Σᵢ BCE(Ŝᵢ, Sᵢ) + BCE(Ŝᵢ / max Ŝᵢ, Sᵢ) (eq. 6.4).
    - ``bce``: its first term alone (Figure 6.10).
    - ``sd``: as the authors' code for Stable Diffusion 1.4: both terms on maps × 10 (at most 1), pixels whose error is
      below 0.2 left out.
    - ``sdxl``: as for Stable Diffusion XL: |Ŝᵢ / max Ŝᵢ − Sᵢ|⁴, errors below 0.2 left out, over the 20 groups that fit
      each segment best; meant for maps that are not averaged.

    Args:
        maps: Ŝ of :func:`segment_maps`, in [0, 1].
        masks: S at the same resolution, in [0, 1].
        form: one of the above.
    """
    return _LOSSES[form](maps.float(), masks.float()[None, None])


def descent(gradient: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """∇L / ‖∇L‖_∞ of each sample (eq. 6.5); a gradient of zero moves nothing."""
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    return torch.where(largest > 0, gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny), 0.0)


def decay(form: Decay, done: float, alpha: float) -> float:
    """λ(t) of eq. 6.5, which says only that it falls from one to zero.

    Args:
        form: ``linear`` is 1 − done (the authors' for Stable Diffusion XL), ``sigma`` √(1 − ᾱ_t) (for 1.4),
            ``constant`` 1.
        done: share of the steps already taken.
        alpha: ᾱ_t before the step.
    """
    factors: dict[str, float] = {"linear": 1 - done, "sigma": (1 - alpha) ** 0.5, "constant": 1.0}
    return factors[form]


def inside(maps: Maps) -> Bool[Tensor, "n groups segments h w"]:
    """Where a map exceeds half of its maximum."""
    return maps > INSIDE * maps.amax((-2, -1), keepdim=True)


def overlap(maps: Maps, masks: Masks) -> Float[Tensor, "n segments"]:
    """Intersection over union of :func:`inside` with the cells that a segment covers by half; maps of one group."""
    found, wanted = inside(maps)[:, 0], masks >= INSIDE
    return (found & wanted).sum((-2, -1)) / (found | wanted).sum((-2, -1)).float()


def _smoothed(maps: Tensor) -> Tensor:
    return (maps + SMOOTH) / (1 + 2 * SMOOTH)


def _cross_entropy(maps: Tensor, masks: Tensor) -> Tensor:
    maps = _smoothed(maps)
    return -(masks * maps.log() + (1 - masks) * (1 - maps).log())


def _normalised(maps: Tensor) -> Tensor:
    return maps / maps.amax((-2, -1), keepdim=True).clamp(min=FLOOR)


def _counted(errors: Tensor, maps: Tensor, masks: Tensor) -> Tensor:
    return torch.where((maps - masks).abs() < DEAD_ZONE, 0.0, errors)


def _thesis(maps: Tensor, masks: Tensor) -> Tensor:
    both = _cross_entropy(maps, masks) + _cross_entropy(_normalised(maps), masks)
    return both.mean((-2, -1)).sum(-1).mean(-1)


def _bce(maps: Tensor, masks: Tensor) -> Tensor:
    return _cross_entropy(maps, masks).mean((-2, -1)).sum(-1).mean(-1)


def _sd(maps: Tensor, masks: Tensor) -> Tensor:
    scaled, normalised = (SCALE * maps).clamp(max=1), _normalised(maps)
    both = sum(_counted(_cross_entropy(x, masks), x, masks) for x in (scaled, normalised))
    assert isinstance(both, Tensor)
    return both.mean((-2, -1)).sum(-1).mean(-1)


def _sdxl(maps: Tensor, masks: Tensor) -> Tensor:
    normalised = _normalised(maps)
    errors = (normalised - masks).pow(4)
    fit = errors.detach().mean((-2, -1))
    best = fit.topk(min(BEST, fit.shape[1]), dim=1, largest=False).indices
    return _counted(errors, normalised, masks).mean((-2, -1)).gather(1, best).mean(1).sum(-1)


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "thesis": _thesis,
    "bce": _bce,
    "sd": _sd,
    "sdxl": _sdxl,
}
