"""The figures of the thesis's chapter 3, to stand beside ours."""

from __future__ import annotations

from collections.abc import Mapping

VANILLA: Mapping[tuple[str, float | None], tuple[float, float]] = {
    ("delta", 1.0): (15.9, 39.2),
    ("delta", 3.0): (35.4, 67.6),
    ("image_text_image", None): (39.7, 71.0),
    ("target_caption", None): (65.9, 95.6),
}
"""Table 3.1, CLIP ViT-B/32 as it is: (method, λ) -> SIMAT score for n = 1 and n = 5, in percent."""

ENCODERS: Mapping[tuple[str, str], tuple[float, float, float, float, float]] = {
    ("RN50", "CLIP"): (25.4, 22.3, 88.0, 44.5, 76.2),
    ("RN152", "CLIP"): (27.6, 23.5, 87.2, 46.0, 77.7),
    ("CLIP", "CLIP"): (45.2, 34.8, 82.4, 48.2, 75.4),
    ("RN50", "FastText"): (17.6, 15.2, 95.3, 44.6, 65.6),
    ("RN152", "FastText"): (19.1, 16.3, 95.5, 46.7, 68.0),
    ("CLIP", "FastText"): (28.2, 21.9, 94.4, 47.5, 70.6),
    ("RN50", "LaBSE"): (18.8, 16.8, 91.0, 38.8, 66.9),
    ("RN152", "LaBSE"): (20.4, 17.9, 90.7, 39.9, 69.0),
    ("CLIP", "LaBSE"): (31.4, 24.9, 92.9, 41.9, 69.9),
    ("RN50", "LASER"): (17.0, 15.4, 92.1, 37.0, 67.0),
    ("RN152", "LASER"): (19.0, 16.9, 92.6, 36.0, 67.6),
    ("CLIP", "LASER"): (29.6, 22.8, 92.8, 37.7, 67.6),
}
"""Table 3.2, τ = 0.1: (image, text encoder) -> Text R@1, Image R@1, text delta vectors, SIMAT score, upper bound."""

SENTENCES: Mapping[str, tuple[float, float, float, float]] = {
    "CLIP": (48.2, 46.7, 51.5, 53.5),
    "FastText": (47.5, 44.6, 46.5, 45.8),
    "LASER": (37.7, 43.8, 45.0, 44.2),
    "LaBSE": (41.9, 44.6, 46.5, 45.5),
}
"""Table 3.3: text encoder -> single word at λ = 1, sentence average at λ = 1, 1.2, 1.5."""

BEST_TAU, BEST_SCORE = 0.1, 48.2
"""Figures 3.5 and 3.6: the best temperature, and the score at λ = 1 there (CLIP)."""

_NAMES = (
    ("resnet152", "RN152"),
    ("resnet50", "RN50"),
    ("fasttext", "FastText"),
    ("laser", "LASER"),
    ("labse", "LaBSE"),
    ("vit-b-32-quickgelu/openai", "CLIP"),
    ("vit-b-32/openai", "CLIP"),
)


def thesis_name(spec: str) -> str | None:
    """What the thesis calls an encoder; None for one that it does not use."""
    return next((name for part, name in _NAMES if part in spec.lower()), None)
