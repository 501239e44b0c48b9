"""Retrieval and edits with the `offline` encoder on labelled photographs, through an index built for the purpose.

R@1 and R@5: the text is the label, the answer the photograph it belongs to. Edits: every dog photograph is asked
"dog -> cat"; counted is how often the first five answers hold a cat at scale 1, and how often the first answer is a
cat at scale 1.5. The folder needs a ``labels.csv``, see :mod:`data.labels`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32

import simat
from benchmarks.common import Facts, parser, run, temporary_folder
from data.labels import LabelledPhoto, read_labels
from indexing.build import build_index
from indexing.config import BuildConfig
from simat.engine import Engine
from simat.errors import StorageError
from simat.retrieval import recall_both_ways

DOGS, CATS = range(151, 269), range(281, 286)  # ImageNet indices of the domestic breeds
EDIT = "dog -> cat"


def measure(options: argparse.Namespace) -> Facts:
    """Index the folder, then measure retrieval and edits."""
    photos: Path = options.photos.absolute()
    labels = read_labels(photos)
    encoder = simat.load_encoder("offline")
    with temporary_folder() as folder:
        build_index(folder / "index", BuildConfig(str(photos)), encoder=encoder)
        engine = simat.open(folder / "index", encoder)
        return {"photos": len(labels), **retrieval(engine, labels), **edits(engine, labels)}


def retrieval(engine: Engine, labels: Sequence[LabelledPhoto]) -> Facts:
    """R@1 and R@5 of labels against the vectors that the index stores."""
    images = stored_vectors(engine, [photo.path for photo in labels])
    texts = engine.encode_texts([photo.label for photo in labels])
    found = recall_both_ways(images, texts, np.arange(len(labels)), (1, 5))["text_to_image"]
    return {f"recall@{k}": share for k, share in found.items()}


def stored_vectors(engine: Engine, paths: Sequence[Path]) -> Float32[np.ndarray, "n d"]:
    """The stored vector of every photograph, in the order of ``paths``."""
    every = np.arange(len(engine))
    ids = {engine.embeddings.resolve(row): id for id, row in enumerate(engine.embeddings.rows(every))}
    missing = [path for path in paths if path not in ids]
    if missing:
        raise StorageError("the index lacks a labelled photograph", got=str(missing[0]))
    vectors = np.concatenate(list(engine.embeddings.blocks(0, len(engine)))).astype(np.float32)
    return vectors[[ids[path] for path in paths]]


def edits(engine: Engine, labels: Sequence[LabelledPhoto]) -> Facts:
    """How often a dog photograph turns into a cat; None where the folder has no dog."""
    dogs = [photo.path for photo in labels if photo.imagenet_index in DOGS]
    cats = {photo.path for photo in labels if photo.imagenet_index in CATS}
    return {
        "dogs": len(dogs),
        "cats": len(cats),
        "cat_in_top5_at_scale_1": share_answered(engine, dogs, cats, scale=1.0, k=5),
        "cat_first_at_scale_1.5": share_answered(engine, dogs, cats, scale=1.5, k=1),
    }


def share_answered(engine: Engine, dogs: Sequence[Path], cats: set[Path], scale: float, k: int) -> float | None:
    """The share of dogs whose first ``k`` answers hold a cat."""
    answers = [engine.edit(dog, EDIT, scale=scale, k=k) for dog in dogs]
    return sum(any(r.path in cats for r in answer) for answer in answers) / len(dogs) if dogs else None


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("photos", type=Path, help="folder of photographs with labels.csv")
    run(arguments, measure)


if __name__ == "__main__":
    main()
