"""Arithmetic of boxes ``(x0, y0, x1, y1)``, and the merging of regions that show nearly the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from data.regions import Box, Region, Triplet


def area(box: Box) -> int:
    """Pixels of a box; 0 for an empty one."""
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def union(a: Box, b: Box) -> Box:
    """The smallest box that contains both."""
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def intersection(a: Box, b: Box) -> Box:
    """What both have in common; a box without area where that is nothing."""
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def iou(a: Box, b: Box) -> float:
    """Intersection over union, in [0, 1]; 0 for two empty boxes."""
    common = area(intersection(a, b))
    total = area(a) + area(b) - common
    return common / total if total else 0.0


def merge_near_duplicates(regions: Iterable[Region], threshold: float = 0.8) -> list[Region]:
    """One region for those of one image with the same triplet whose crops overlap by more than ``threshold`` IoU.

    The region with the lowest id stays, with its subject and object, and its crop grows to the union: so the released
    regions look, whose crop is often larger than subject and object together. A grown crop may overlap others: merging
    goes on until none does, hence merging again changes nothing. Sorted by image and id, whatever the order before.
    """
    groups: defaultdict[tuple[int, Triplet], list[Region]] = defaultdict(list)
    for region in sorted(regions, key=lambda region: (region.image_id, region.region_id)):
        groups[region.image_id, region.triplet].append(region)
    merged = [region for group in groups.values() for region in _merge(group, threshold)]
    return sorted(merged, key=lambda region: (region.image_id, region.region_id))


def _merge(group: list[Region], threshold: float) -> list[Region]:
    while True:
        kept: list[Region] = []
        for region in group:
            place = next((i for i, other in enumerate(kept) if iou(other.crop, region.crop) > threshold), None)
            if place is None:
                kept.append(region)
            else:
                kept[place] = replace(kept[place], crop=union(kept[place].crop, region.crop))
        if len(kept) == len(group):
            return kept
        group = kept
