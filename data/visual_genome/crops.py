"""The crops of regions, cut from the images of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from PIL import Image

from data.corpus import CorpusError
from data.regions import Region
from simat.errors import ImageError
from simat.images import decode, read_bytes
from simat.progress import Progress, Silent

SUBFOLDERS = ("", "VG_100K", "VG_100K_2")
QUALITY = 95
MAX_EDGE = 65_500  # pixels; what a JPEG can hold


@dataclass
class CropReport:
    """What was cut, and what could not be.

    Attributes:
        regions: ids of the regions whose crop was written, in the order of cutting.
        missing: ids of images that have no file.
        unreadable: ids of images whose file is damaged, or too small for a crop, with the reason.
    """

    regions: list[int] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)

    def as_counts(self) -> dict[str, int]:
        """Flat figures under stable names, for a corpus's counts."""
        unreadable = len(self.unreadable)
        return {"crops": len(self.regions), "images missing": len(self.missing), "images unreadable": unreadable}


def cut_crops(regions: Iterable[Region], images: Path, out: Path, progress: Progress | None = None) -> CropReport:
    """Write the crop of each region as ``out/{region_id}.jpg``; every image is decoded once.

    Args:
        images: a folder with ``{image_id}.jpg`` in it, or in its subfolders ``VG_100K`` and ``VG_100K_2``.
        out: is made if needed.

    Raises:
        CorpusError: ``images`` is no folder, or two regions have one id.
    """
    by_image = sorted(regions, key=lambda region: (region.image_id, region.region_id))
    if not images.is_dir():
        raise CorpusError("no folder of images here", got=str(images))
    if len({region.region_id for region in by_image}) < len(by_image):
        raise CorpusError("two regions have the same id")
    out.mkdir(parents=True, exist_ok=True)
    progress, report = progress or Silent(), CropReport()
    progress.start("crops", len(by_image), "crops")
    for image_id, group in groupby(by_image, key=lambda region: region.image_id):
        wanted = list(group)
        _cut_image(image_id, wanted, images, out, report)
        progress.advance(len(wanted))
    return report


def _cut_image(image_id: int, regions: list[Region], images: Path, out: Path, report: CropReport) -> None:
    path = next((path for path in _places(images, image_id) if path.exists()), None)
    if path is None:
        report.missing.append(image_id)
        return
    try:
        image = decode(read_bytes(path))
        for region in regions:
            _crop(image, region).save(out / f"{region.region_id}.jpg", quality=QUALITY)
            report.regions.append(region.region_id)
    except ImageError as error:
        report.unreadable[image_id] = str(error)


def _crop(image: Image.Image, region: Region) -> Image.Image:
    x0, y0, x1, y1 = region.crop
    if not (0 <= x0 < x1 <= image.width and 0 <= y0 < y1 <= image.height):
        raise ImageError("the crop lies outside the image", got=f"{region.crop} in {image.width} × {image.height}")
    if max(x1 - x0, y1 - y0) > MAX_EDGE:
        raise ImageError("the crop is larger than a JPEG can be", got=f"{x1 - x0} × {y1 - y0}")
    return image.crop(region.crop)


def _places(images: Path, image_id: int) -> Iterator[Path]:
    return (images / subfolder / f"{image_id}.jpg" for subfolder in SUBFOLDERS)
