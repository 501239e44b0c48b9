"""What is measured of pictures that were drawn by a layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64
from PIL import Image

from eval.editing.answers import Made
from eval.editing.cases import LayoutCase
from eval.judge import Segmenter
from eval.metrics.masks import mask_iou, resized
from eval.metrics.segmentation import Confusion, confusion

UNLABELLED = -1


@dataclass(frozen=True)
class Layouts:
    """Where things lie in what was made, compared with where they shall.

    Attributes:
        matrices: a confusion matrix per picture, over the classes that occur in any layout.
        segment_ious: for each picture, the mean over its segments of the IoU between the segment and all pixels that
            are seen as its class; unlike mIoU it counts what spills onto pixels without a label.
    """

    matrices: tuple[Confusion, ...]
    segment_ious: np.ndarray


def compare(segmenter: Segmenter, cases: Sequence[LayoutCase], made: Sequence[Made]) -> Layouts:
    """Ask a segmenter what lies where.

    Args:
        cases: n layouts; overlapping segments count as the later one.
        made: n answers, none of them refused.

    Raises:
        EncoderError: the segmenter does not know the class of a segment.
    """
    numbers = sorted({segmenter.number(case.class_of(name)) for case in cases for name in case.segments})
    places = {number: place for place, number in enumerate(numbers)}
    pictures = [_sized(case, one) for case, one in zip(cases, made, strict=True)]
    seen = [_renumbered(one, places) for one in segmenter.maps(pictures)]
    truth = [_truth(case, segmenter, places) for case in cases]
    matrices = tuple(confusion(t, s, len(places), UNLABELLED) for t, s in zip(truth, seen, strict=True))
    ious = [_segment_iou(case, segmenter, places, s) for case, s in zip(cases, seen, strict=True)]
    return Layouts(matrices, np.array(ious, np.float64))


def _truth(case: LayoutCase, segmenter: Segmenter, places: dict[int, int]) -> Int64[np.ndarray, "h w"]:
    truth = np.full(_shape(case), UNLABELLED, np.int64)
    for name, mask in case.segments.items():
        truth[mask] = places[segmenter.number(case.class_of(name))]
    return truth


def _renumbered(seen: Int64[np.ndarray, "h w"], places: dict[int, int]) -> Int64[np.ndarray, "h w"]:
    table = np.full(max([*places, int(seen.max(initial=0))]) + 1, len(places), np.int64)
    table[list(places)] = list(places.values())
    return np.asarray(table[seen])


def _segment_iou(
    case: LayoutCase, segmenter: Segmenter, places: dict[int, int], seen: Int64[np.ndarray, "h w"]
) -> float:
    found = [
        mask_iou(seen == places[segmenter.number(case.class_of(name))], resized(mask, seen.shape))
        for name, mask in case.segments.items()
    ]
    return float(np.mean(found))


def _sized(case: LayoutCase, made: Made) -> Image.Image:
    assert made.picture is not None, "a refused answer has no picture"
    height, width = _shape(case)
    return made.picture.resize((width, height), Image.Resampling.BICUBIC)


def _shape(case: LayoutCase) -> tuple[int, int]:
    height, width = next(iter(case.segments.values())).shape
    return height, width
