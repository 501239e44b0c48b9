"""Crops cut from image files; images that are missing or damaged are told and hurt no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import Recorder
from corpora import region
from helpers import blotches
from PIL import Image

from data.corpus import CorpusError
from data.regions import Box, Region
from data.visual_genome.crops import CropReport, cut_crops

SIZE = (120, 90)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Pictures 1 and 2 in the folder, 3 and 4 in the two folders of Visual Genome."""
    folder = tmp_path / "images"
    for number, place in ((1, ""), (2, ""), (3, "VG_100K"), (4, "VG_100K_2")):
        (folder / place).mkdir(parents=True, exist_ok=True)
        blotches(number, SIZE).save(folder / place / f"{number}.jpg", quality=95)
    return folder


def at(number: int, image: int, crop: Box = (10, 20, 100, 84)) -> Region:
    return region(number, ("cat", "licking", "spoon"), image, crop)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_crops_are_the_pixels_of_their_boxes(images: Path, tmp_path: Path) -> None:
    regions = [at(30, 4), at(10, 1, (0, 0, *SIZE)), at(20, 3), at(11, 1)]
    report = cut_crops(regions, images, tmp_path / "new" / "out")
    assert report == CropReport([10, 11, 20, 30])
    assert names(tmp_path / "new" / "out") == ["10.jpg", "11.jpg", "20.jpg", "30.jpg"]
    for one, place in ((regions[0], "VG_100K_2/4"), (regions[1], "1"), (regions[2], "VG_100K/3"), (regions[3], "1")):
        with Image.open(images / f"{place}.jpg") as whole:
            expected = np.asarray(whole.crop(one.crop), dtype=int)
        with Image.open(tmp_path / "new" / "out" / f"{one.region_id}.jpg") as crop:
            assert crop.format == "JPEG"
            assert np.abs(np.asarray(crop, dtype=int) - expected).mean() < 2
            other = np.abs(np.asarray(crop, dtype=int)[::-1] - expected).mean()
            assert other > 10


def test_crops_of_missing_and_damaged_images_are_told(images: Path, tmp_path: Path) -> None:
    (images / "5.jpg").write_bytes((images / "1.jpg").read_bytes()[:400])
    (images / "6.jpg").write_bytes(b"")
    (images / "7.jpg").mkdir()
    (images / "8.jpg").write_text("<html>not found</html>")
    regions = [at(number, number) for number in (1, 5, 6, 7, 8, 9)]
    report = cut_crops(regions, images, tmp_path / "out")
    assert (report.regions, report.missing, list(report.unreadable)) == ([1], [9], [5, 6, 7, 8])
    assert "truncated" in report.unreadable[5]
    assert report.unreadable[6] == "the file is empty"
    assert "7.jpg" in report.unreadable[7]
    assert "not an image" in report.unreadable[8]
    assert report.as_counts() == {"crops": 1, "images missing": 1, "images unreadable": 4}
    assert names(tmp_path / "out") == ["1.jpg"]


@pytest.mark.parametrize("crop", [(10, 20, 121, 84), (10, 20, 100, 91), (-1, 20, 100, 84), (50, 20, 50, 84)])
def test_crops_outside_their_image_are_told(images: Path, tmp_path: Path, crop: Box) -> None:
    report = cut_crops([at(1, 1, (0, 0, 9, 9)), at(2, 1, crop), at(3, 2)], images, tmp_path / "out")
    assert report.regions == [1, 3]
    assert "lies outside the image; got" in report.unreadable[1]
    assert "120 × 90" in report.unreadable[1]


def test_crops_wider_than_a_jpeg_are_told(images: Path, tmp_path: Path) -> None:
    Image.new("RGB", (66_000, 400)).save(images / "5.jpg", format="PNG")
    report = cut_crops([at(1, 5, (0, 0, 66_000, 400))], images, tmp_path / "out")
    assert report.unreadable == {5: "the crop is larger than a JPEG can be; got 66000 × 400"}


def test_crops_do_not_depend_on_the_order(images: Path, tmp_path: Path) -> None:
    regions = [at(3, 1), at(1, 3), at(2, 9)]
    reports = [cut_crops(order, images, tmp_path / str(i)) for i, order in enumerate((regions, regions[::-1]))]
    assert reports[0] == reports[1] == CropReport([3, 1], [9])


def test_crops_refuse_a_folder_that_is_none_and_ids_that_repeat(images: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no folder of images here; got .*nowhere"):
        cut_crops([at(1, 1)], tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(CorpusError, match="two regions have the same id"):
        cut_crops([at(1, 1), replace(at(1, 2), subject="dog")], images, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_crops_tell_their_progress(images: Path, tmp_path: Path) -> None:
    told = Recorder.new()
    cut_crops([at(1, 1), at(2, 1), at(3, 9)], images, tmp_path / "out", told)
    assert told.stages == [("crops", 3, "crops")]
    assert told.advanced == {"crops": 3}
