"""Where subject and object stand to each other: one short function per relation.

Everything is laid out facing right, in the units of :mod:`data.scenes.drawing`, and mirrored as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

from data.regions import Triplet
from data.scenes.drawing import Drawing, Point
from data.scenes.world import BIG, PEOPLE, THINGS, drawing

GAP = 3.0
STEP = 1.05  # scales are powers of it, so that sprites are met again
LARGEST = 1.5
OVERLAP = 0.25  # of the narrower of a wide pair, which the nearer one may hide
WIDE = 44.0  # narrower things are never hidden by their neighbours
DEPTH = 1.0  # how much further back, per unit hidden
ABOVE = 1.5  # the line of a back, so that it does not hide the feet of a load
SMALLEST = 0.72  # what a thing is scaled by at most, to suit a small subject
AREA = (93.0, 89.0)
_SITTERS = {*PEOPLE, "dog", "cat", "bear"}
_TRUNKS = {"tree", "palm", "parasol"}
_FLYERS = {"bird": 14.0, "butterfly": 4.0, "kite": 4.0, "balloon": 6.0}


@dataclass(frozen=True)
class Part:
    """A drawing in its place.

    Attributes:
        x, y: where its origin lies, in units of the layout.
        scale: layout units per unit of the drawing.
    """

    name: str
    pose: str
    x: float = 0.0
    y: float = 0.0
    scale: float = 1.0

    @property
    def drawing(self) -> Drawing:
        """Its drawing."""
        return drawing(self.name, self.pose)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top in units of the layout."""
        left, bottom, right, top = (side * self.scale for side in self.drawing.box)
        return left + self.x, bottom + self.y, right + self.x, top + self.y

    @property
    def width(self) -> float:
        """Of its box."""
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        """Of its box."""
        return self.box[3] - self.box[1]

    def anchor(self, *names: str) -> Point:
        """The first of the anchors that it has, in units of the layout; else the middle of its ground."""
        left, bottom, right, _ = self.drawing.box
        x, y = next((p for name in names if (p := self.drawing.anchors.get(name))), ((left + right) / 2, bottom))
        return x * self.scale + self.x, y * self.scale + self.y

    def onto(self, own: Point, target: Point) -> Part:
        """Moved, so that the point ``own`` comes to lie on ``target``."""
        return replace(self, x=self.x + target[0] - own[0], y=self.y + target[1] - own[1])


@dataclass(frozen=True)
class Layout:
    """Subject and object in their places.

    Attributes:
        subject_in_front: whether the subject hides the object where they meet.
    """

    subject: Part
    object: Part
    subject_in_front: bool = True

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """Left, bottom, right, top of both."""
        a, b = self.subject.box, self.object.box
        return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])

    @cached_property
    def steps(self) -> int:
        """The largest power of ``STEP`` at which both fit into the picture."""
        left, bottom, right, top = self.box
        return math.floor(math.log(min(AREA[0] / (right - left), AREA[1] / (top - bottom), LARGEST), STEP))


@cache
def layout(triplet: Triplet) -> Layout:
    """How a triplet is drawn."""
    subject, relation, thing = triplet
    return _RELATIONS[relation](_part(subject, "stand"), _part(thing, "stand"))


def _part(name: str, pose: str) -> Part:
    return Part(name, pose, scale=THINGS[name].scale)


def _posed(part: Part, pose: str) -> Part:
    return replace(part, pose=pose)


def _next_to(subject: Part, thing: Part) -> Layout:
    if "shade" in thing.drawing.anchors:  # tall things would leave little room for small subjects
        thing = replace(thing, scale=thing.scale * STEP**-6)
    return _in_depth(subject, thing, object_behind=thing.height > 0.8 * subject.height)


def _chasing(subject: Part, thing: Part) -> Layout:
    subject, thing = _posed(subject, "run"), _posed(thing, "run")
    subject, thing = (replace(part, y=_FLYERS.get(part.name, 0.0)) for part in (subject, thing))
    return _in_depth(subject, thing, object_behind=True)


def _in_depth(subject: Part, thing: Part, object_behind: bool) -> Layout:
    """The thing to the right of the subject; where both are wide, one a little further back and partly hidden."""
    narrower = min(subject.width, thing.width)
    overlap = min(max(0.0, subject.width + GAP + thing.width - AREA[0]), OVERLAP * narrower + GAP)
    if narrower < WIDE or {subject.name, thing.name} & set(PEOPLE):
        overlap = 0.0
    thing = replace(thing, x=subject.box[2] + GAP - overlap - thing.box[0])
    if object_behind:
        thing = replace(thing, y=thing.y + DEPTH * overlap)
    else:
        subject = replace(subject, y=subject.y + DEPTH * overlap)
    return Layout(subject, thing, subject_in_front=object_behind)


