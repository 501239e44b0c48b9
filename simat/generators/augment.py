"""FlexIT's random views of a picture: flip, rotation and resized crop in one affine warp, all views in one pass.

Imported only with torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from simat.errors import QueryError

Affine = Float[Tensor, "d 2 3"]
Pictures = Float[Tensor, "n 3 height width"]


@dataclass(frozen=True)
class Augmentation:
    """How views are drawn (Couairon 2023, section 4.3, "Implementation details").

    Attributes:
        count: d, how many views of each step; 0 leaves the picture as it is.
        degrees: the largest rotation, either way.
        area: the smallest share of the picture that a crop keeps.
        stretch: aspect ratios lie between 1 − stretch and 1 + stretch.
        flips: probability of a horizontal flip.
    """

    count: int = 8
    degrees: float = 10.0
    area: float = 0.8
    stretch: float = 0.1
    flips: float = 0.5

    def __post_init__(self) -> None:
        if self.count < 0:
            raise QueryError("the number of augmentations cannot be negative", got=self.count)

    def draw(self, generator: torch.Generator) -> Affine:
        """Fresh maps from the points of a view to the points of the picture, both in [−1, 1]².

        Args:
            generator: of the CPU; six numbers per view are drawn from it.
        """
        uniform = torch.rand(6, self.count, generator=generator)
        area = 1 - (1 - self.area) * uniform[0]
        low, high = math.log(1 - self.stretch), math.log(1 + self.stretch)
        ratio = torch.exp(low + (high - low) * uniform[1])
        width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
        left, top = (1 - width) * (2 * uniform[2] - 1), (1 - height) * (2 * uniform[3] - 1)
        angle = math.radians(self.degrees) * (2 * uniform[4] - 1)
        sine, cosine = angle.sin(), angle.cos()
        side = torch.where(uniform[5] < self.flips, -1.0, 1.0)
        across = torch.stack([side * cosine * width, -side * sine * height, side * (cosine * left - sine * top)], 1)
        down = torch.stack([sine * width, cosine * height, sine * left + cosine * top], 1)
        return torch.stack([across, down], 1)


def resize(pictures: Pictures, size: int, mode: str = "bicubic") -> Float[Tensor, "n 3 {size} {size}"]:
    """Resize to ``size`` × ``size`` with antialiasing, as Pillow does; differentiable."""
    if pictures.shape[-2:] == (size, size):
        return pictures
    return functional.interpolate(pictures, (size, size), mode=mode, antialias=True, align_corners=False)


def views(picture: Float[Tensor, "1 3 height width"], maps: Affine, size: int) -> Float[Tensor, "d 3 {size} {size}"]:
    """One view per map, ``size`` pixels wide; what a rotation brings in from outside is a mirror image.

    A picture larger than its views is brought to their scale first, so that bilinear sampling skips no pixel.

    Args:
        picture: a square.
        maps: from :meth:`Augmentation.draw`.
        size: width and height of a view.
    """
    close = resize(picture, size) if picture.shape[-1] > size else picture
    grid = functional.affine_grid(maps.to(close), [len(maps), 3, size, size], align_corners=False)
    spread = close.expand(len(maps), -1, -1, -1)
    return functional.grid_sample(spread, grid, padding_mode="reflection", align_corners=False)
