"""A folder of photographs with a ``labels.csv``: one ImageNet class per photograph.

Columns: ``file``, a path relative to the folder; ``wnid``, the WordNet id of the class; ``label``, its name in plain
words; ``imagenet_index``, its number among the 1,000 classes. Further columns are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simat.errors import SimatError

NAME = "labels.csv"
COLUMNS = ("file", "wnid", "label", "imagenet_index")
CLASSES = 1000


class LabelsError(SimatError):
    """A ``labels.csv`` that is missing, or that does not say what it should."""


@dataclass(frozen=True)
class LabelledPhoto:
    """One row of ``labels.csv``.

    Attributes:
        path: the photograph.
        wnid: WordNet id of its class, e.g. ``n02099601``.
        label: name of its class, e.g. ``golden retriever``.
        imagenet_index: number of its class, in [0, 1000).
    """

    path: Path
    wnid: str
    label: str
    imagenet_index: int


def read_labels(folder: Path) -> list[LabelledPhoto]:
    """Read ``folder/labels.csv``, in its order.

    Raises:
        LabelsError: no such file, no UTF-8 text, a column or a value is missing, an index that is no class, a
            photograph that is listed twice or is not there, or no photograph at all.
    """
    path = folder / NAME
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            photos = _read_rows(folder, csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise LabelsError(f"cannot read {path}: {reason}", remedy=f"give a folder with a {NAME}") from error
    if not photos:
        raise LabelsError(f"{path} lists no photographs")
    return photos


def _read_rows(folder: Path, rows: csv.DictReader[str]) -> list[LabelledPhoto]:
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise LabelsError(
            f"{folder / NAME} lacks the columns {', '.join(missing)}",
            got=", ".join(rows.fieldnames or ()) or "nothing",
        )
    photos: dict[Path, LabelledPhoto] = {}
    for row in rows:
        photo = _photo(folder, row, f"line {rows.line_num} of {folder / NAME}")
        if photo.path in photos:
            raise LabelsError(f"{folder / NAME} lists a photograph twice", got=row["file"])
        photos[photo.path] = photo
    return list(photos.values())


def _photo(folder: Path, row: Mapping[str, str | None], where: str) -> LabelledPhoto:
    file, wnid, label, number = ((row[name] or "").strip() for name in COLUMNS)
    if not (file and wnid and label and number):
        raise LabelsError(f"{where} lacks a value", got=f"{file!r}, {wnid!r}, {label!r}, {number!r}")
    if not (number.isascii() and number.isdigit() and int(number) < CLASSES):
        raise LabelsError(f"{where}: imagenet_index must lie in [0, {CLASSES})", got=repr(number))
    if not (folder / file).is_file():
        raise LabelsError(f"{where} names a photograph that is not there", got=file)
    return LabelledPhoto(folder / file, wnid, label, int(number))
