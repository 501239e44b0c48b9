"""Where a picture has to change: masks contrasted from noise predictions, and masks that are given.

Imported only with torch.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate, pad

from simat.errors import QueryError
from simat.generators.model import Diffusion, Prompts
from simat.generators.running import Run, batches
from simat.generators.schedule import with_noise
from simat.images import ImageTransform, load_image
from simat.types import ImageInput

COVERED = 0.5  # share of a cell of the grid from which a given mask has it

Latents = Float32[torch.Tensor, "n c h w"]
Soft = Float32[torch.Tensor, "h w"]
Cells = Bool[torch.Tensor, "n h w"]


@torch.no_grad()
def noise_difference(
    model: Diffusion,
    latents: Latents,
    target: Prompts,
    reference: Prompts,
    noises: Float32[torch.Tensor, "k c h w"],
    strength: float,
    run: Run,
    batch: int,
) -> Soft:
    """Mean over noises and channels of \\|ε(x_t, target) − ε(x_t, reference)\\| (thesis 5.3.2, step 1), unscaled.

    Guidance would scale it by a constant: there is none, at half the cost.

    Args:
        model: the model.
        latents: x0 of one picture, [1, c, h, w].
        target, reference: one text each.
        noises: independent noises.
        strength: t as a share of the training timesteps.
        run: asked and told at every batch.
        batch: noises at once; each takes two rows.
    """
    timestep = min(int(strength * len(model.alphas)), len(model.alphas) - 1)
    total = torch.zeros(latents.shape[-2:], device=latents.device)
    for part in run.steps("mask", list(batches(range(len(noises)), batch))):
        noise = noises[part[0] : part[-1] + 1].to(latents.device)
        mixed = with_noise(latents.expand_as(noise), noise, float(model.alphas[timestep]))
        prompts = Prompts.joined([target.repeated(len(part)), reference.repeated(len(part))])
        changed, unchanged = model.noise(torch.cat([mixed, mixed]), timestep, prompts).chunk(2)
        total += (changed - unchanged).abs().mean(1).sum(0)
    return total / len(noises)


def rescaled(difference: Soft, clamp: float) -> Soft:
    """Extreme values cut at ``clamp`` × the mean, then stretched to [0, 1]; without any difference all zero."""
    cut = difference.clamp(max=clamp * float(difference.mean()))
    low, high = float(cut.min()), float(cut.max())
    if not high > low:
        return torch.zeros_like(cut)
    return (cut - low) / (high - low)


def filled(mask: Cells) -> Cells:
    """Masks without holes: what is outside and cannot be reached from the frame, up, down or sideways, is inside."""
    outside = pad(~mask, (1, 1, 1, 1), value=True)
    reached = torch.zeros_like(outside)
    reached[:, 0], reached[:, -1], reached[:, :, 0], reached[:, :, -1] = True, True, True, True
    while True:
        wider = _spread(reached) & outside
        if wider.equal(reached):
            return ~reached[:, 1:-1, 1:-1]
        reached = wider


def grown(mask: Cells, cells: int) -> Cells:
    """Masks wider by ``cells`` in every direction, narrower where it is negative; the frame itself takes nothing."""
    for _ in range(abs(cells)):
        mask = _spread(mask) if cells > 0 else ~_spread(~mask)
    return mask


def blended(made: Image.Image, picture: Image.Image, mask: Bool[torch.Tensor, "h w"]) -> Image.Image:
    """``made`` inside the mask, ``picture`` from two cells outside it on, a linear blend between."""
    size, cell = picture.width, picture.width // mask.shape[-1]
    wide = interpolate(grown(mask[None], 1)[None].float(), size=size, mode="nearest")
    share = avg_pool2d(wide, 2 * cell + 1, stride=1, padding=cell, count_include_pad=False)[0, 0]
    return Image.composite(made, picture, Image.fromarray((share * 255).round().to(torch.uint8).cpu().numpy()))


def fitted(image: ImageInput | None, size: int) -> Image.Image:
    """A picture of size × size: shortest edge resized, centre cropped; one of that size is left as it is.

    Raises:
        QueryError: an id, which only an index can resolve.
        ImageError: it cannot be read.
    """
    if image is None or isinstance(image, int | np.integer):
        raise QueryError("this image is an id of an index", got=image, remedy="open the index, or give a file")
    picture = load_image(image)
    return Image.fromarray(_frame(size, "LANCZOS").pixels(picture))


def given_mask(
    mask: Bool[np.ndarray, ...] | Float[np.ndarray, ...] | np.ndarray, image: ImageInput | None, size: int, grid: int
) -> Soft:
    """The share of every cell of the grid that a given mask covers, cropped as the picture is.

    Args:
        mask: [height, width] of the picture or of the square that is made of it; 1 = edit, values in [0, 1].
        image: the picture it belongs to.
        size: edge of the square in pixels.
        grid: edge of the square in latents.

    Raises:
        QueryError: another shape, values beyond [0, 1] or NaN, or a mask with edits that all vanish on the grid.
    """
    assert image is not None
    assert not isinstance(image, int | np.integer)
    width, height = load_image(image).size
    if mask.ndim != 2 or mask.shape not in {(height, width), (size, size)}:
        raise QueryError(
            "the mask has another size than the picture",
            got=" × ".join(map(str, mask.shape[::-1])),
            remedy=f"make it {width} × {height}",
        )
    values = np.asarray(mask, np.float32)
    if not (values.min() >= 0 and values.max() <= 1):
        raise QueryError("a mask has values in [0, 1], 1 = edit", got=f"{values.min()} to {values.max()}")
    square = _frame(size, "BOX").pixels(Image.fromarray(np.rint(values * 255).astype(np.uint8)).convert("RGB"))
    shares: Soft = adaptive_avg_pool2d(torch.from_numpy(square[None, :, :, 0].astype(np.float32) / 255), grid)[0]
    if values.any() and not bool((shares >= COVERED).any()):
        cell = size // grid
        raise QueryError(
            f"the mask covers no cell of {cell} × {cell} pixels, the finest that the model tells apart",
            got=f"{int((values > 0).sum())} pixels",
            remedy="make it larger",
        )
    return shares


def _spread(mask: Cells) -> Cells:
    wide = pad(mask, (1, 1, 1, 1))
    rows, columns = wide[:, :, 1:-1], wide[:, 1:-1]
    return mask | rows[:, :-2] | rows[:, 2:] | columns[:, :, :-2] | columns[:, :, 2:]


def _frame(size: int, interpolation: str) -> ImageTransform:
    return ImageTransform(size, size, size, (0.0,) * 3, (1.0,) * 3, interpolation=interpolation)
