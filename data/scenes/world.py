"""What there is in the world, and which relation makes sense between what, and where."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial

from data.regions import Triplet
from data.scenes import animals, birds, furniture, people, things, vehicles
from data.scenes.drawing import Drawing, Pen

PEOPLE = ("man", "woman", "boy", "girl")
BIG = ("horse", "elephant", "cow")
SUBJECTS = (*PEOPLE, "dog", "cat", "bear", "sheep", *BIG, "bird")
OUTDOORS = ("beach", "park", "street", "snow", "forest", "desert", "field")
PLACES = (*OUTDOORS, "room")
PHRASES = {
    "beach": "on the beach", "park": "in the park", "street": "on the street", "snow": "in the snow",
    "forest": "in the forest", "desert": "in the desert", "field": "in the field", "room": "in the room",
}  # fmt: skip
BRIGHT = ("red", "blue", "yellow", "green", "orange", "purple", "pink", "white", "turquoise")


@dataclass(frozen=True)
class Thing:
    """A kind of thing.

    Attributes:
        draw: from a pose to its drawing; things without joints ignore the pose.
        colours: what it may be painted in; empty where its colours are fixed.
        places: where it may be.
        scale: of its drawing, so that nothing is tiny.
        faces: whether left and right differ.
    """

    draw: Callable[[str], Drawing]
    colours: tuple[str, ...] = BRIGHT
    places: tuple[str, ...] = PLACES
    scale: float = 1.0
    faces: bool = False


def _still(draw: Callable[[Pen], None]) -> Callable[[str], Drawing]:
    def drawing(pose: str) -> Drawing:
        pen = Pen()
        draw(pen)
        return pen.done()

    return drawing


def _surfboard(pose: str) -> Drawing:
    pen = Pen()
    (vehicles.wave if pose == "ridden" else vehicles.surfboard)(pen)
    return pen.done()


_F, _V, _T = furniture, vehicles, things
THINGS: dict[str, Thing] = {
    **{name: Thing(partial(people.person, name), faces=True) for name in PEOPLE},
    "dog": Thing(partial(animals.animal, "dog"), ("brown", "golden", "grey", "white", "black"), scale=1.2, faces=True),
    "cat": Thing(partial(animals.animal, "cat"), ("orange", "grey", "black", "white"), scale=1.15, faces=True),
    "bear": Thing(partial(animals.animal, "bear"), ("brown", "black", "white"), faces=True),
    "sheep": Thing(partial(animals.animal, "sheep"), ("white", "brown", "grey"), scale=1.1, faces=True),
    "horse": Thing(partial(animals.animal, "horse"), ("brown", "white", "black", "golden"), OUTDOORS, faces=True),
    "elephant": Thing(partial(animals.animal, "elephant"), ("grey", "blue", "pink"), OUTDOORS, faces=True),
    "cow": Thing(partial(animals.animal, "cow"), ("white", "brown", "black"), OUTDOORS, faces=True),
    "bird": Thing(birds.bird, ("blue", "red", "yellow", "green", "purple"), scale=1.2, faces=True),
    "bench": Thing(_still(_F.bench), places=("beach", "park", "street", "snow", "field")),
    "chair": Thing(_still(_F.chair), places=("room", "beach", "park"), faces=True),
    "stool": Thing(_still(_F.stool), places=("room", "park", "street")),
    "sofa": Thing(_still(_F.sofa), places=("room",)),
    "bed": Thing(_still(_F.bed), places=("room",), faces=True),
    "table": Thing(_still(_F.table), places=("room", "park")),
    "rug": Thing(_still(_F.rug), places=("room", "beach", "park")),
    "rock": Thing(_still(_F.rock), ("grey", "brown"), OUTDOORS),
    "log": Thing(_still(_F.log), (), OUTDOORS, faces=True),
    "box": Thing(_still(_F.box)),
    "hay bale": Thing(_still(_F.hay_bale), (), ("field", "park", "forest", "snow")),
    "fence": Thing(_still(_F.fence), ("white", "brown", "green", "blue"), OUTDOORS),
    "bicycle": Thing(_still(_V.bicycle), places=OUTDOORS, faces=True),
    "skateboard": Thing(_still(_V.skateboard), places=("street", "park", "room", "beach")),
    "scooter": Thing(_still(_V.scooter), places=("street", "park", "room"), faces=True),
    "car": Thing(_still(_V.car), places=OUTDOORS, faces=True),
    "boat": Thing(_still(_V.boat), places=("beach", "park", "forest", "field"), faces=True),
    "surfboard": Thing(_surfboard, places=("beach",), faces=True),
    "sled": Thing(_still(_V.sled), places=("snow",), faces=True),
    "umbrella": Thing(_still(_T.umbrella), places=OUTDOORS),
    "parasol": Thing(_still(_T.parasol), places=("beach", "park", "desert", "field")),
    "balloon": Thing(_still(_T.balloon)),
    "kite": Thing(_still(_T.kite), places=OUTDOORS, faces=True),
    "flag": Thing(_still(_T.flag), faces=True),
    "flower": Thing(_still(_T.flower), ("red", "blue", "orange", "purple", "pink", "white"), scale=1.15),
    "ball": Thing(_still(_T.ball), ("red", "blue", "green", "orange", "purple", "pink"), scale=1.15),
    "basket": Thing(_still(_T.basket), ()),
    "tree": Thing(_still(_T.tree), ("green", "orange", "pink", "yellow"), OUTDOORS),
    "palm": Thing(_still(_T.palm), ("green",), ("beach", "desert", "park", "street"), faces=True),
    "lamp": Thing(_still(_T.lamp), (), ("street", "park", "snow"), faces=True),
    "bush": Thing(_still(_T.bush), ("green", "turquoise"), OUTDOORS),
    "puddle": Thing(_still(_T.puddle), (), ("park", "street", "forest", "field")),
    "snowman": Thing(_still(_T.snowman), ("red", "blue", "green", "orange", "purple"), ("snow",), faces=True),
    "butterfly": Thing(_still(_T.butterfly), places=("beach", "park", "forest", "desert", "field", "street", "room")),
}

_SEATS = ("bench", "chair", "stool", "sofa", "bed", "table", "rock", "log", "box", "hay bale", "rug")
_PERCHES = (*_SEATS, "fence", "car", "horse", "elephant", "cow", "sheep", "bear", "sled")
_BESIDE = (
    "bench", "chair", "sofa", "table", "rock", "box", "hay bale", "bicycle", "car", "boat", "tree", "palm", "lamp",
    "bush", "snowman", "flower", "ball", "basket", "parasol", "scooter",
)  # fmt: skip
_LOADS = ("box", "basket", "log", "hay bale", "surfboard", "chair", "stool")
_ROLLING = ("skateboard", "car", "boat", "surfboard", "sled")
# relation -> (subjects, objects) rows; a thing has no relation to its own kind.
RELATIONS: dict[str, tuple[tuple[Iterable[str], Iterable[str]], ...]] = {
    "riding": (
        (PEOPLE, ("bicycle", "scooter", *_ROLLING, "horse", "elephant", "cow", "bear")),
        (("dog", "cat"), (*_ROLLING, "horse", "elephant", "cow")),
        (("bear", "sheep", "bird"), _ROLLING),
    ),
    "sitting on": (
        ((*PEOPLE, "dog", "cat"), _SEATS),
        (("bear",), ("bench", "sofa", "rock", "log", "hay bale", "box", "rug")),
        (("bird",), _PERCHES),
    ),
    "lying on": (
        (PEOPLE, ("bench", "sofa", "bed", "rug", "table")),
        (("dog", "cat"), ("bench", "sofa", "bed", "rug", "table", "log", "rock", "hay bale")),
        (("bear", "sheep"), ("sofa", "bed", "rug", "bench")),
        (("cow", "horse"), ("rug",)),
    ),
    "standing under": ((SUBJECTS, ("tree", "palm", "parasol", "lamp")),),
    "holding": (
        (PEOPLE, ("umbrella", "balloon", "kite", "flag", "flower", "basket")),
        (("elephant",), ("umbrella", "balloon", "flag", "flower", "kite", "basket")),
        (("dog", "cat", "bear", "horse", "cow"), ("balloon", "flower", "basket", "flag")),
        (("bird",), ("balloon", "flower", "flag")),
    ),
    "carrying": (
        (PEOPLE, (*_LOADS, "ball", "skateboard", "dog", "cat", "sheep", "bird")),
        (BIG, (*_LOADS, "skateboard")),
        (("bear",), ("box", "log", "basket", "hay bale")),
    ),
    "next to": ((SUBJECTS, (*_BESIDE, *SUBJECTS)),),
    "chasing": ((SUBJECTS, (*SUBJECTS, "ball", "butterfly", "balloon", "kite")),),
    "jumping over": (
        ((*PEOPLE, "dog", "cat", "bear", "sheep", "horse", "cow"),
         ("log", "rock", "bench", "fence", "puddle", "box", "bush", "hay bale", "ball", "flower", "basket", "stool")),
    ),
}  # fmt: skip
OBJECTS = tuple(name for name in THINGS if name not in SUBJECTS)


@cache
def triplets() -> tuple[Triplet, ...]:
    """Every (subject, relation, object) that makes sense in at least one place, in a fixed order."""
    found = dict.fromkeys(
        (subject, relation, thing)
        for relation, rows in RELATIONS.items()
        for subjects, objects in rows
        for subject in subjects
        for thing in objects
        if subject != thing and common_places(subject, thing)
    )
    return tuple(found)


def common_places(subject: str, thing: str) -> tuple[str, ...]:
    """The places where both may be."""
    return tuple(p for p in THINGS[subject].places if p in THINGS[thing].places)


@cache
def drawing(name: str, pose: str) -> Drawing:
    """The drawing of a thing; see ``Thing.draw``."""
    return THINGS[name].draw(pose)
