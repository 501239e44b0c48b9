"""Perceptual distances: LPIPS, and a distance of the same form on a network that needs no download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from simat.errors import EncoderError, QueryError

if TYPE_CHECKING:
    import torch

EDGE = 256
OFFLINE = "efficientnet"
LPIPS = "lpips:"
BATCH = 8


@runtime_checkable
class Distance(Protocol):
    """How different pairs of pictures look."""

    @property
    def name(self) -> str:
        """What figures that look through it are called by."""
        ...

    def __call__(self, one: Sequence[Image.Image], other: Sequence[Image.Image]) -> Float[np.ndarray, " n"]:
        """One number per pair, 0 for equal pictures."""
        ...


class PerceptualDistance:
    """A network's distance of pairs at 256 pixels, times 100 (thesis 4.4.1).

    Args:
        name: of the extractor.
        network: two batches [n, 3, 256, 256] in [−1, 1] to n distances.
    """

    def __init__(self, name: str, network: Callable[[Any, Any], Any]) -> None:
        self.name, self._network = name, network

    def __call__(self, one: Sequence[Image.Image], other: Sequence[Image.Image]) -> Float[np.ndarray, " n"]:
        """One number per pair.

        Raises:
            QueryError: not as many pictures on either side.
        """
        import torch

        if len(one) != len(other):
            raise QueryError("distances are between pairs", got=f"{len(one)} and {len(other)} pictures")
        rows = [np.empty(0, np.float32)]
        for start in range(0, len(one), BATCH):
            first, second = (_batch(pictures[start : start + BATCH]) for pictures in (one, other))
            with torch.inference_mode():
                rows.append(100 * self._network(first, second).reshape(-1).float().cpu().numpy())
        return np.concatenate(rows)


class FeatureDistance:
    """LPIPS without its learned weights: squared differences of unit feature vectors, on several layers.

    Zhang et al. 2018, eq. 1 with w = 1/channels: at every place of every layer the features are brought to unit length;
    the squared differences are averaged over channels and places and summed over the layers.

    Args:
        features: a batch in [−1, 1] to feature maps [n, c, h, w], one per layer.
    """

    def __init__(self, features: Callable[[Any], Sequence[Any]]) -> None:
        self._features = features

    def __call__(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """n distances."""
        import torch
        from torch.nn.functional import normalize

        total = torch.zeros(len(one), device=one.device)
        for first, second in zip(self._features(one), self._features(other), strict=True):
            total = total + (normalize(first, dim=1) - normalize(second, dim=1)).square().mean((1, 2, 3))
        return total


def load_distance(spec: str) -> Distance:
    """A distance: ``lpips:alex`` (the paper's), ``lpips:vgg``, or ``efficientnet`` (no network needed).

    Raises:
        QueryError: no such distance.
        EncoderError: lpips is not installed, or its backbone cannot be had.
    """
    if spec == OFFLINE:
        return PerceptualDistance(OFFLINE, FeatureDistance(_efficientnet()))
    name = spec.removeprefix(LPIPS)
    if not spec.startswith(LPIPS) or name not in {"alex", "vgg", "squeeze"}:
        raise QueryError("no such distance", got=repr(spec), remedy=f"there are: lpips:alex, lpips:vgg, {OFFLINE}")
    try:
        import lpips
    except ImportError as error:
        raise EncoderError("LPIPS needs the package lpips", remedy="pip install 'simat[metrics]'") from error
    try:
        network = lpips.LPIPS(net=name, verbose=False).eval()
    except OSError as error:
        raise EncoderError(
            "the backbone of LPIPS cannot be had", got=error, remedy=f"without a network: {OFFLINE}"
        ) from error
    return PerceptualDistance(spec, network)


def _batch(pictures: Sequence[Image.Image]) -> torch.Tensor:
    import torch

    resized = [p.convert("RGB").resize((EDGE, EDGE), Image.Resampling.BICUBIC) for p in pictures]
    pixels = np.stack([np.asarray(picture) for picture in resized])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _efficientnet() -> Callable[[Any], Sequence[Any]]:
    import torch

    from simat.encoders.offline import TRANSFORM, classifier_weights, load_classifier

    model = load_classifier(classifier_weights()).eval()
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (TRANSFORM.mean, TRANSFORM.std))

    def features(batch: torch.Tensor) -> Sequence[torch.Tensor]:
        maps: Sequence[torch.Tensor] = model.forward_intermediates(
            ((batch + 1) / 2 - mean) / std, indices=4, intermediates_only=True
        )
        return maps

    return features