def _fitted(thing: Part, subject: Part, reach: float) -> Part:
    """A thing made smaller, so that its longer side is at most ``reach`` times the subject's."""
    factor = reach * max(subject.width, subject.height) / max(thing.width, thing.height)
    steps = math.floor(math.log(min(max(factor, SMALLEST), 1.0), STEP))
    return replace(thing, scale=thing.scale * STEP**steps)


def _jumping_over(subject: Part, thing: Part) -> Layout:
    subject = _posed(subject, "jump")
    thing = _fitted(thing, subject, 0.9)
    left, bottom, right, _ = subject.box
    middle = (thing.box[0] + thing.box[2]) / 2
    return Layout(subject.onto(((left + right) / 2, bottom), (middle, thing.box[3] + GAP)), thing)


def _standing_under(subject: Part, thing: Part) -> Layout:
    left, bottom, right, top = subject.box
    factor = max(0.6, (top - bottom + 2.0) / thing.anchor("shade")[1])
    thing = replace(thing, scale=STEP ** math.ceil(math.log(factor, STEP)))
    x = thing.anchor("shade")[0]
    if subject.name in PEOPLE and thing.name in _TRUNKS:  # as slim as a trunk
        x -= thing.width * 0.22
    return Layout(subject.onto(((left + right) / 2, bottom), (x, -1.5)), thing)


def _sitting_on(subject: Part, thing: Part) -> Layout:
    seat = thing.anchor("seat") if thing.name not in THINGS_WITH_BACKS else thing.anchor("back")
    pose = "sit" if subject.name in _SITTERS else "stand"
    if subject.name in PEOPLE and seat[1] < 8:
        pose = "floor"
    subject = _posed(subject, pose)
    if thing.name not in THINGS_WITH_BACKS:
        thing = _fitted(thing, subject, 1.5)
        seat = thing.anchor("seat")
    return Layout(subject.onto(subject.anchor("seat"), seat), thing)


def _lying_on(subject: Part, thing: Part) -> Layout:
    subject = _posed(subject, "lie")
    thing = _fitted(thing, subject, 1.5)
    left, bottom, right, _ = subject.box
    if subject.name in PEOPLE:  # hair may hang below the back
        bottom = subject.anchor("seat")[1]
    return Layout(subject.onto(((left + right) / 2, bottom), thing.anchor("bed")), thing)


def _riding(subject: Part, thing: Part) -> Layout:
    human = subject.name in PEOPLE
    if thing.name in THINGS_WITH_BACKS:
        subject = _posed(subject, "ride" if human else "sit")
        return Layout(subject.onto(subject.anchor("seat"), thing.anchor("back")), thing)
    if thing.name in {"car", "boat"}:
        subject = _posed(subject, "floor" if human else "sit" if subject.name in _SITTERS else "stand")
        thing = _fitted(thing, subject, 1.5)
        return Layout(subject.onto(subject.anchor("seat"), thing.anchor("inside")), thing, subject_in_front=False)
    if thing.name == "bicycle" or (thing.name == "sled" and human):
        subject = _posed(subject, "cycle" if thing.name == "bicycle" else "floor")
        return Layout(subject.onto(subject.anchor("seat"), thing.anchor("seat")), thing)
    thing = _fitted(_posed(thing, "ridden"), subject, 1.5)
    if human:
        subject = _posed(subject, "hold" if thing.name == "scooter" else "surf")
        return Layout(subject.onto(subject.anchor("feet"), thing.anchor("seat")), thing)
    return Layout(subject.onto(subject.anchor("seat"), thing.anchor("seat")), thing)


def _holding(subject: Part, thing: Part) -> Layout:
    subject = _posed(subject, "hold")
    thing = _fitted(thing, subject, 1.0)
    return Layout(subject, thing.onto(thing.anchor("grip"), subject.anchor("hand")))


def _carrying(subject: Part, thing: Part) -> Layout:
    if subject.name in PEOPLE:
        subject = _posed(subject, "carry")
        thing = _fitted(thing, subject, 0.8)
        return Layout(subject, thing.onto(thing.anchor("rest"), subject.anchor("top")))
    x, y = subject.anchor("back")
    return Layout(subject, thing.onto(thing.anchor("rest"), (x, y + ABOVE)))


THINGS_WITH_BACKS = {*BIG, "bear", "sheep"}
_RELATIONS: dict[str, Callable[[Part, Part], Layout]] = {
    "riding": _riding, "sitting on": _sitting_on, "lying on": _lying_on, "standing under": _standing_under,
    "holding": _holding, "carrying": _carrying, "next to": _next_to, "chasing": _chasing, "jumping over": _jumping_over,
}  # fmt: skip
