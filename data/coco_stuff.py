"""COCO-Stuff (Caesar, Uijlings, Ferrari 2018): segmentation maps, and the layouts that thesis 6.4.1 makes of them.

A map is a PNG of the image's size with one byte per pixel: 0 to 90 things, 91 to 181 stuff, 255 unlabelled. The
data set's ``labels.txt`` and COCO's categories count from 1: the pixel's value is the number there less one.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data.corpus import CorpusError
from data.json_stream import stream_items, text, whole_number
from simat.images import MAX_PIXELS, read_bytes

Protocol = Literal["all", "filtered", "few"]
UNLABELLED = 255
LEAST_SHARE = 0.05
MOST_FEW = 3
_LINE = re.compile(r"(\d+): *(\S.*)")


@dataclass(frozen=True, eq=False)
class Segment:
    """All pixels of one class.

    Attributes:
        label: value of the pixels in the map.
        name: of the class.
        mask: where the class is; cannot be written to.
    """

    label: int
    name: str
    mask: Bool[np.ndarray, "h w"]

    @property
    def share(self) -> float:
        """Part of the image's area, in (0, 1]."""
        return float(self.mask.mean())


@dataclass(frozen=True)
class Prompt:
    """A caption followed by the names of the segments' classes.

    Attributes:
        spans: for each segment, where its name begins and ends in ``text``, in characters.
    """

    text: str
    spans: tuple[tuple[int, int], ...]


@cache
def label_names() -> Mapping[int, str]:
    """The names of the 171 classes that are annotated, by their values in the maps."""
    table = files("data") / "tables" / "coco_stuff_labels.csv"
    return {int(row["id"]): row["name"] for row in csv.DictReader(table.read_text("utf-8").splitlines())}


def read_label_names(path: Path) -> dict[int, str]:
    """Names of classes by their values in the maps, from ``labels.txt`` or a JSON list of COCO's categories.

    Raises:
        CorpusError: no such file, a line that is not ``NUMBER: NAME``, or damaged JSON.
    """
    names = _categories(path) if path.suffix == ".json" else _lines(path)
    names.pop(-1, None)  # unlabelled
    if not names or max(names) >= UNLABELLED:
        raise CorpusError("not a file of label names", got=str(path), remedy="give labels.txt or a list of categories")
    return names


def map_path(folder: Path, image_id: int) -> Path:
    """The map of an image in a folder such as ``val2017``: its id in twelve digits, or as it is where that file is."""
    plain = folder / f"{image_id}.png"
    return plain if plain.is_file() else folder / f"{image_id:012}.png"


def read_map(path: Path) -> UInt8[np.ndarray, "h w"]:
    """The value of every pixel of a map.

    Raises:
        CorpusError: not a PNG with one byte per pixel, or too large.
        ImageError: missing, unreadable or empty.
    """
    try:
        with Image.open(io.BytesIO(read_bytes(path)), formats=["PNG"]) as image:
            if image.mode not in {"L", "P"}:
                raise CorpusError("a map has one byte per pixel", got=f"mode {image.mode} in {path}")
            if image.width * image.height > MAX_PIXELS:
                raise CorpusError("the map is too large", got=f"{image.width} × {image.height} pixels in {path}")
            return np.array(image, np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise CorpusError("not a segmentation map, or a damaged one", got=str(path), remedy="give a PNG") from error


def segments_of(pixels: UInt8[np.ndarray, "h w"], names: Mapping[int, str] | None = None) -> tuple[Segment, ...]:
    """The segments of a map, one per class, by label; unlabelled pixels belong to none (*Eval-all*).

    Args:
        names: of the labels, by default those of :func:`label_names`.

    Raises:
        CorpusError: a label without a name.
    """
    names = label_names() if names is None else names
    labels = [int(label) for label in np.unique(pixels) if label != UNLABELLED]
    unknown = [label for label in labels if label not in names]
    if unknown:
        raise CorpusError("the map has labels without a name", got=unknown[:5], remedy="give the data set's labels.txt")
    return tuple(Segment(label, names[label], _mask(pixels, label)) for label in labels)


def filtered(segments: Sequence[Segment], least: float = LEAST_SHARE) -> tuple[Segment, ...]:
    """The segments that cover at least ``least`` of the image (*Eval-filtered*)."""
    return tuple(segment for segment in segments if segment.share >= least)


def few(segments: Sequence[Segment], rng: np.random.Generator, least: float = LEAST_SHARE) -> tuple[Segment, ...]:
    """One to three random segments that each cover at least ``least`` of the image (*Eval-few*).

    Their number is drawn first, from one to three or as many as there are. The order is that of the labels.

    Returns:
        Nothing where no segment is large enough.
    """
    large = filtered(segments, least)
    if not large:
        return ()
    count = rng.integers(1, min(MOST_FEW, len(large)) + 1)
    return tuple(large[i] for i in sorted(rng.choice(len(large), count, replace=False)))


def layout_of(segments: Sequence[Segment], protocol: Protocol, rng: np.random.Generator) -> tuple[Segment, ...]:
    """The segments that condition generation under one of the three protocols of thesis 6.4.1.

    Args:
        rng: draws the segments of ``few``; the others leave it alone.
    """
    if protocol == "few":
        return few(segments, rng)
    return filtered(segments) if protocol == "filtered" else tuple(segments)


def prompt_of(caption: str, segments: Sequence[Segment]) -> Prompt:
    """The caption with the list of class names after it, as thesis 6.4.1 builds prompts."""
    prompt, spans = caption.strip().rstrip("."), []
    for segment in segments:
        prompt += ", " if prompt else ""
        spans.append((len(prompt), len(prompt) + len(segment.name)))
        prompt += segment.name
    return Prompt(prompt, tuple(spans))


def _mask(pixels: UInt8[np.ndarray, "h w"], label: int) -> Bool[np.ndarray, "h w"]:
    mask: Bool[np.ndarray, "h w"] = pixels == label
    mask.flags.writeable = False
    return mask


def _categories(path: Path) -> dict[int, str]:
    return {whole_number(item, "id", path) - 1: text(item, "name", path) for item in stream_items(path, "item")}


def _lines(path: Path) -> dict[int, str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError("cannot read the names of the labels", got=str(path)) from error
    matches = [_LINE.fullmatch(line.strip()) for line in lines if line.strip()]
    return {int(match[1]) - 1: match[2] for match in matches if match} if None not in matches else {}
