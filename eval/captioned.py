"""Retrieval between images and their captions, on the protocol of COCO: Text R@k and Image R@k (thesis, Table 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from data.captioned import captioned_images
from data.corpus import Corpus
from eval.tables import Cell, Table
from simat.errors import QueryError
from simat.retrieval import recall_both_ways

PER_IMAGE, FOLD = 5, 1000
PROTOCOLS = {"1k": FOLD, "5k": 5000, "all": 0}


@dataclass(frozen=True)
class Captioned:
    """Images with the same number of captions each.

    Attributes:
        rows: of the images in the corpus's table.
        captions: ``per_image`` texts after one another for each image.
        per_image: captions of an image.
    """

    rows: Int64[np.ndarray, " n"]
    captions: tuple[str, ...]
    per_image: int

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Recalls:
    """Shares in [0, 1] by k.

    Attributes:
        text: Text R@k: an image finds one of its captions.
        image: Image R@k: a caption finds its image.
    """

    text: dict[int, float]
    image: dict[int, float]


def captioned(corpus: Corpus, split: str | None = None, per_image: int = PER_IMAGE) -> Captioned:
    """The images of a corpus of captions or scenes with their first ``per_image`` captions; those with fewer stay out.

    Args:
        corpus: of kind ``captions`` or ``scenes``.
        split: of a corpus that has several; None takes ``test`` where there is one, else every image.
        per_image: captions of an image.

    Raises:
        CorpusError: a corpus without captions.
        QueryError: a SIMAT corpus, no such split, or no image with enough captions.
    """
    if corpus.manifest.kind == "simat":  # one caption a region, many regions a caption
        remedy = "give a corpus of captions or scenes"
        raise QueryError("retrieval needs images with captions of their own", got=corpus.manifest.kind, remedy=remedy)
    images = captioned_images(corpus)
    texts, splits = [image.captions for image in images], [image.split for image in images]
    wanted = split or ("test" if "test" in splits else None)
    if wanted is not None and wanted not in splits:
        raise QueryError(f"the corpus has no split {wanted!r}", got=", ".join(sorted(set(splits))))
    rows = [i for i, found in enumerate(texts) if len(found) >= per_image and wanted in {None, splits[i]}]
    if not rows:
        raise QueryError(f"no image of the corpus has {per_image} captions", got=str(corpus.folder))
    captions = tuple(text for row in rows for text in texts[row][:per_image])
    return Captioned(np.array(rows, np.int64), captions, per_image)


def recalls(
    images: Float32[np.ndarray, "n d"], captions: Float32[np.ndarray, "m d"], ks: Sequence[int] = (1, 5, 10)
) -> Recalls:
    """Text R@k and Image R@k; a tie never counts as found.

    Args:
        images: unit rows.
        captions: unit rows, m / n of them for each image in turn.
        ks: how many answers are looked at.

    Raises:
        QueryError: not the same number of captions for every image, or a k below 1.
    """
    if not len(images) or len(captions) % len(images) or min(ks) < 1:
        raise QueryError("retrieval needs as many captions for every image, and k of at least 1",
                         got=f"{len(captions)} captions, {len(images)} images, k = {min(ks)}")  # fmt: skip
    owner = np.repeat(np.arange(len(images)), len(captions) // len(images))
    found = recall_both_ways(images, captions, owner, ks)
    text, image = ({k: found[way][str(k)] for k in ks} for way in ("image_to_text", "text_to_image"))
    return Recalls(text, image)


def protocol_recalls(
    images: Float32[np.ndarray, "n d"],
    captions: Float32[np.ndarray, "m d"],
    size: int,
    ks: Sequence[int] = (1, 5, 10),
) -> Recalls:
    """The recalls among ``size`` images: the mean over the whole folds of that size (COCO's 1k), 0 for all at once."""
    if not size:
        return recalls(images, captions, ks)
    per_image = len(captions) // len(images)
    starts = range(0, len(images) - size + 1, size)
    folds = [recalls(images[s : s + size], captions[s * per_image : (s + size) * per_image], ks) for s in starts]
    if not folds:
        raise QueryError(f"the protocol needs {size} images", got=len(images), remedy="use --protocol all")
    return Recalls(
        {k: float(np.mean([fold.text[k] for fold in folds])) for k in ks},
        {k: float(np.mean([fold.image[k] for fold in folds])) for k in ks},
    )


def usual_protocols(images: int, name: str | None = None) -> dict[str, int]:
    """The protocols by name with the number of images each ranks among; 0 for all.

    Args:
        images: how many there are.
        name: of the one that is wanted; None for COCO's 1k and 5k where there are enough images, else all.

    Raises:
        QueryError: no such protocol, or too few images for it.
    """
    if name is not None and name not in PROTOCOLS:
        raise QueryError("no such protocol", got=repr(name), remedy=f"there are: {', '.join(PROTOCOLS)}")
    if name is not None and PROTOCOLS[name] > images:
        raise QueryError(f"the protocol {name} needs {PROTOCOLS[name]:,} images", got=f"{images:,}", remedy="use all")
    fitting = {one: size for one, size in PROTOCOLS.items() if 0 < size <= images}
    return {name: PROTOCOLS[name]} if name is not None else fitting or {"all": 0}


def recall_table(name: str, found: dict[str, Recalls], images: int) -> Table:
    """One row per protocol."""
    ks = [*next(iter(found.values())).text]
    rows: list[tuple[Cell, ...]] = [
        (protocol, *(100 * one.text[k] for k in ks), *(100 * one.image[k] for k in ks))
        for protocol, one in found.items()
    ]
    columns = ("Protocol", *(f"Text R@{k}" for k in ks), *(f"Image R@{k}" for k in ks))
    return Table("retrieval", f"Retrieval in {name}", columns, tuple(rows), f"{images:,} images.")
