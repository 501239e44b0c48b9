"""Composers on labelled photographs: a photograph of one class is asked for another class of its group.

A query is (photograph of class a, "a -> b") for every two classes of one group of :mod:`data.imagenet_classes` that
have a photograph; it succeeds where a photograph of b is found among all of them. Only the label is judged, and nothing
of the photograph must stay: words alone come near to what can be reached.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32, Int64

from data.imagenet_classes import imagenet_classes, imagenet_clusters
from data.labels import LabelledPhoto
from eval.composed import Gallery, Rank, prepare
from eval.intervals import difference, estimate
from eval.methods import OTHER, UNSCALED
from eval.scales import NATURAL, check_scales
from eval.simat_score import Judge, Task, score
from eval.spaces import Space
from eval.tables import Cell, Scale, Table
from simat.composers import COMPOSERS
from simat.composers.captioned import DESCRIBING
from simat.composers.words import fill
from simat.errors import QueryError
from simat.images import decode_sized, read_bytes
from simat.progress import Progress, Silent

BATCH = 32  # photographs per call of the encoder
CHOICES = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
CAPTION = "a photo of a {thing}"


@dataclass(frozen=True, eq=False)
class Album:
    """Photographs in a space.

    Attributes:
        photos: with their labels.
        images: unit rows, one per photograph.
        own: a gallery that describes a photograph by the labels of all of them.
        other: one that describes it by the classes that none of them shows.
    """

    photos: Sequence[LabelledPhoto]
    images: Float32[np.ndarray, "n d"]
    own: Gallery
    other: Gallery


def open_album(space: Space, photos: Sequence[LabelledPhoto], progress: Progress | None = None) -> Album:
    """Encode photographs.

    Raises:
        ImageError: a photograph that cannot be read.
    """
    images = _encoded(space, photos, progress or Silent())
    shown = {photo.imagenet_index for photo in photos}
    names = [one.name for one in imagenet_classes() if one.index not in shown]
    banks = ([fill(CAPTION, name) for name in group] for group in ([photo.label for photo in photos], names))
    return Album(photos, images, *(Gallery(images, space.texts, bank) for bank in banks))


def album_judge(photos: Sequence[LabelledPhoto]) -> Judge:
    """1 where a photograph has the class asked for, else 0."""
    shown = np.array([photo.imagenet_index for photo in photos], np.int64)

    def judge(rows: Int64[np.ndarray, " n"], goals: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        right: Float[np.ndarray, " n"] = (shown[rows] == goals).astype(np.float64)
        return right

    return judge


def label_tasks(photos: Sequence[LabelledPhoto]) -> tuple[Task, Task]:
    """The queries on every second photograph of each group, to choose λ on, and those on the others.

    Raises:
        QueryError: no group has four photographs of different classes.
    """
    halves: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
    for rows in _groups(photos):
        for place, source in enumerate(rows):
            labels = {photos[row].imagenet_index: row for row in rows}
            labels.pop(photos[source].imagenet_index)
            halves[place % 2].extend((source, row) for row in labels.values())
    if not all(halves):
        remedy = "give photographs of several classes of one group, see data/imagenet_classes.py"
        raise QueryError("no photograph can become another", got=f"{len(photos)} photographs", remedy=remedy)
    return _task(photos, halves[0]), _task(photos, halves[1])


def photo_table(album: Album, space: str, seed: int = 0, progress: Progress | None = None) -> Table:
    """One row per composer and bank of captions: λ = 1, and λ chosen on the other half, with intervals."""
    progress = progress or Silent()
    dev, test = label_tasks(album.photos)
    judge, rows = album_judge(album.photos), list[tuple[Cell, ...]]()
    methods = [*_methods()]
    plain = score(prepare("delta", album.own, test)(NATURAL, 1), test, judge).success
    progress.start("composers", len(methods), "composers")
    for name, captions in methods:
        gallery = album.other if name.endswith(OTHER) else album.own
        composer = name.removesuffix(OTHER)
        chosen = _chosen(prepare(composer, gallery, dev), composer, dev, judge)
        rank = prepare(composer, gallery, test)
        at = [score(rank(scale, k), test, judge).success for scale, k in ((NATURAL, 1), (chosen, 1), (chosen, 5))]
        one, best, five = (estimate(success, test, np.random.default_rng(seed)) for success in at)
        gain = difference(at[1], plain, test, np.random.default_rng(seed))
        scaled = composer not in UNSCALED
        rows.append((composer, captions, one if scaled else None, Scale(chosen) if scaled else None, best, five, gain))
        progress.advance(1)
    columns = ("Method", "Captions", "λ = 1, n = 1", "λ*", "λ*, n = 1", "λ*, n = 5", "Margin")
    note = (
        f"{len(test):,} queries on {len(np.unique(test.sources))} of {len(album.photos)} photographs: a class becomes "
        f"another of its group, and the photograph found must be of it. λ* is chosen on {len(dev):,} queries on the "
        "other half; margin: over delta vectors at λ = 1, in points; 95 % intervals by bootstrap over photographs. "
        "Captions: what photographs are described by, the labels of all of them or the classes of the groups that none "
        "of them shows."
    )
    return Table("photos", f"Composers on photographs in {space}", columns, tuple(rows), note)


def _methods() -> Iterator[tuple[str, str | None]]:
    for name in COMPOSERS:
        yield name, "own" if name in DESCRIBING else None
        if name in DESCRIBING:
            yield name + OTHER, "other"


def _chosen(rank: Rank, composer: str, dev: Task, judge: Judge) -> float:
    if composer in UNSCALED:
        return NATURAL
    totals = {scale: score(rank(scale, 1), dev, judge).total for scale in check_scales(CHOICES)}
    return min(totals, key=lambda scale: (-totals[scale], abs(scale - NATURAL)))


def _groups(photos: Sequence[LabelledPhoto]) -> list[list[int]]:
    """Rows of the photographs of each group, in the order of their classes; a class of two groups is in the first."""
    index = {one.name: one.index for one in imagenet_classes()}
    group: dict[int, str] = {}
    for cluster in imagenet_clusters():
        for name in cluster.classes:
            group.setdefault(index[name], cluster.group)
    found: dict[str, list[int]] = defaultdict(list)
    for row in sorted(range(len(photos)), key=lambda row: photos[row].imagenet_index):
        if photos[row].imagenet_index in group:
            found[group[photos[row].imagenet_index]].append(row)
    return [*found.values()]


def _task(photos: Sequence[LabelledPhoto], pairs: Sequence[tuple[int, int]]) -> Task:
    sources, goals = np.array(pairs, np.int64).T
    return Task(
        sources=sources,
        goals=np.array([photos[row].imagenet_index for row in goals], np.int64),
        weights=np.full(len(pairs), 1 / len(pairs)),
        fields=np.zeros(len(pairs), np.int64),
        edits=[(photos[source].label, photos[goal].label) for source, goal in pairs],
    )


def _encoded(space: Space, photos: Sequence[LabelledPhoto], progress: Progress) -> Float32[np.ndarray, "n d"]:
    progress.start("images", len(photos), "images")
    blocks = []
    for first in range(0, len(photos), BATCH):
        part = [decode_sized(read_bytes(photo.path))[0] for photo in photos[first : first + BATCH]]
        blocks.append(space.towers.image.encode_images(part))
        progress.advance(len(part))
    rows: Float32[np.ndarray, "n d"] = np.concatenate(blocks)
    return rows if space.heads is None else space.heads.project_images(rows)
