"""BISON (Hu, Misra, van der Maaten 2019) as editing queries on COCO images (thesis 5.4.5 and A.3).

An annotation has a caption and two similar COCO images, of which the caption fits one. The other image is what is
edited, and the caption is the query: it is close to a caption of that image and contradicts the image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.coco import caption_fault
from data.corpus import CorpusError
from data.json_stream import stream_items, text, whole_number

MOST_EDITS = 0.25
"""Edited words over the words of the reference caption, in the filtered subset (thesis A.3)."""
_FIRST_FIELD = re.compile(rb'\{\s*"(bison_id|caption_id|caption|image_candidates|true_image_id)"')
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class Bison:
    """An annotation: which of two images does the caption describe?

    Attributes:
        images: ids and file names of the two candidates.
        true_image_id: the one that the caption describes.
    """

    bison_id: int
    caption_id: int
    caption: str
    images: tuple[tuple[int, str], tuple[int, str]]
    true_image_id: int

    @property
    def false_image(self) -> tuple[int, str]:
        """Id and file name of the image that the caption contradicts."""
        first, second = self.images
        return second if first[0] == self.true_image_id else first


@dataclass(frozen=True)
class BisonQuery:
    """Edit an image so that the query describes it.

    Attributes:
        image_id, file: the image to edit.
        query: what it shall show.
        reference: that caption of the image which is nearest to the query.
        edits: words to insert, delete or replace to make the query from the reference.
    """

    bison_id: int
    image_id: int
    file: str
    query: str
    reference: str
    edits: int

    @property
    def edited_share(self) -> float:
        """Edits over the number of words of the reference."""
        return self.edits / len(words(self.reference))


@dataclass(frozen=True)
class BisonQueries:
    """Editing queries, and how many annotations gave none, by the reason."""

    queries: tuple[BisonQuery, ...]
    skipped: Mapping[str, int]


def read_bison(path: Path) -> tuple[list[Bison], dict[str, int]]:
    """Read annotations: ``{"data": [...]}`` as they were released, a JSON array, or one JSON object a line.

    Returns:
        The annotations in the order of the file, and how many were skipped: second uses of an id
        (``duplicate``), unusable captions (``caption_empty`` and so on, see :func:`data.coco.caption_fault`).

    Raises:
        CorpusError: no such file, damaged JSON, another layout, or not two candidates of which one is true.
    """
    found: dict[int, Bison] = {}
    skipped: Counter[str] = Counter()
    for item in _records(path):
        annotation = _annotation(item, path)
        fault = caption_fault(annotation.caption)
        if fault is not None:
            skipped[f"caption_{fault}"] += 1
        elif found.setdefault(annotation.bison_id, annotation) is not annotation:
            skipped["duplicate"] += 1
    if not found:
        raise CorpusError("no BISON annotations", got=str(path), remedy="give bison_annotations.cocoval2014.json")
    return [*found.values()], dict(skipped)


def editing_queries(annotations: Sequence[Bison], captions: Mapping[int, Sequence[str]]) -> BisonQueries:
    """Pair annotations with the captions of the images to edit.

    The thesis does not say which of an image's five captions is the original one: it is the one with the fewest word
    edits to the query, the first of them where several are equal.

    Args:
        captions: of each image that is at hand, by COCO's ids; see :func:`data.coco_corpus.captions_by_image`.
    """
    queries: list[BisonQuery] = []
    skipped: Counter[str] = Counter()
    for annotation in annotations:
        image_id, file = annotation.false_image
        references = [caption for caption in captions.get(image_id, ()) if words(caption)]
        if not references:
            skipped["image_missing" if image_id not in captions else "image_without_captions"] += 1
            continue
        edits, nearest = min((word_edits(r, annotation.caption), number) for number, r in enumerate(references))
        query = " ".join(annotation.caption.split())
        queries.append(BisonQuery(annotation.bison_id, image_id, file, query, references[nearest], edits))
    return BisonQueries(tuple(queries), dict(skipped))


def filtered_queries(queries: Sequence[BisonQuery], most: float = MOST_EDITS) -> list[BisonQuery]:
    """The queries that change at most ``most`` of the reference's words (thesis A.3)."""
    return [query for query in queries if query.edited_share <= most]


def words(caption: str) -> list[str]:
    """The words of a caption in lower case, without punctuation."""
    return _WORD.findall(caption.lower())


def word_edits(a: str, b: str) -> int:
    """The least number of words to insert, delete or replace to make one caption from the other.

    The Levenshtein distance (1966) on words: a metric on lists of words.
    """
    from rapidfuzz.distance import Levenshtein

    return Levenshtein.distance(words(a), words(b))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open("rb") as file:
            start = file.read(1024).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise CorpusError(f"cannot read the annotations: {error.strerror}", got=str(path)) from error
    if start.startswith(b"["):
        return stream_items(path, "item")
    if _FIRST_FIELD.match(start):
        return stream_items(path, "", many=True)
    return stream_items(path, "data.item")


def _annotation(item: dict[str, Any], path: Path) -> Bison:
    bison_id, true_id = whole_number(item, "bison_id", path), whole_number(item, "true_image_id", path)
    candidates = item.get("image_candidates")
    if not isinstance(candidates, list) or len(candidates) != 2 or not all(isinstance(c, dict) for c in candidates):
        raise CorpusError(f"annotation {bison_id} has not two image candidates", got=path.name)
    first, second = ((whole_number(c, "image_id", path), text(c, "image_filename", path)) for c in candidates)
    if [first[0], second[0]].count(true_id) != 1:
        raise CorpusError(f"annotation {bison_id}: not exactly one candidate is the true image", got=path.name)
    caption_id, caption = whole_number(item, "caption_id", path), text(item, "caption", path)
    return Bison(bison_id, caption_id, caption, (first, second), true_id)
