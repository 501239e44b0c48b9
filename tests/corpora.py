"""What the tests of corpora share: the released files, and regions by the handful."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import SHARED

from data.regions import Box, Region, Triplet

CROP: Box = (0, 0, 100, 80)


def released() -> Path:
    """The official release of SIMAT; tests that read it skip where it is not at hand."""
    folder = SHARED / "simat-release"
    if not folder.is_dir():
        pytest.skip("the released files of SIMAT are not here")
    return folder


def region(number: int, triplet: Triplet, image: int | None = None, crop: Box = CROP) -> Region:
    """A region whose subject fills the left half of its crop and whose object the right half."""
    x0, y0, x1, y1 = crop
    middle = (x0 + x1) // 2
    boxes = (x0, y0, middle, y1), (middle, y0, x1, y1), crop
    return Region(number, number if image is None else image, *triplet, 2 * number, 2 * number + 1, *boxes)


def regions(*triplets: Triplet, copies: int = 2) -> list[Region]:
    """``copies`` regions of each triplet, each in an image of its own."""
    return [region(i, t) for i, t in enumerate([t for t in triplets for _ in range(copies)], 1)]


def small_release(folder: Path) -> Path:
    """A copy of the release's layout with two triplets, five regions and one more that no triplet has."""
    dog, cat = ("dog", "sitting on a", "bed"), ("cat", "sitting on a", "bed")
    header = "region_id\timage_id\tsubj_attr\tsubj\trel\tobj_attr\tobj\tsubj_id\tobj_id\tsubj_bbox\tobj_bbox\tbbox"
    annotated = [(1, 1, dog), (2, 1, dog), (3, 2, dog), (10, 3, cat), (11, 4, cat), (99, 4, ("cow", "biting", "bus"))]
    rows = [
        f"{number}\t{image}\tbrown,small\t{s}\t{r}\t\t{o}\t5\t6\t0,0,20,30\t20,0,40,30\t0,0,40,30"
        for number, image, (s, r, o) in annotated
    ]
    files = {
        "retrieval_db.tsv": [header, *rows],
        "triplets.csv": [
            "region_id,subj,rel,obj,dataset_id",
            *(f"{n},{','.join(cat)},{row}" for row, n in enumerate((10, 11))),
            *(f"{n},{','.join(dog)},{row}" for row, n in enumerate((1, 2, 3), 2)),
        ],
        "transfos.csv": [
            ",transfo_id,region_id,field,value,target,norm,query_ids,target_ids,dataset_id,norm2,is_test",
            "3,3,1,subj,dog,cat,1,1,0,2,2,True",
            "5,5,2,subj,dog,cat,1,1,0,3,2,False",
            "6,6,10,subj,cat,dog,1,0,1,0,1,False",
        ],
        "captions.txt": ["A cat sitting on a bed.", "A dog sitting on a bed."],
    }
    (folder / "simat_db").mkdir(parents=True)
    for name, lines in files.items():
        (folder / "simat_db" / name).write_text("\n".join(lines) + "\n")
    return folder
