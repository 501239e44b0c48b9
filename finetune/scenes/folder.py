"""A dual encoder as a folder in open_clip's layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from finetune.scenes.vocabulary import PAD, save_tokenizer, vocabulary
from simat.files import atomic, write_text
from simat.images import ImageTransform

if TYPE_CHECKING:
    from torch import Tensor

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


@dataclass(frozen=True)
class Shape:
    """The size of both towers.

    Attributes:
        width: of the residual network's first stage; its last has 32 times as many channels.
        layers: blocks of each of its four stages.
        context: tokens per text.
        resize: how a picture of any shape becomes a square.
    """

    dim: int = 128
    size: int = 64
    width: int = 16
    layers: tuple[int, int, int, int] = (1, 2, 2, 1)
    text_width: int = 128
    text_layers: int = 2
    context: int = 32
    resize: Literal["longest", "squash"] = "squash"

    @property
    def model(self) -> dict[str, Any]:
        """``model_cfg``: a residual network with attention pooling (as CLIP's RN50), a causal text transformer."""
        return {
            "embed_dim": self.dim,
            "vision_cfg": {
                "image_size": self.size, "layers": list(self.layers), "width": self.width, "head_width": 32,
            },
            "text_cfg": {
                "context_length": self.context, "vocab_size": len(vocabulary()), "width": self.text_width, "heads": 4,
                "layers": self.text_layers, "pad_id": vocabulary().index(PAD), "hf_tokenizer_name": ".",
            },
        }  # fmt: skip

    @property
    def preprocess(self) -> dict[str, Any]:
        """``preprocess_cfg``; constants near the world's own mean and deviation."""
        return {
            "size": self.size, "mode": "RGB", "mean": [0.6, 0.6, 0.55], "std": [0.25, 0.25, 0.25],
            "interpolation": "bicubic", "resize_mode": self.resize, "fill_color": 127,
        }  # fmt: skip

    @property
    def transform(self) -> ImageTransform:
        """The same preprocessing as the engine's encoders apply it."""
        known = self.preprocess
        return ImageTransform(
            self.size, self.size, edge=self.size, mean=tuple(known["mean"]), std=tuple(known["std"]),
            resize=self.resize, fill=known["fill_color"],
        )  # fmt: skip


def write_folder(folder: Path, shape: Shape, weights: dict[str, Tensor]) -> None:
    """Write configuration, tokenizer and weights in half precision."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    document = {"model_cfg": shape.model, "preprocess_cfg": shape.preprocess}
    write_text(folder / CONFIG, json.dumps(document, indent=1) + "\n")
    save_tokenizer(folder, shape.context)
    half = {
        name: (value.half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in weights.items()
    }
    with atomic(folder / WEIGHTS) as temporary:
        save_file(half, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)
