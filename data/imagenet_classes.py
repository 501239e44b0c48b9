"""The 273 ImageNet classes of the editing benchmark, in 47 clusters and 13 groups (thesis A.2, Table A.1).

A class may become another class of its cluster. The table is part of the package; ``minivan`` is in two clusters, car
and truck, and may become what either holds.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class Cluster:
    """Classes that can sensibly be changed into one another.

    Attributes:
        classes: names, at least two.
    """

    group: str
    name: str
    classes: tuple[str, ...]


@dataclass(frozen=True)
class ImagenetClass:
    """A class of ImageNet.

    Attributes:
        wnid: WordNet id, which names its folder, e.g. ``n02123045``.
        index: its number among the 1,000 classes.
    """

    name: str
    wnid: str
    index: int


@cache
def imagenet_clusters() -> tuple[Cluster, ...]:
    """The 47 clusters, in the order of Table A.1."""
    clusters: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in _rows():
        clusters[row["group"], row["cluster"]].append(row["class"])
    return tuple(Cluster(group, name, tuple(classes)) for (group, name), classes in clusters.items())


@cache
def imagenet_classes() -> tuple[ImagenetClass, ...]:
    """The 273 classes, by their number."""
    classes = {ImagenetClass(row["class"], row["wnid"], int(row["imagenet_index"])) for row in _rows()}
    return tuple(sorted(classes, key=lambda each: each.index))


@cache
def sources_of() -> Mapping[str, tuple[str, ...]]:
    """For each class, the other classes of its cluster or clusters: what may be changed into it."""
    sources: dict[str, set[str]] = defaultdict(set)
    for cluster in imagenet_clusters():
        for name in cluster.classes:
            sources[name].update(set(cluster.classes) - {name})
    return {name: tuple(sorted(others)) for name, others in sources.items()}


def _rows() -> list[dict[str, str]]:
    table = files("data") / "tables" / "imagenet_clusters.csv"
    return [*csv.DictReader(table.read_text("utf-8").splitlines())]
