"""New heads for an index: projecting its stored vectors against encoding its images again, side by side.

Both indexes hold the same images; the largest difference of a number of their vectors is reported with the time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.common import Facts, cores, parser, run, temporary_folder, timed
from indexing.build import build_index
from indexing.config import BuildConfig, Machine
from indexing.project import project_index
from simat.embeddings import EmbeddingSet
from simat.encoders import load_tower
from simat.heads import Head, Heads, Layer, save_heads
from simat.types import EmbeddingSpace

IMAGE, TEXT, DIM = "efficientnet", "minilm", 512


def some_heads(image: EmbeddingSpace, text: EmbeddingSpace) -> Heads:
    """Random linear heads: what they were trained on changes no time."""
    rng = np.random.default_rng(0)
    sides = [
        Head((Layer(rng.normal(size=(DIM, space.dim)).astype(np.float32), np.zeros(DIM, np.float32)),))
        for space in (image, text)
    ]
    return Heads(sides[0], sides[1], "linear", 0.1, image, text)


def stored(index: Path) -> np.ndarray:
    """Every vector of an index."""
    embeddings = EmbeddingSet(index / "embeddings")
    return embeddings.vectors(np.arange(len(embeddings)))


def measure(options: argparse.Namespace) -> Facts:
    machine, photos = Machine(cores()), str(options.photos.absolute())
    with temporary_folder() as place:
        save_heads(place / "heads", some_heads(load_tower(IMAGE).space, load_tower(TEXT).space))
        plain = BuildConfig(photos, encoder=IMAGE)
        both = BuildConfig(photos, encoder=f"combined:image={IMAGE},text={TEXT}", heads=str(place / "heads"))
        build_index(place / "plain", plain, machine)
        projecting = timed(lambda: project_index(place / "plain", place / "heads", place / "projected", machine))
        encoding = timed(lambda: build_index(place / "encoded", both, machine))
        ours, theirs = stored(place / "projected"), stored(place / "encoded")
        return {
            "images": len(ours),
            "largest_difference": float(np.abs(ours - theirs).max()),
            "project_s": projecting,
            "encode_again_s": encoding,
            "ratio": encoding / projecting,
        }


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("photos", type=Path, help="folder of images")
    run(arguments, measure)
