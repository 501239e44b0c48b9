"""The figures of the thesis's chapters 4 and 6, to stand beside ours where metric and data are the same."""

from __future__ import annotations

from collections.abc import Mapping

IMAGENET: Mapping[str, Mapping[str, float]] = {
    "copy": {"LPIPS": 0.0, "Accuracy": 0.45, "CSFID": 106.0, "SFID": 0.2},
    "encode": {"LPIPS": 17.5, "Accuracy": 1.6, "CSFID": 107.5, "SFID": 3.0},
    "retrieve": {"LPIPS": 72.4, "Accuracy": 90.6, "CSFID": 27.2, "SFID": 0.2},
    "flexit": {"LPIPS": 24.7, "Accuracy": 51.3, "CSFID": 57.9, "SFID": 6.8},
}
"""Table 4.1: backend -> metric -> figure, on the 1,092 queries of the test set."""

COCO_STUFF: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "all": {
        "classifier_guidance": {"FID": 24.1, "mIoU": 14.2, "CLIPScore": 30.6},
        "multidiffusion": {"FID": 59.9, "mIoU": 15.8, "CLIPScore": 23.9},
        "pww": {"FID": 22.9, "mIoU": 27.9, "CLIPScore": 31.5},
        "zestguide": {"FID": 22.8, "mIoU": 33.1, "CLIPScore": 31.9},
    },
    "filtered": {
        "classifier_guidance": {"FID": 23.2, "mIoU": 17.1, "CLIPScore": 30.2},
        "multidiffusion": {"FID": 46.7, "mIoU": 18.6, "CLIPScore": 25.8},
        "pww": {"FID": 23.4, "mIoU": 31.8, "CLIPScore": 31.4},
        "zestguide": {"FID": 23.1, "mIoU": 43.3, "CLIPScore": 31.3},
    },
    "few": {
        "classifier_guidance": {"FID": 23.7, "mIoU": 20.5, "CLIPScore": 30.1},
        "multidiffusion": {"FID": 21.1, "mIoU": 19.6, "CLIPScore": 29.0},
        "pww": {"FID": 20.3, "mIoU": 36.3, "CLIPScore": 31.2},
        "zestguide": {"FID": 21.0, "mIoU": 46.9, "CLIPScore": 30.3},
    },
}
"""Table 6.1, methods on the thesis's latent diffusion model: protocol -> backend -> metric -> figure."""

TAU: Mapping[float, Mapping[str, float]] = {
    0.1: {"FID": 30.5, "mIoU": 34.3},
    0.25: {"FID": 30.4, "mIoU": 40.8},
    0.5: {"FID": 31.5, "mIoU": 43.3},
    1.0: {"FID": 34.8, "mIoU": 44.6},
}
"""Table 6.3: τ -> metric -> figure, in *Eval-few* without paint-with-words."""


def beside(figures: Mapping[str, Mapping[str, float]], backend: str, label: str) -> float | None:
    """The thesis's figure for a backend; None where there is none for a metric of this very name.

    A label such as ``LPIPS on efficientnet`` is another metric and finds nothing.
    """
    return figures.get(backend, {}).get(label.removesuffix(" (mean+diag)"))
