"""Edits of drawn scenes: one thing becomes another, everything else stays, and every pixel's truth is known.

The worlds begin at ``WORLD``: no corpus of a small seed, no training and no judge draws from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import count, islice

import numpy as np

from data.regions import Triplet
from data.scenes.captions import captions
from data.scenes.render import OBJECT, SUBJECT, Rendered, render
from data.scenes.scene import Scene, sample
from data.scenes.world import THINGS, common_places, triplets
from eval.editing.cases import EditCase, LayoutCase
from simat.errors import QueryError

WORLD = 3_000_000
SIZE = 128
LEAST_SHARE = 0.02  # of the picture, that the thing to change shows at least
LEAST_SEGMENT = 0.05  # of the picture, in the protocols ``filtered`` and ``few``
TOLD = 1  # which of a scene's captions: triplet, colours, place and facing

KINDS = ("subject", "object")
PROTOCOLS = ("all", "filtered", "few")
_PART = {"subject": SUBJECT, "object": OBJECT}


def scene_edits(kind: str, number: int, seed: int = 0, size: int = SIZE) -> list[EditCase]:
    """The first ``number`` swaps of subjects or of objects in a held-out world.

    A scene is drawn, then one of the swaps that make sense in it: the other thing stands in the same relation, may be
    in the same place and may have the same colour. Scenes without any, or whose thing is hardly visible, are passed
    over.

    Args:
        kind: what changes.
        seed: of the world and of the choice.
        size: edge of the pictures in pixels.

    Raises:
        QueryError: no such kind.
    """
    if kind not in KINDS:
        raise QueryError("no such kind of edit of scenes", got=repr(kind), remedy=f"there are: {', '.join(KINDS)}")
    return list(islice(_edits(kind, seed, size), number))


def swaps(scene: Scene, kind: str) -> tuple[str, ...]:
    """What the subject or object of a scene may become while relation, place and colour stay; in a fixed order."""
    place = 0 if kind == "subject" else 2
    colour = scene.colours[0 if kind == "subject" else 1]
    partner = scene.triplet[2 - place]
    return tuple(
        other
        for other in _partners(place, scene.triplet[1], partner)
        if other != scene.triplet[place]
        and scene.place in common_places(other, partner)
        and (colour in THINGS[other].colours if colour else not THINGS[other].colours)
    )


def swapped(scene: Scene, kind: str, other: str) -> Scene:
    """The scene that an edit asks for: it differs in one thing. It may be too large to draw at this scale."""
    subject, relation, thing = scene.triplet
    triplet: Triplet = (other, relation, thing) if kind == "subject" else (subject, relation, other)
    return replace(scene, triplet=triplet)


def scene_layouts(protocol: str, number: int, seed: int = 0, size: int = SIZE) -> list[LayoutCase]:
    """The first ``number`` layouts of a held-out world, under one of the protocols of thesis 6.4.1.

    The segments are the visible pixels of subject and object: what a caption names. ``all`` has both, ``filtered``
    those that cover at least a twentieth of the picture, ``few`` one or two of these at random. Scenes without any are
    passed over. The prompt is the scene's caption; it names both things, whether they are segments or not.

    Raises:
        QueryError: no such protocol.
    """
    if protocol not in PROTOCOLS:
        raise QueryError("no such protocol of layouts", got=repr(protocol), remedy=f"there are: {', '.join(PROTOCOLS)}")
    return list(islice(_layouts(protocol, seed, size), number))


def _edits(kind: str, seed: int, size: int) -> Iterator[EditCase]:
    for number in count():
        scene = sample(WORLD + seed, number)
        choices = swaps(scene, kind)
        rendered = render(scene, size)
        mask = rendered.mask(_PART[kind])
        if not choices or mask.mean() < LEAST_SHARE:
            continue
        generator = np.random.default_rng([WORLD + seed, number, 3])
        yield _edit(kind, number, scene, choices[int(generator.integers(len(choices)))], rendered)


def _edit(kind: str, number: int, scene: Scene, other: str, rendered: Rendered) -> EditCase:
    goal = swapped(scene, kind, other)
    subject, relation, thing = goal.triplet
    source = scene.triplet[0 if kind == "subject" else 2]
    return EditCase(
        key=f"{kind}-{number:05}",
        kind=kind,
        source=rendered.image,
        text=captions(goal)[TOLD],
        reference=captions(scene)[TOLD],
        edits=f"{source} -> {other}",
        facts={"subject": subject, "relation": relation, "object": thing, "place": scene.place},
        changed=kind,
        mask=rendered.mask(_PART[kind]),
    )


def _layouts(protocol: str, seed: int, size: int) -> Iterator[LayoutCase]:
    for number in count():
        scene = sample(WORLD + seed, number)
        rendered = render(scene, size)
        masks = {scene.triplet[0]: rendered.mask(SUBJECT), scene.triplet[2]: rendered.mask(OBJECT)}
        least = 0.0 if protocol == "all" else LEAST_SEGMENT
        names = [name for name, mask in masks.items() if mask.any() and mask.mean() >= least]
        if protocol == "few" and names:
            generator = np.random.default_rng([WORLD + seed, number, 4])
            chosen = generator.choice(len(names), int(generator.integers(1, len(names) + 1)), replace=False)
            names = [names[i] for i in sorted(chosen)]
        if names:
            segments = {name: masks[name] for name in names}
            yield LayoutCase(f"{protocol}-{number:05}", protocol, captions(scene)[TOLD], segments, {}, rendered.image)


@lru_cache(maxsize=1024)
def _partners(place: int, relation: str, partner: str) -> tuple[str, ...]:
    """What may stand at ``place`` (0 subject, 2 object) of a triplet whose other two parts are given."""
    return tuple(t[place] for t in triplets() if t[1] == relation and t[2 - place] == partner)
