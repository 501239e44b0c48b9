"""COCO captions: the annotation files of 2014 and 2017, and the split file of Karpathy and Fei-Fei (CVPR 2015).

- ``captions_{train,val}{2014,2017}.json``: ``images`` (``id``, ``file_name``) and ``annotations`` (``id``,
  ``image_id``, ``caption``); the split is in the file's name, ``all`` where the name says none.
- ``dataset_coco.json``: ``images`` (``cocoid``, ``filepath``, ``filename``, ``split``, ``sentences``); the splits are
  ``train``, ``restval`` (validation images that most work adds to the training set), ``val`` and ``test``.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from data.corpus import CorpusError
from data.json_stream import stream_items, text, whole_number

Split = Literal["karpathy", "official"]
KARPATHY_SPLITS = ("train", "restval", "val", "test")
WHOLE = "all"
MAX_CAPTION = 2000
"""Characters; the longest captions of COCO have some 250."""
_OFFICIAL = re.compile(r"(train|val|test)(20\d\d)?")


@dataclass(frozen=True)
class CocoImage:
    """An annotated image.

    Attributes:
        file: its name, under its folder (``val2014/``) where the annotations say it.
        split: as the annotations have it.
    """

    image_id: int
    file: str
    split: str


@dataclass(frozen=True)
class CocoCaption:
    """A caption, its runs of white space made single spaces."""

    caption_id: int
    image_id: int
    caption: str


@dataclass(frozen=True)
class CocoAnnotations:
    """What annotation files hold.

    Attributes:
        images, captions: in the order of the files, every id once.
        skipped: how many records were left out, by the reason.
        files: what was read.
        split: whose splits.
    """

    images: tuple[CocoImage, ...]
    captions: tuple[CocoCaption, ...]
    skipped: Mapping[str, int]
    files: tuple[Path, ...]
    split: Split


def read_annotations(path: Path, split: Split | None = None) -> CocoAnnotations:
    """Read a captions file, or those of a folder.

    Unusable captions (empty, over ``MAX_CAPTION`` characters, with control characters), captions of unknown images
    and second uses of an id are skipped and counted.

    Args:
        split: which of the layouts; by default Karpathy's where his file is given, else the official one.

    Raises:
        CorpusError: no captions file, damaged JSON, another layout, files of two years, or a split nobody knows.
    """
    split, files = _choose(path, split)
    collector = _Collector()
    for file in files:
        (_read_karpathy if split == "karpathy" else _read_official)(file, collector)
    return collector.annotations(split, files)


def caption_fault(caption: str) -> str | None:
    """Why a caption is unusable: ``empty``, ``too_long``, ``control_characters``; None where it is usable."""
    if not caption.strip():
        return "empty"
    if len(caption) > MAX_CAPTION:
        return "too_long"
    # White space is made single spaces; surrogates (Cs) cannot be written as UTF-8.
    faulty = any(unicodedata.category(c) in {"Cc", "Cs"} and not c.isspace() for c in caption)
    return "control_characters" if faulty else None


class _Collector:
    """Gathers images and captions by their ids and counts what it skips."""

    def __init__(self) -> None:
        self.images: dict[int, CocoImage] = {}
        self.captions: dict[int, CocoCaption] = {}
        self.skipped: Counter[str] = Counter()

    def image(self, image: CocoImage) -> bool:
        """Whether this is the first image of its id."""
        first = self.images.setdefault(image.image_id, image) is image
        self.skipped["images_duplicate"] += not first
        return first

    def caption(self, caption_id: int, image_id: int, caption: str) -> None:
        fault = caption_fault(caption)
        if fault is not None:
            self.skipped[f"captions_{fault}"] += 1
        elif caption_id in self.captions:
            self.skipped["captions_duplicate"] += 1
        else:
            self.captions[caption_id] = CocoCaption(caption_id, image_id, " ".join(caption.split()))

    def annotations(self, split: Split, files: tuple[Path, ...]) -> CocoAnnotations:
        """What was gathered, without captions of unknown images."""
        captions = tuple(c for c in self.captions.values() if c.image_id in self.images)
        self.skipped["captions_of_unknown_images"] = len(self.captions) - len(captions)
        skipped = {reason: count for reason, count in sorted(self.skipped.items()) if count}
        return CocoAnnotations(tuple(self.images.values()), captions, skipped, files, split)


def _choose(path: Path, split: Split | None) -> tuple[Split, tuple[Path, ...]]:
    """The split, and the files to read for it."""
    found: dict[Split, list[Path]] = {"karpathy": [], "official": []}
    for file in _candidates(path):
        found[_layout(file)].append(file)
    chosen = split or ("karpathy" if found["karpathy"] else "official")
    files = found[chosen]
    if not files:
        wanted = "dataset_coco.json" if chosen == "karpathy" else "captions_train2014.json"
        raise CorpusError(f"no captions with {chosen} splits here", got=str(path), remedy=f"give a file like {wanted}")
    if chosen == "karpathy" and len(files) > 1:
        raise CorpusError("more than one file with Karpathy's splits", got=", ".join(f.name for f in files))
    if chosen == "official":
        _check_years(files)
    return chosen, tuple(files)


def _candidates(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted({*path.glob("captions*.json"), *path.glob("dataset_coco*.json")})


def _layout(path: Path) -> Split:
    first = next(stream_items(path, "images.item"), None)
    if first is None:
        raise CorpusError("no images in the annotations", got=str(path), remedy="give COCO captions or Karpathy's file")
    return "karpathy" if "sentences" in first else "official"


def _check_years(files: list[Path]) -> None:
    years = {match[2] for file in files if (match := _OFFICIAL.search(file.stem)) and match[2]}
    if len(years) > 1:  # the same images, divided in another way
        raise CorpusError("captions of two years", got=", ".join(f.name for f in files), remedy="give those of one")


def _read_official(path: Path, collector: _Collector) -> None:
    match = _OFFICIAL.search(path.stem)
    split = match[1] if match else WHOLE
    for item in stream_items(path, "images.item"):
        collector.image(CocoImage(whole_number(item, "id", path), text(item, "file_name", path), split))
    annotations = stream_items(path, "annotations.item")
    first = next(annotations, None)
    if first is None or "caption" not in first:
        raise CorpusError(
            "annotations without captions", got=path.name, remedy="give a file like captions_val2014.json"
        )
    for item in chain([first], annotations):
        ids = whole_number(item, "id", path), whole_number(item, "image_id", path)
        collector.caption(*ids, text(item, "caption", path))


def _read_karpathy(path: Path, collector: _Collector) -> None:
    for item in stream_items(path, "images.item"):
        image = _karpathy_image(item, path)
        if not collector.image(image):
            continue
        sentences = item.get("sentences")
        if not isinstance(sentences, list) or not all(isinstance(s, dict) for s in sentences):
            raise CorpusError(f"image {image.image_id} has no list of sentences", got=path.name)
        for sentence in sentences:
            collector.caption(whole_number(sentence, "sentid", path), image.image_id, text(sentence, "raw", path))


def _karpathy_image(item: dict[str, Any], path: Path) -> CocoImage:
    split = text(item, "split", path)
    if split not in KARPATHY_SPLITS:
        raise CorpusError(f"{path.name}: a split that is none of {', '.join(KARPATHY_SPLITS)}", got=repr(split))
    folder, name = text(item, "filepath", path), text(item, "filename", path)
    return CocoImage(whole_number(item, "cocoid", path), f"{folder}/{name}" if folder else name, split)
