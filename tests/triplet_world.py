"""A SIMAT corpus whose pictures say what they show in three grey bands, and an encoder that reads them without fail."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from corpora import regions
from PIL import Image

from data.corpus import Corpus
from data.simat.build import Options, Sources, build_corpus
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

SLOTS = (("cat", "dog", "cow"), ("biting", "licking"), ("bus", "cup", "van"))
TRIPLETS = [(s, r, o) for s in SLOTS[0] for r in SLOTS[1] for o in SLOTS[2]]
WORDS = [word for slot in SLOTS for word in slot]
STEP = 40  # of grey between two words of a slot


def triplet_corpus(folder: Path, copies: int = 4, pictures: bool = True, **options: Any) -> Corpus:
    """The corpus of all triplets, ``copies`` pictures of each."""
    annotated = regions(*TRIPLETS, copies=copies)
    images = folder / "pictures"
    if pictures:
        images.mkdir(parents=True)
        for region in annotated:
            picture(region.triplet).save(images / f"{region.image_id}.jpg", quality=95)
    build_corpus(annotated, folder / "corpus", Options(**options), Sources(images=images if pictures else None))
    return Corpus(folder / "corpus", "simat")


def picture(triplet: tuple[str, ...]) -> Image.Image:
    """Three bands, one per slot."""
    levels = [STEP // 2 + STEP * SLOTS[slot].index(word) for slot, word in enumerate(triplet)]
    bands = np.repeat(np.array(levels, np.uint8), [27, 27, 26])
    return Image.fromarray(np.repeat(bands[:, None], 100, axis=1)).convert("RGB")


class TripletEncoder:
    """The unit sum of one axis per word, for pictures and for texts; ``constant`` says the same of everything."""

    def __init__(self, constant: bool = False, fingerprint: str = "7" * 64) -> None:
        self.space = EmbeddingSpace("triplets", fingerprint, len(WORDS) + 1)
        self.constant, self.seen = constant, 0

    def encode_images(self, images: list[Image.Image]) -> np.ndarray:
        self.seen += len(images)
        return self._rows([_read(image) for image in images])

    def encode_texts(self, texts: list[str]) -> np.ndarray:
        return self._rows([[word for word in WORDS if re.search(rf"\b{word}\b", text)] for text in texts])

    def _rows(self, found: list[list[str]]) -> np.ndarray:
        rows = np.zeros((len(found), len(WORDS) + 1), np.float32)
        for row, words in zip(rows, found, strict=True):
            axes = [WORDS.index(word) for word in words]
            row[[-1] if self.constant or not axes else axes] = 1
        return unit_rows(rows)


def _read(image: Image.Image) -> list[str]:
    grey = np.asarray(image.convert("L"), np.float64)
    bands = [grey[start : start + 15].mean() for start in (5, 32, 60)]
    return [SLOTS[slot][round((level - STEP / 2) / STEP)] for slot, level in enumerate(bands)]


def load(argument: str, options: object) -> TripletEncoder:
    """Entry point of the plugin."""
    return TripletEncoder(constant=argument == "constant")


def triplet_plugin(folder: Path) -> dict[str, str]:
    """Environment of a process in which the encoder ``triplets`` is registered."""
    info = folder / "triplets-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: triplets\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[simat.encoders]\ntriplets = triplet_world:load\n")
    path = [str(folder), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(path)}
