"""LPIPS between pairs of pictures as the thesis evaluates it: at 256 pixels, times 100."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from simat.errors import QueryError

if TYPE_CHECKING:
    import torch

EDGE = 256
OFFLINE = "efficientnet"
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


class PairDistance:
    """A network's distance of pairs at 256 pixels, times 100 (thesis 4.4.1).

    Args:
        name: of the extractor.
        network: two batches [n, 3, 256, 256] in [0, 1] to n distances.
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


def load_distance(spec: str) -> Distance:
    """A distance: ``alex`` (LPIPS as the paper evaluates it), ``vgg``, or ``efficientnet`` (no network needed).

    Raises:
        ModelError: as :func:`simat.generators.perceptual.load_perceptual`.
    """
    from simat.generators.perceptual import load_perceptual

    return PairDistance(spec.partition(":")[0], load_perceptual(spec))


def _batch(pictures: Sequence[Image.Image]) -> torch.Tensor:
    import torch

    resized = [p.convert("RGB").resize((EDGE, EDGE), Image.Resampling.BICUBIC) for p in pictures]
    pixels = np.stack([np.asarray(picture) for picture in resized])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
