"""A corpus of kind ``captions`` from COCO's annotations and a folder of its images, which stay where they are."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.coco import CocoAnnotations, CocoCaption, CocoImage, Split, read_annotations
from data.corpus import Corpus, CorpusError, CorpusWriter, new_corpus
from simat.files import sha256_file
from simat.images import FORMATS
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    import pyarrow as pa

KIND, USUAL_CAPTIONS = "captions", 5
_NUMBER = re.compile(r"(\d{12})\.\w+$")

IMAGE_COLUMNS = {
    "image_id": "id of the image in COCO",
    "file": "path relative to the folder of the images",
    "width": "pixels",
    "height": "pixels",
    "split": "train, val, test; restval in Karpathy's splits; all where the annotations say none",
}
CAPTION_COLUMNS = {
    "caption_id": "id of the caption in COCO",
    "image_id": "the image it describes",
    "caption": "the text, its runs of white space made single spaces",
}
LEFT_OUT_COLUMNS = {
    "image_id": "id of an image that is not in this corpus",
    "file": "its name in the annotations",
    "reason": "missing, or unreadable",
}


class ImageFolder:
    """The files under a folder of COCO images: ``train2014/``, ``val2017/`` and so on, or all in one.

    An image is found by its folder and name, by its name alone, or by its twelve digits: the files of 2014 and 2017
    show the same images under different names.

    Raises:
        CorpusError: no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise CorpusError("no such folder of images", got=str(folder))
        self.folder = folder
        self._files: set[str] = set()
        self._names: dict[str, str] = {}
        self._numbers: dict[str, str] = {}
        for root, folders, names in os.walk(folder):
            folders.sort()
            for name in sorted(names):
                self._add((Path(root) / name).relative_to(folder).as_posix(), name)

    def find(self, file: str) -> str | None:
        """The path of an annotated image relative to the folder, None where it is not there."""
        name = file.rsplit("/", 1)[-1]
        if file in self._files:
            return file
        number = _NUMBER.search(name)
        return self._names.get(name) or (self._numbers.get(number[1]) if number else None)

    def _add(self, file: str, name: str) -> None:
        self._files.add(file)
        self._names.setdefault(name, file)
        if number := _NUMBER.search(name):
            self._numbers.setdefault(number[1], file)


@dataclass(frozen=True)
class _Found:
    """An image of the corpus: its annotation, its file, its size in pixels."""

    image: CocoImage
    file: str
    width: int
    height: int


def build_captions(
    captions: Path, images: Path, out: Path, split: Split | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Make a corpus of captioned images at ``out``.

    Images that are missing or that no decoder opens are left out with their captions, counted, and listed in the table
    ``left_out``.

    Args:
        captions: a captions file, or a folder of them.
        images: their folder; it may have subfolders.

    Returns:
        The counts of the corpus.

    Raises:
        CorpusError: as :func:`data.coco.read_annotations` does, something is at ``out``, or not one image is found.
    """
    progress = progress or Silent()
    with new_corpus(out) as writer:
        progress.start("reading", None, "files")
        annotations = read_annotations(captions, split)
        found, left_out = _look_up(annotations.images, ImageFolder(images), progress)
        if not found:
            raise CorpusError(
                f"none of the {len(annotations.images)} annotated images can be read",
                got=str(images),
                remedy="give the folder that holds train2014, val2014 and so on, or the images themselves",
            )
        kept = _write_tables(writer, annotations.captions, found, left_out)
        counts = _counts(annotations, found, left_out, kept)
        writer.images.rmdir()
        writer.finish(KIND, _provenance(annotations), counts, images=str(images.absolute()))
    return counts


def captions_by_image(corpus: Corpus) -> dict[int, tuple[str, ...]]:
    """The captions of each image of a corpus of kind ``captions`` that has any."""
    rows = corpus.table("captions").to_pydict()
    grouped: dict[int, list[str]] = {}
    for image_id, caption in zip(rows["image_id"], rows["caption"], strict=True):
        grouped.setdefault(image_id, []).append(caption)
    return {image_id: tuple(texts) for image_id, texts in grouped.items()}


def files_by_image(corpus: Corpus) -> dict[int, Path]:
    """The image file of each id of a corpus of kind ``captions``."""
    rows = corpus.table("images").to_pydict()
    return {image_id: corpus.images / file for image_id, file in zip(rows["image_id"], rows["file"], strict=True)}


def _look_up(
    images: Sequence[CocoImage], folder: ImageFolder, progress: Progress
) -> tuple[list[_Found], list[tuple[CocoImage, str]]]:
    found: list[_Found] = []
    left_out: list[tuple[CocoImage, str]] = []
    progress.start("images", len(images), "images")
    for image in images:
        file = folder.find(image.file)
        size = _size(folder.folder / file) if file is not None else None
        if file is None or size is None:
            left_out.append((image, "missing" if file is None else "unreadable"))
        else:
            found.append(_Found(image, file, *size))
        progress.advance(1)
    return found, left_out


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height as the header of the file has them, None where it is no image."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _write_tables(
    writer: CorpusWriter,
    captions: Iterable[CocoCaption],
    found: Sequence[_Found],
    left_out: Sequence[tuple[CocoImage, str]],
) -> list[CocoCaption]:
    """Write the three tables; give the captions that are in."""
    ids = {each.image.image_id for each in found}
    kept = [caption for caption in captions if caption.image_id in ids]
    images = [(f.image.image_id, f.file, f.width, f.height, f.image.split) for f in found]
    out = [(image.image_id, image.file, reason) for image, reason in left_out]
    writer.add_table("images", _table(IMAGE_COLUMNS, images), IMAGE_COLUMNS)
    texts = [(c.caption_id, c.image_id, c.caption) for c in kept]
    writer.add_table("captions", _table(CAPTION_COLUMNS, texts), CAPTION_COLUMNS)
    writer.add_table("left_out", _table(LEFT_OUT_COLUMNS, out), LEFT_OUT_COLUMNS)
    return kept


def _table(columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    import pyarrow as pa

    types = {"width": pa.int32(), "height": pa.int32()}
    types = {n: types.get(n, pa.int64() if n.endswith("_id") else pa.string()) for n in columns}
    values = [*zip(*rows, strict=True)] or [()] * len(columns)
    return pa.table({n: pa.array(v, types[n]) for n, v in zip(columns, values, strict=True)})


def _counts(
    annotations: CocoAnnotations,
    found: Sequence[_Found],
    left_out: Sequence[tuple[CocoImage, str]],
    kept: Sequence[CocoCaption],
) -> dict[str, Any]:
    per_image = Counter(caption.image_id for caption in kept)
    numbers = [per_image[each.image.image_id] for each in found]
    reasons = Counter(reason for _, reason in left_out)
    return {
        "images": len(found),
        "captions": len(kept),
        "splits": dict(sorted(Counter(each.image.split for each in found).items())),
        "images_missing": reasons["missing"],
        "images_unreadable": reasons["unreadable"],
        "images_with_fewer_than_5_captions": sum(n < USUAL_CAPTIONS for n in numbers),
        "images_with_more_than_5_captions": sum(n > USUAL_CAPTIONS for n in numbers),
        **annotations.skipped,
    }


def _provenance(annotations: CocoAnnotations) -> dict[str, Any]:
    sources = {path.name: sha256_file(path) for path in annotations.files}
    return {"data set": "COCO captions", "split": annotations.split, "sources": sources}
