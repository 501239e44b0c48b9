"""The ImageNet protocol of thesis 4.4.1: a photograph of one class that shall show another class of its cluster."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from data.corpus import CorpusError
from data.imagenet_classes import imagenet_classes
from data.imagenet_edits import read_queries, scan_validation
from eval.editing.cases import EditCase
from simat.images import decode, read_bytes

KIND = "imagenet"
REALS = 50  # real pictures per class


def imagenet_edits(queries: Path, images: Path, number: int | None = None, test: bool = True) -> list[EditCase]:
    """The queries of a file, in its order.

    The text is the target's name and the reference the source's, as they stand in the file (thesis 4.3 uses raw
    labels); the thesis's DiffEdit has the empty text as reference here (5.4.2): run it ``without reference``.

    Args:
        queries: see :mod:`data.imagenet_edits`.
        images: folder of the validation images, one subfolder per class.
        number: how many; None for all.
        test: the test set, or the development set.

    Raises:
        CorpusError: a damaged file, no queries of this set, or an image that is not there.
    """
    chosen = [query for query in read_queries(queries) if query.is_test == test][:number]
    if not chosen:
        raise CorpusError("no queries of this set", got=str(queries))
    missing = [query.path for query in chosen if not (images / query.path).is_file()]
    if missing:
        raise CorpusError(f"{len(missing)} of {len(chosen)} images are not there", got=str(images / missing[0]))
    return [
        EditCase(
            key=f"{number:05}",
            kind=KIND,
            source=images / query.path,
            text=query.target,
            reference=query.source,
            edits=f"{query.source} -> {query.target}",
            target=(query.target_id, query.target),
        )
        for number, query in enumerate(chosen)
    ]


def allowed_classes() -> list[int]:
    """The numbers of the 273 classes."""
    return [each.index for each in imagenet_classes()]


def real_pictures(folder: Path, targets: set[str], per_class: int = REALS) -> Mapping[str, list[Image.Image]]:
    """Real pictures of the target classes, for SFID and CSFID; the thesis takes ImageNet's training set.

    Args:
        folder: one subfolder per class, named by its WordNet id.
        targets: names of classes.
        per_class: how many of each.

    Raises:
        CorpusError: a target without pictures.
    """
    found = scan_validation(folder)
    missing = sorted(targets - set(found))
    if missing:
        raise CorpusError("a target class has no real pictures", got=", ".join(missing[:5]))
    return {name: [decode(read_bytes(folder / path)) for path in found[name][:per_class]] for name in sorted(targets)}
