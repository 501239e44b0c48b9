"""A scene: everything that decides how a picture looks, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Int

from data.regions import Triplet
from data.scenes.layout import STEP, Layout, layout
from data.scenes.palette import COLOURS, HAIRS, LEGS, SKINS, distinct, parse
from data.scenes.places import GROUNDS, VARIANTS
from data.scenes.world import RELATIONS, THINGS, common_places, triplets
from simat.errors import SimatError

EDGE = 3.0  # units that nothing comes closer to the frame than
HIGHEST = 16.0  # units that a group stands above the lower frame at most
# Colours of things that are never painted: what sits on a log should not look like one.
OWN = {"log": (parse("#8a5a33"),), "basket": (parse("#cf9a55"),), "hay bale": (parse("#e3b84b"),)}
Facing = Literal["left", "right", ""]


class SceneError(SimatError):
    """A triplet or place that is not of this world, or a size out of range."""


@dataclass(frozen=True)
class Scene:
    """One picture, at any size.

    Attributes:
        triplet: subject, relation, object.
        place: one of ``world.PLACES``.
        variant: of the place.
        facing: of the subject; the whole group is mirrored where it is ``left``.
        colours: of subject and object, by name; empty where a thing has its own.
        tints: numbers of skin, hair and trousers, for subject and for object.
        steps: scale of the group, as a power of ``layout.STEP``.
        x, y: left and bottom of the group, in hundredths of the picture.
    """

    triplet: Triplet
    place: str
    variant: int
    facing: Literal["left", "right"]
    colours: tuple[str, str]
    tints: tuple[tuple[int, int, int], tuple[int, int, int]]
    steps: int
    x: float
    y: float

    @property
    def layout(self) -> Layout:
        """Where subject and object are, before scale and mirroring."""
        return layout(self.triplet)

    @property
    def scale(self) -> float:
        """Hundredths of the picture per unit of the layout."""
        return float(STEP**self.steps)

    def faces(self, name: str) -> Facing:
        """Where a thing of this scene faces; empty where its left and right are alike."""
        return self.facing if THINGS[name].faces else ""


def sample(seed: int, number: int, triplet: Triplet | None = None, place: str | None = None) -> Scene:
    """Scene ``number`` of the world ``seed``.

    Every triplet comes once before any comes twice, in an order that the seed decides.

    Args:
        triplet: draws this one instead.
        place: draws it here instead.

    Raises:
        SceneError: a triplet that makes no sense here, or not in this place.
    """
    generator = np.random.default_rng([seed, number])
    chosen = triplet or _in_turn(seed, number)
    where = place or _pick(generator, _places(chosen))
    if where not in _places(chosen):
        raise SceneError("that is not in this place", got=f"{chosen} {where}", remedy=f"try {_places(chosen)}")
    steps = layout(chosen).steps - int(generator.integers(2))
    left, bottom, right, top = (side * STEP**steps for side in layout(chosen).box)
    return Scene(
        triplet=chosen,
        place=where,
        variant=int(generator.integers(VARIANTS)),
        facing="left" if generator.integers(2) else "right",
        colours=_colours(generator, chosen, where),
        tints=(_tint(generator), _tint(generator)),
        steps=steps,
        x=_between(generator, EDGE, 100 - EDGE - (right - left)),
        y=_between(generator, EDGE + 1, min(HIGHEST, 100 - EDGE - (top - bottom))),
    )


def _in_turn(seed: int, number: int) -> Triplet:
    every = triplets()
    turn, place = divmod(number, len(every))
    return every[_order(seed, turn)[place]]


@lru_cache(maxsize=8)
def _order(seed: int, turn: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng([seed, turn, 1]).permutation(len(triplets()))


def _places(triplet: Triplet) -> tuple[str, ...]:
    subject, relation, thing = triplet
    if subject not in THINGS or thing not in THINGS or relation not in RELATIONS or triplet not in _known():
        raise SceneError("no such triplet in this world", got=triplet, remedy="see data.scenes.world.triplets()")
    return common_places(subject, thing)


@lru_cache(maxsize=1)
def _known() -> frozenset[Triplet]:
    return frozenset(triplets())


def _colours(generator: np.random.Generator, triplet: Triplet, place: str) -> tuple[str, str]:
    subject, _, thing = triplet
    around = GROUNDS[place]
    first = _pick(generator, distinct(tuple(distinct(THINGS[subject].colours, around)), OWN.get(thing, ())))
    choices = THINGS[thing].colours
    return first, _pick(generator, distinct(choices, (*around, COLOURS[first]))) if choices else ""


def _tint(generator: np.random.Generator) -> tuple[int, int, int]:
    skin, hair, legs = generator.integers((len(SKINS), len(HAIRS), len(LEGS))).tolist()
    return skin, hair, legs


def _pick(generator: np.random.Generator, options: tuple[str, ...] | list[str]) -> str:
    return options[int(generator.integers(len(options)))]


def _between(generator: np.random.Generator, low: float, high: float) -> float:
    return float(low + generator.random() * max(0.0, high - low))
