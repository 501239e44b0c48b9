"""What autoencoders and the judge can do, on scenes of worlds that no training saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from finetune.scenes.autoencoder import VQ, Kind, to_pixels
from finetune.scenes.bank import fact_names, label_map
from finetune.scenes.judge import SEGMENTER, Part, spoil
from finetune.scenes.sheets import as_pictures, unseen, write_sheet

BLOCK = 16  # scenes at a time


def mark_autoencoder(folder: Path, kind: Kind, size: int, count: int, sheet: Path) -> dict[str, Any]:
    """PSNR of what comes back, in decibels, and a sheet of pictures beside their reconstructions.

    Returns:
        ``psnr`` (mean), ``worst``, and for a quantised space ``codes``: how many of them these scenes use.
    """
    import torch
    from diffusers import AutoencoderKL, VQModel

    model: Any = (VQModel if kind == VQ else AutoencoderKL).from_pretrained(folder).float().eval()
    scenes = unseen(count, size)
    decibels, used, cells = list[float](), set[int](), list[Any]()
    for first in range(0, count, BLOCK):
        pixels = to_pixels(np.stack([np.asarray(drawn.image) for _, drawn in scenes[first : first + BLOCK]]), "cpu")
        with torch.no_grad():
            if kind == VQ:
                quantised, _, (_, _, indices) = model.quantize(model.encode(pixels).latents)
                used |= set(indices.flatten().tolist())
                made = model.decode(quantised, force_not_quantize=True).sample
            else:
                made = model.decode(model.encode(pixels).latent_dist.mode()).sample
        decibels += psnr(pixels, made).tolist()
        cells += [*zip(as_pictures(pixels), as_pictures(made), strict=True)]
    write_sheet(sheet, [cell for drawn, made in cells[:16] for cell in ((drawn, "drawn"), (made, "decoded"))])
    facts = {"psnr": round(float(np.mean(decibels)), 2), "worst": round(min(decibels), 2)}
    return facts | ({"codes": len(used)} if kind == VQ else {"scale": round(model.config.scaling_factor, 4)})


def psnr(pixels: Any, made: Any) -> Float[np.ndarray, " n"]:
    """−10·log₁₀ of the mean squared error of each picture, on a range of 1."""
    error = ((made.clamp(-1, 1) - pixels) / 2).square().flatten(1).mean(1)
    return np.asarray(-10 * error.log10())


def mark_judge(folder: Path, part: Part, size: int, count: int) -> dict[str, Any]:
    """How often the judge is right on scenes as drawn, and on soft and noisy ones.

    Returns:
        For both kinds: the segmenter's mean IoU over things, or the classifier's share of right facts by name.
    """
    import torch
    from transformers import AutoModelForImageClassification, AutoModelForSemanticSegmentation

    loader: Any = AutoModelForSemanticSegmentation if part == SEGMENTER else AutoModelForImageClassification
    model, scenes = loader.from_pretrained(folder).float().eval(), unseen(count, size)
    generator = torch.Generator().manual_seed(0)
    found: dict[str, Any] = {}
    for name in ("drawn", "spoiled"):
        answers, truth = [], []
        for first in range(0, count, BLOCK):
            rows = scenes[first : first + BLOCK]
            pixels = to_pixels(np.stack([np.asarray(drawn.image) for _, drawn in rows]), "cpu")
            with torch.no_grad():  # pixels in [−1, 1] are what its preprocessing makes
                answers.append(model(spoil(pixels, generator) if name == "spoiled" else pixels).logits)
            truth += rows
        logits = torch.cat(answers)
        found[name] = _overlap(logits, truth, size) if part == SEGMENTER else _right(logits, truth)
    return found


def _overlap(logits: Any, scenes: Any, size: int) -> dict[str, float]:
    from torch.nn.functional import interpolate

    said = interpolate(logits, size=(size, size), mode="bilinear").argmax(1).numpy()
    shown = np.stack([label_map(drawn, scene) for scene, drawn in scenes])
    ious = [((said == n) & (shown == n)).sum() / ((said == n) | (shown == n)).sum() for n in np.unique(shown)]
    return {"miou": round(float(np.mean(ious)), 4)}


def _right(logits: Any, scenes: Any) -> dict[str, float]:
    groups = logits.split([len(values) for values in fact_names()], dim=1)
    right = {}
    for n, (name, group) in enumerate(zip(("subject", "relation", "object", "place"), groups, strict=True)):
        true = [fact_names()[n].index((*scene.triplet, scene.place)[n]) for scene, _ in scenes]
        right[name] = round(float((group.argmax(1).numpy() == np.array(true)).mean()), 4)
    return right
