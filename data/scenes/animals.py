"""Dog, cat, horse, elephant, bear, cow and sheep: one four-legged rig, seven bodies, five poses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data.scenes.drawing import INK, Drawing, Pen, Point, Units

Legs = tuple[tuple[Point, Point], ...]


@dataclass(frozen=True)
class Body:
    """Measures of an animal in units.

    Attributes:
        length, height: of the trunk, without head and tail.
        legs, leg: length and thickness of a leg.
        head: where the head sits, from the front top of the trunk.
        hoof: colour of the feet; empty for none.
    """

    length: Units
    height: Units
    legs: Units
    leg: Units
    head: Point
    hoof: str = ""


BODIES = {
    "dog": Body(25, 11, 10, 4.4, (5, 6)),
    "cat": Body(21, 10, 8, 3.8, (2.5, 3.6)),
    "horse": Body(32, 14, 19, 4.8, (11, 16), "#3b2b22"),
    "elephant": Body(38, 25, 15, 9.5, (6, 1), "#d9d4cc"),
    "bear": Body(33, 19, 11, 8.2, (5, 3)),
    "cow": Body(34, 17, 13, 5.4, (6, 5), "#3b2b22"),
    "sheep": Body(27, 17, 10, 3.8, (3, 3)),
}
# Knee and foot of far hind, far front, near hind, near front, from the hip in leg lengths.
_GAITS: dict[str, Legs] = {
    "stand": (((0.05, -0.5), (0.12, -1)), ((0.0, -0.5), (0.12, -1)), ((-0.05, -0.5), (0, -1)), ((0.0, -0.5),
        (-0.05, -1))),
    "run": (((0.3, -0.45), (0.5, -0.9)), ((0.55, -0.35), (0.95, -0.7)), ((-0.3, -0.5), (-0.9, -0.85)), ((0.35,
        -0.5), (0.05, -1))),
    "jump": (((-0.45, -0.3), (-1.0, -0.5)), ((0.55, -0.25), (0.95, -0.6)), ((-0.35, -0.4), (-0.9, -0.75)),
        ((0.5, -0.3), (0.75, -0.75))),
    "sit": (((0.3, -0.4), (0.6, -0.5)), ((0.1, -0.5), (0.1, -1)), ((0.3, -0.4), (0.6, -0.5)), ((0.1, -0.5),
        (0.15, -1))),
    "lie": (((0.2, -0.1), (0.8, -0.15)), ((0.3, -0.1), (1.0, -0.15)), ((0.2, -0.15), (0.9, -0.2)), ((0.3,
        -0.15), (1.1, -0.2))),
}  # fmt: skip


def animal(kind: str, pose: str) -> Drawing:
    """A four-legged animal; anchors ``seat`` (its own underside), ``back``, ``mouth`` and ``head``.

    Args:
        kind: a key of ``BODIES``.
        pose: stand, run, jump, sit, lie, or hold: standing, and an elephant with its trunk up.
    """
    body, pen = BODIES[kind], Pen()
    gait = "stand" if pose in {"stand", "hold"} else pose
    belly = {"lie": 0.5 * body.leg, "sit": body.legs * 0.9}.get(gait, body.legs * 0.95)
    if kind == "sheep" and gait == "lie":
        belly = 1.0
    rise = {"sit": 8.0, "jump": 3.0}.get(gait, 0.0)
    back = -body.length / 2
    front = -back
    top = belly + body.height
    hips = [(back + body.leg * 0.7, belly + 2.5), (front - body.leg * 0.6, belly + 2.5 + rise)]
    if gait == "sit":
        front -= body.length * 0.12
        hips = [(back + body.leg * 0.9, 5.0), (front - body.leg * 0.75, belly + 3)]
    roots = [hips[0], hips[1], hips[0], hips[1]]
    shift = (1.6, 1.6, -0.6, -1.2)
    paths = [
        [(x + dx, y), *((x + dx + kx * body.legs, _foot(y, ky, body, gait)) for kx, ky in joints)]
        for (x, y), joints, dx in zip(roots, _GAITS[gait], shift, strict=True)
    ]
    for path in paths[:2]:
        _leg(pen, body, path, "main-", kind)
    pen.cut()
    _TAILS[kind](pen, back, top if gait != "sit" else 6.0, gait)
    pen.cut()
    head = (front + body.head[0], top + body.head[1] + rise)
    _trunk(pen, kind, body, (back, front, belly, top, rise), gait, head, paths)
    pen.cut()
    mouth = _HEADS[kind](pen, *head, pose == "hold")
    middle = 0.0 if kind != "horse" else -2.0
    pen.mark(
        seat=(0.0, 0.0), back=(middle, top - (1.2 if kind == "horse" else 0.6)), mouth=mouth, hand=mouth, head=head
    )
    pen.mark(top=(middle, top + 0.2))
    return pen.done()


def _foot(root: Units, y: Units, body: Body, gait: str) -> Units:
    if gait in {"stand", "run"} or (gait == "sit" and y <= -1):
        ground = body.leg * 0.5
        return max(ground, root + y * (root - ground)) if y > -1 else ground
    if gait == "lie":
        return body.leg * 0.5
    return root + y * body.legs if gait == "jump" else max(body.leg * 0.5, root + y * body.legs)


def _leg(pen: Pen, body: Body, path: list[Point], fill: str, kind: str) -> None:
    fill = "#3a3433" if kind == "sheep" else fill
    pen.limb(fill, *path, width=body.leg)
    if body.hoof:
        x, y = path[-1]
        pen.limb(body.hoof, (x, y - body.leg * 0.12), (x, y - body.leg * 0.12), width=body.leg * 0.8, ink=False)


def _trunk(
    pen: Pen, kind: str, body: Body, frame: tuple[Units, ...], gait: str, head: Point, paths: list[list[Point]]
) -> None:
    back, front, belly, top, rise = frame
    middle, sag = (back + front) / 2, 1.0 if kind != "cow" else 2.0
    outline: list[Point] = [
        (back - 1, (belly + top) / 2), (back + 2.5, top - 0.8), (middle, top - 0.6 + rise * 0.5),
        (front - 3, top + rise), (front + 1, (belly + top) / 2 + rise), (front - 2, belly + 0.8 + rise),
        (middle, belly - sag + rise * 0.6), (back + 2, belly + 0.6),
    ]  # fmt: skip
    if gait == "sit":
        outline = [
            (back - 1, 5), (back + 2, belly + 4), (middle, top + 1), (front - 3, top + rise), (front + 1, top - 1),
            (front - 1, belly), (middle + 3, 3), (back + 4, 1),
        ]  # fmt: skip
    if kind == "sheep":
        _fleece(pen, outline)
        _near_legs(pen, kind, body, paths, gait)
        return
    _near_legs(pen, kind, body, paths, gait)
    pen.blob("main", *outline)
    if kind in {"horse", "dog", "cow"}:
        root = 7.5 if kind == "horse" else 6.0
        pen.limb("main", (front - root * 0.75, top - root * 0.35 + rise), (head[0] - 1.5, head[1] - 1), width=root)
    if kind == "cow":
        _spots(pen, middle, (belly + top) / 2 + rise * 0.5, body)
    if gait == "sit":
        pen.cut()
        pen.ellipse("main", back + 6, 5.6, 6.2, 5.4)
        pen.limb("main", (back + 6, 2), (back + 12, 2), width=3.8)
        pen.ellipse("main", back + 6, 5.6, 5.6, 4.8, ink=False)


def _near_legs(pen: Pen, kind: str, body: Body, paths: list[list[Point]], gait: str) -> None:
    chosen = paths[3:] if gait == "sit" else paths[2:]
    for path in chosen:
        _leg(pen, body, path, "main", kind)


def _fleece(pen: Pen, outline: list[Point]) -> None:
    for x, y in outline:
        pen.ellipse("main", x, y, 4.6, 4.6)
    pen.blob("main", *outline)
    cx, cy = sum(x for x, _ in outline) / len(outline), sum(y for _, y in outline) / len(outline)
    for dx, dy in ((-6, 2), (1, 4), (6, -1), (-3, -4)):
        pen.curve("main-", (cx + dx - 2, cy + dy), (cx + dx, cy + dy - 1.6), (cx + dx + 2, cy + dy), width=1, ink=False)


def _spots(pen: Pen, x: Units, y: Units, body: Body) -> None:
    for dx, dy, rx, ry in ((-9, 2, 5.5, 4.5), (4, -1, 5, 4.6), (13, 4, 3, 2.8)):
        pen.blob("spot", (x + dx - rx, y + dy), (x + dx - 1, y + dy + ry), (x + dx + rx, y + dy + 1),
                 (x + dx + 1, y + dy - ry), ink=False)  # fmt: skip


def _dog_head(pen: Pen, x: Units, y: Units, up: bool) -> Point:
    pen.ellipse("main", x, y, 6.2, 5.8)
    pen.blob("main", (x + 2, y + 2), (x + 9, y + 0.5), (x + 10, y - 2.5), (x + 6, y - 4.4), (x + 1, y - 4))
    pen.cut()
    pen.ellipse(INK, x + 9.2, y + 0.3, 1.7, 1.4, ink=False)
    pen.curve(INK, (x + 9, y - 2), (x + 6.5, y - 2.8), (x + 4.5, y - 2.2), width=0.7, ink=False)
    pen.eye(x + 2.8, y + 1.8, 1.0)
    pen.blob("main-", (x - 2, y + 5.2), (x - 5, y + 3), (x - 6, y - 4), (x - 3.4, y - 5.6), (x - 0.6, y - 1))
    pen.limb("#d2322d", (x - 4.8, y - 5.6), (x - 0.5, y - 7), width=1.7)
    return x + 7.5, y - 3.6


def _cat_head(pen: Pen, x: Units, y: Units, up: bool) -> Point:
    for side in (-1, 1):
        pen.polygon("main", (x + side * 5.9, y + 1), (x + side * 5.4, y + 9), (x + side * 0.8, y + 4.5))
    pen.ellipse("main", x, y, 6.6, 5.6)
    pen.cut()
    for side in (-1, 1):
        pen.polygon("#e8a0a0", (x + side * 4.7, y + 4), (x + side * 4.7, y + 7), (x + side * 2.4, y + 5), ink=False)
        pen.ellipse("#cfe26a", x + 0.6 + side * 2.7, y + 0.7, 1.5, 1.6, ink=False)
        pen.ellipse(INK, x + 0.7 + side * 2.7, y + 0.7, 0.6, 1.5, ink=False)
        for dy in (-1.1, -2.6):
            pen.limb(INK, (x + side * 3.2, y - 2), (x + side * 8.4, y + dy - 0.4), width=0.45, ink=False)
    pen.ellipse("#ffffff", x + 0.5, y - 2.6, 2.6, 1.9, ink=False)
    pen.polygon("#d9707a", (x - 0.6, y - 1.1), (x + 1.6, y - 1.1), (x + 0.5, y - 2.3), ink=False)
    return x + 1.5, y - 4.2


def _horse_head(pen: Pen, x: Units, y: Units, up: bool) -> Point:
    pen.blob(
        "hair", (x - 1.5, y + 5), (x - 5, y + 2), (x - 9, y - 5), (x - 15, y - 14), (x - 10, y - 13), (x - 4, y - 4)
    )
    pen.cut()
    pen.blob("main", (x - 3, y + 3), (x + 1, y + 4), (x + 5, y), (x + 10.5, y - 6), (x + 9.6, y - 9.6),
        (x + 5.5, y - 9),
             (x - 1, y - 4.5), (x - 4, y - 2))  # fmt: skip
    pen.polygon("main", (x - 2.2, y + 3), (x - 1.2, y + 8), (x + 1.6, y + 3))
    pen.limb("main", (x - 2, y), (x - 6.5, y - 7), width=6.4, ink=False)
    pen.cut()
    pen.blob("#f1d9c2", (x + 7, y - 3.6), (x + 10, y - 6.2), (x + 9.2, y - 9.2), (x + 6, y - 8.2), ink=False)
    pen.ellipse(INK, x + 9, y - 6.6, 0.7, 0.7, ink=False)
    pen.eye(x + 2, y - 0.6, 1.0)
    return x + 8, y - 8.5


def _elephant_head(pen: Pen, x: Units, y: Units, up: bool) -> Point:
    tip = (x + 17.5, y + 5.5) if up else (x + 12, y - 27)
    trunk: list[Point] = [(x + 6, y - 5), (x + 10.5, y - 11), (x + 11, y - 19), (x + 9.6, y - 26), tip]
    if up:
        trunk = [(x + 6, y - 5), (x + 11, y - 9), (x + 15.5, y - 6), (x + 16.6, y), tip]
    for width, part in ((6.4, trunk[:3]), (5.0, trunk[1:])):
        pen.curve("main", *part, width=width)
    pen.ellipse("main", x, y - 2, 10.5, 10)
    pen.cut()
    pen.curve("#fff8e6", (x + 5.5, y - 9), (x + 9, y - 13), (x + 13, y - 12.2), width=1.9)
    pen.cut()
    pen.blob(
        "main-",
        (x - 2.5, y + 6.5),
        (x - 9.5, y + 7),
        (x - 13, y),
        (x - 10, y - 10.5),
        (x - 4.5, y - 11),
        (x - 1, y - 4),
    )
    pen.blob("#d9a6a6", (x - 3.5, y + 4), (x - 8.4, y + 4.4), (x - 10.8, y - 0.6), (x - 8.6, y - 7.5), (x - 5,
        y - 8), (x - 2.8, y - 3),
             ink=False)  # fmt: skip
    pen.eye(x + 4, y + 1, 1.1)
    return tip


def _bear_head(pen: Pen, x: Units, y: Units, up: bool) -> Point:
    for dx in (-5, 4):
        pen.ellipse("main", x + dx, y + 7, 3, 3)
    pen.ellipse("main", x, y, 8.6, 8)
    pen.cut()
    for dx in (-5, 4):
        pen.ellipse("main-", x + dx, y + 7.2, 1.6, 1.6, ink=False)
    pen.ellipse("muzzle", x + 5, y - 2.6, 5, 3.9, ink=True)
    pen.ellipse(INK, x + 8.2, y - 0.6, 1.9, 1.5, ink=False)
    pen.curve(INK, (x + 8.4, y - 3.6), (x + 6.4, y - 4.6), (x + 4, y - 4), width=0.7, ink=False)
    pen.eye(x - 0.6, y + 1.8, 1.0)
    pen.eye(x + 5.4, y + 2.6, 1.0)
    return x + 8, y - 5


def _cow_head(pen: Pen, x: Units, y: Units, up: bool) -> Point:
    for dx, tip in ((-3, -5.4), (2.4, 5.2)):
        pen.curve("#efe0b8", (x + dx, y + 4), (x + tip, y + 6.5), (x + tip * 0.9, y + 9.5), width=1.8)
    pen.limb("spot", (x - 4, y + 2.5), (x - 9, y + 2), width=3.2)
    pen.cut()
    pen.blob(
        "main",
        (x - 4.6, y + 3),
        (x, y + 5.4),
        (x + 4.5, y + 3),
        (x + 8, y - 3),
        (x + 6, y - 8),
        (x + 1, y - 8),
        (x - 3.6, y - 3),
    )
    pen.blob("spot", (x - 4.4, y + 3), (x - 1, y + 5), (x + 0.2, y + 1), (x - 2.6, y - 2.2), ink=False)
    pen.ellipse("#f2b0a8", x + 4.6, y - 6, 4.6, 3.4, turn=-15)
    pen.cut()
    for dx in (3.4, 6.8):
        pen.ellipse(INK, x + dx, y - 5.6 - (dx > 4) * 0.6, 0.8, 0.9, ink=False)
    pen.eye(x - 0.6, y + 0.8, 1.0)
    pen.eye(x + 4, y + 0.8, 1.0)
    return x + 6.5, y - 8.5


def _sheep_head(pen: Pen, x: Units, y: Units, up: bool) -> Point:
    for tip in (-6, 7.6):
        pen.limb("#3a3433", (x + 0.8, y + 1), (x + tip, y - 0.6), width=2.8)
    pen.blob(
        "#3a3433",
        (x - 3, y + 3),
        (x + 3.6, y + 3.4),
        (x + 6, y - 3),
        (x + 4.4, y - 7.4),
        (x + 0.6, y - 7),
        (x - 3, y - 2),
    )
    pen.cut()
    for dx, dy in ((-2.4, 3.4), (1, 4.8), (4, 3.4)):
        pen.ellipse("main", x + dx, y + dy, 2.9, 2.7)
    pen.ellipse("main", x + 1, y + 3.4, 4, 2.2, ink=False)
    for dx in (0.2, 3.6):
        pen.ellipse("#ffffff", x + dx, y - 1.4, 1.2, 1.3, ink=False)
        pen.ellipse(INK, x + dx + 0.3, y - 1.5, 0.6, 0.7, ink=False)
    return x + 4, y - 7


def _tail(fill: str, width: Units, *offsets: Point, tuft: str = "", down: bool = False) -> Callable[..., None]:
    def draw(pen: Pen, x: Units, y: Units, gait: str) -> None:
        path = [(x + 1.5 + dx, max(1.5, y - 3 + dy)) for dx, dy in offsets]
        pen.curve(fill, *path, width=width)
        if tuft:
            pen.ellipse(tuft, path[-1][0], path[-1][1], 1.9, 2.6)

    return draw


_HEADS: dict[str, Callable[[Pen, Units, Units, bool], Point]] = {
    "dog": _dog_head, "cat": _cat_head, "horse": _horse_head, "elephant": _elephant_head, "bear": _bear_head,
    "cow": _cow_head, "sheep": _sheep_head,
}  # fmt: skip
_TAILS: dict[str, Callable[..., None]] = {
    "dog": _tail("main", 3.0, (0, 0), (-4, 3), (-5, 8)),
    "cat": _tail("main", 2.8, (0, 0), (-5, 1), (-6, 7), (-3, 12), (-5, 15)),
    "horse": _tail("hair", 4.2, (0, 1), (-4, -1), (-6, -8), (-6, -15)),
    "elephant": _tail("main", 1.8, (0, -2), (-3, -7), (-3, -12), tuft="main-"),
    "bear": _tail("main", 4.4, (0, -3), (-1.6, -2.5)),
    "cow": _tail("main", 1.7, (0, 0), (-3.4, -4), (-3.6, -11), tuft="spot"),
    "sheep": _tail("main", 4.4, (-1, -3), (-3.6, -5)),
}
