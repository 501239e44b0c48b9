"""A frozen catalogue of encoders worth knowing; any other open_clip model works by its name."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simat import plugins


@dataclass(frozen=True)
class CatalogueEntry:
    """One encoder.

    Attributes:
        spec: what ``--encoder`` takes.
        dim: length of its vectors, None where it depends on the argument.
        megabytes: size of the weights.
        licence: of the weights.
        state: ``ready`` (runs without a network), ``download`` (fetched once), or what is missing.
        description: one line.
    """

    spec: str
    dim: int | None
    megabytes: int | None
    licence: str
    state: str
    description: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


# Dimensions, sizes and licences as their model cards state them.
_OPEN_CLIP = (
    ("ViT-B-32-quickgelu/openai", 512, 605, "MIT", "the CLIP of the thesis (ViT-B/32)"),
    ("ViT-B-32/laion2b_s34b_b79k", 512, 605, "MIT", "CLIP trained on LAION-2B"),
    ("ViT-B-16/datacomp_xl_s13b_b90k", 512, 599, "MIT", "CLIP trained on DataComp-1B, 4x the compute of B/32"),
    ("ViT-L-14/datacomp_xl_s13b_b90k", 768, 1_710, "MIT", "CLIP trained on DataComp-1B, for a GPU"),
    ("ViT-B-16-SigLIP/webli", 768, 813, "Apache-2.0", "SigLIP trained on WebLI"),
    ("MobileCLIP-S2/datacompdr", 512, 398, "Apple ASCL", "fast on CPUs"),
)


def catalogue() -> list[CatalogueEntry]:
    """Every registered encoder, with the open_clip models worth knowing."""
    entries = [
        CatalogueEntry("offline", 384, 109, "Apache-2.0", _offline_state(), "EfficientNet-Lite0 × MiniLM (ConSE)")
    ]
    have_open_clip = find_spec("open_clip") is not None
    for name, dim, megabytes, licence, description in _OPEN_CLIP:
        state = "download" if have_open_clip else "needs open_clip_torch"
        entries.append(CatalogueEntry(f"open_clip:{name}", dim, megabytes, licence, state, description))
    entries.append(
        CatalogueEntry("open_clip:MODEL//path/to/checkpoint", None, None, "yours", "ready", "your own weights")
    )
    known = {"offline", "open_clip"}
    for name, point in plugins.registered(plugins.ENCODERS).items():
        if name not in known:
            entries.append(CatalogueEntry(name, None, None, "", "ready", f"plugin {point.value}"))
    return entries


def open_clip_tags() -> list[str]:
    """Specs of all pretrained weights that open_clip knows."""
    import open_clip

    return [f"open_clip:{model}/{tag}" for model, tag in open_clip.list_pretrained()]


def _offline_state() -> str:
    from simat.encoders.offline import classifier_weights, sentence_model

    try:
        files: list[Path] = [classifier_weights(), sentence_model() / "model.safetensors"]
    except ImportError as error:
        return f"needs {error.name}"
    return "ready" if all(file.is_file() for file in files) else "weights missing"
