"""Backends whose pictures are known in advance, and tiny judges with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from data.scenes.world import PLACES, RELATIONS, THINGS
from simat.errors import QueryError
from simat.types import Accepts, Answer, Query, Result

EDITOR = Accepts(frozenset({"image", "text"}), frozenset({"reference", "strength", "seed"}))
GRID = 16


class Stop(Exception):
    """The process dies."""


class Painters:
    """``copy`` gives the input back; ``fade`` fades the left half of it to white by its strength, and says so.

    Attributes:
        asked: every query, with backend and settings.
        last: dies after this many answers.
    """

    model = "painters 1"

    def __init__(self, last: int | None = None, refuse: str = "") -> None:
        self.asked: list[tuple[Query, str, dict[str, str]]] = []
        self.last, self.refuse = last, refuse

    def accepts(self, backend: str) -> Accepts:
        known = {
            "copy": Accepts(frozenset({"image"}), frozenset()),
            "encode": Accepts(frozenset({"image"}), frozenset()),
            "fade": EDITOR,
            "segments": Accepts(frozenset({"text", "layout"}), frozenset({"seed"})),
            "grey": Accepts(frozenset({"text", "layout"}), frozenset({"seed"})),
        }
        if backend not in known:
            raise QueryError("no such backend", got=repr(backend))
        return known[backend]

    def answer(self, query: Query, backend: str, settings: Mapping[str, str]) -> Answer:
        if self.last is not None and len(self.asked) >= self.last:
            raise Stop
        self.asked.append((query, backend, dict(settings)))
        if self.refuse and self.refuse in (query.text or ""):
            raise QueryError("a word is too many", got=self.refuse)
        picture, mask = getattr(self, backend)(query)
        extras: dict[str, Any] = {"config": dict(settings), "models": {"x": "1"}}
        timings = {"unet": 0.0}
        return Answer(
            (Result(0.0, image=picture),), backend, timings, extras if mask is None else extras | {"mask": mask}
        )

    def copy(self, query: Query) -> tuple[Image.Image, None]:
        assert isinstance(query.image, Image.Image)
        return query.image, None

    def encode(self, query: Query) -> tuple[Image.Image, None]:
        """One grey level off everywhere."""
        pixels = np.asarray(self.copy(query)[0]).astype(int)
        return Image.fromarray(np.where(pixels > 128, pixels - 1, pixels + 1).astype(np.uint8)), None

    def fade(self, query: Query) -> tuple[Image.Image, np.ndarray]:
        pixels = np.array(self.copy(query)[0]).astype(float)
        half = pixels.shape[1] // 2
        pixels[:, :half] += (query.strength or 0.0) * (255 - pixels[:, :half])
        mask = np.zeros((1, GRID, GRID), bool)
        mask[:, :, : GRID // 2] = True
        return Image.fromarray(np.rint(pixels).astype(np.uint8)), mask

    def grey(self, query: Query) -> tuple[Image.Image, None]:
        return Image.new("RGB", (64, 64), (128, 128, 128)), None

    def segments(self, query: Query) -> tuple[Image.Image, None]:
        """Every segment in the grey of its place in the layout: 50, 100, …"""
        assert query.layout is not None
        pixels = np.zeros((64, 64, 3), np.uint8)
        for number, mask in enumerate(query.layout.values(), 1):
            pixels[np.asarray(mask) > 0.5] = 50 * number
        return Image.fromarray(pixels), None


def tiny_classifier(folder: Path, labels: Mapping[int, str] | None = None) -> Path:
    """A ``transformers`` folder of a classifier that knows the facts of scenes, with random weights."""
    from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

    facts = [f"subject {name}" for name in THINGS] + [f"relation {name}" for name in RELATIONS]
    facts += [f"object {name}" for name in THINGS] + [f"place {name}" for name in PLACES]
    names = dict(enumerate(facts)) if labels is None else dict(labels)
    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic", id2label=names,
        label2id={name: number for number, name in names.items()},
    )  # fmt: skip
    ResNetForImageClassification(config).save_pretrained(folder)
    ConvNextImageProcessor(size={"shortest_edge": 64}, crop_pct=1.0).save_pretrained(folder)
    return folder


def tiny_segmenter(folder: Path) -> Path:
    """A ``transformers`` folder of a segmenter that knows background and things, with random weights."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessor

    names = dict(enumerate(("background", *THINGS)))
    torch.manual_seed(0)
    config = SegformerConfig(
        hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], decoder_hidden_size=8, num_attention_heads=[1, 1, 1, 1],
        id2label=names, label2id={name: number for number, name in names.items()},
    )  # fmt: skip
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder
