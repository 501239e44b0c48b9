"""What a metric may be called: its paper's bare name belongs to its paper's feature extractor alone."""

from __future__ import annotations

from collections.abc import Mapping

STANDARD: Mapping[str, str] = {
    "LPIPS": "alex",
    "FID": "inception",
    "SFID": "inception",
    "CSFID": "inception",
    "CLIPScore": "open_clip:ViT-B-32-quickgelu/openai",
    "Accuracy": "timm:deit_base_distilled_patch16_384",
    "mIoU": "vit-adapter",
}
"""The extractor that each paper metric is defined on, as the specs of this package name it.

The thesis does not say which CLIP its CLIPScore uses: it is that of Hessel et al. 2021 here. Its mIoU is by a
ViT-Adapter, which none of the usual libraries carries.
"""


def metric_name(metric: str, extractor: str) -> str:
    """``LPIPS`` where the extractor is the standard one, ``LPIPS on EXTRACTOR`` everywhere else.

    Args:
        metric: one of ``STANDARD``.
        extractor: name of the network that was looked through.
    """
    return metric if is_standard(metric, extractor) else f"{metric} on {extractor}"


def is_standard(metric: str, extractor: str) -> bool:
    """Whether a figure may stand beside published ones."""
    return STANDARD[metric] == extractor
