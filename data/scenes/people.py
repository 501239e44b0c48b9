"""Man, woman, boy and girl: one jointed figure in four builds and eleven poses."""

from __future__ import annotations

from dataclasses import dataclass

from data.scenes.drawing import Drawing, Pen, Point, Units

SHOES = "#4a3728"


@dataclass(frozen=True)
class Build:
    """Lengths in units: legs, torso, radius of the head, half the width of the shoulders."""

    legs: Units
    torso: Units
    head: Units
    shoulders: Units
    dress: bool = False


@dataclass(frozen=True)
class Pose:
    """Joints: knee and foot from the hip in leg lengths, elbow and hand from the shoulder in arm lengths."""

    far_leg: tuple[Point, Point]
    near_leg: tuple[Point, Point]
    far_arm: tuple[Point, Point]
    near_arm: tuple[Point, Point]
    lean: Units = 0.0


BUILDS = {
    "man": Build(22, 18, 6.8, 5.6),
    "woman": Build(21, 16, 6.5, 4.4, dress=True),
    "boy": Build(14, 13, 7.0, 4.5),
    "girl": Build(14, 12, 7.0, 3.9, dress=True),
}
_STANDING = ((-0.13, -0.5), (-0.15, -1.0)), ((0.13, -0.5), (0.17, -1.0))
_DOWN = ((-0.25, -0.42), (-0.3, -0.85)), ((0.25, -0.42), (0.32, -0.85))
POSES = {
    "stand": Pose(*_STANDING, *_DOWN),
    "hold": Pose(*_STANDING, _DOWN[0], ((0.45, -0.35), (0.95, -0.1))),
    "carry": Pose(*_STANDING, ((-0.75, 0.25), (-0.6, 1.0)), ((0.75, 0.25), (0.6, 1.0))),
    "run": Pose(
        ((-0.35, -0.4), (-0.95, -0.55)),
        ((0.5, -0.35), (0.55, -0.9)),
        ((0.5, -0.35), (0.85, 0.1)),
        ((-0.4, -0.35), (-0.75, -0.65)),
        0.25,
    ),
    "jump": Pose(
        ((-0.5, -0.25), (-1.0, -0.35)),
        ((0.55, -0.1), (1.0, -0.25)),
        ((-0.65, 0.05), (-1.1, 0.35)),
        ((0.65, 0.05), (1.1, 0.35)),
        0.15,
    ),
    "sit": Pose(
        ((0.56, 0.04), (0.54, -0.56)),
        ((0.6, 0.0), (0.66, -0.62)),
        ((0.2, -0.45), (0.6, -0.7)),
        ((0.05, -0.5), (0.45, -0.8)),
    ),
    "floor": Pose(
        ((0.5, 0.12), (0.95, 0.0)),
        ((0.5, 0.06), (1.05, -0.02)),
        ((0.2, -0.45), (0.6, -0.7)),
        ((-0.1, -0.5), (0.2, -0.9)),
    ),
    "ride": Pose(
        ((0.4, -0.3), (0.4, -0.4)),
        ((0.4, -0.35), (0.22, -0.85)),
        ((0.4, -0.35), (0.95, -0.4)),
        ((0.3, -0.45), (0.85, -0.5)),
        0.05,
    ),
    "cycle": Pose(
        ((0.5, -0.12), (0.42, -0.58)),
        ((0.44, -0.4), (0.2, -0.86)),
        ((0.5, -0.35), (1.0, -0.35)),
        ((0.42, -0.42), (0.95, -0.4)),
        0.25,
    ),
    "surf": Pose(
        ((-0.3, -0.45), (-0.4, -0.9)),
        ((0.34, -0.4), (0.4, -0.9)),
        ((-0.5, 0.0), (-0.95, 0.1)),
        ((0.5, 0.0), (0.95, 0.12)),
    ),
}


def person(kind: str, pose: str) -> Drawing:
    """A person; anchors ``seat``, ``hand``, ``top``, ``feet`` and ``head``.

    Args:
        kind: a key of ``BUILDS``.
        pose: a key of ``POSES``, or ``lie``: on the back, head at the left, ``seat`` below the middle.
    """
    if pose == "lie":
        pen = _upright(kind, "stand").turned(90)
        build = BUILDS[kind]
        pen.mark(seat=(-(build.legs + build.torso + 2 * build.head) / 2, -build.shoulders - 1.2))
        return pen.done()
    return _upright(kind, pose).done()


def _upright(kind: str, pose_name: str) -> Pen:
    build, pose, pen = BUILDS[kind], POSES[pose_name], Pen()
    legs, arm = build.legs, build.torso * (0.95 if build.legs > 20 else 1.05)
    sole = 1.6
    hip = (0.0, sole - legs * min(pose.far_leg[1][1], pose.near_leg[1][1]))
    shoulder = (hip[0] + pose.lean * build.torso, hip[1] + build.torso)
    head = (shoulder[0] + 0.8 + pose.lean * 4, shoulder[1] + build.head + 0.6)
    far_arm, near_arm = (_joints(shoulder, joints, arm) for joints in (pose.far_arm, pose.near_arm))
    if pose_name == "carry":
        lift = head[1] + build.head + 1.0
        far_arm, near_arm = [*far_arm[:2], (far_arm[2][0], lift)], [*near_arm[:2], (near_arm[2][0], lift)]
    _limb(pen, build, far_arm, sleeve=True)
    _leg(pen, build, _joints(hip, pose.far_leg, legs), far=True)
    pen.cut()
    _leg(pen, build, _joints(hip, pose.near_leg, legs), far=False)
    pen.cut()
    _torso(pen, build, hip, shoulder, pose, pose_name)
    pen.cut()
    _head(pen, kind, build.head, *head)
    pen.cut()
    _limb(pen, build, near_arm, sleeve=True)
    thigh = 3.2 if legs > 20 else 2.7
    feet = (legs * (pose.far_leg[1][0] + pose.near_leg[1][0]) / 2, 0.0)
    pen.mark(seat=(0.0, hip[1] - thigh), hand=near_arm[2], feet=feet, head=head)
    pen.mark(top=((far_arm[2][0] + near_arm[2][0]) / 2, near_arm[2][1] + 1.5))
    return pen


def _joints(root: Point, joints: tuple[Point, Point], length: Units) -> list[Point]:
    return [root, *((root[0] + x * length, root[1] + y * length) for x, y in joints)]


def _limb(pen: Pen, build: Build, path: list[Point], sleeve: bool) -> None:
    width = 4.2 if build.legs > 20 else 3.8
    (x0, y0), (x1, y1) = path[0], path[1]
    pen.limb("skin", *path, width=width * 0.85)
    pen.ellipse("skin", *path[2], width * 0.6, width * 0.6)
    if sleeve:
        pen.limb("main-", (x0, y0), (x1, y1), width=width)


def _leg(pen: Pen, build: Build, path: list[Point], far: bool) -> None:
    hip, knee, foot = path
    width = 5.2 if build.legs > 20 else 4.8
    pen.ellipse(SHOES, foot[0] + 1.3, foot[1] - 0.1, 3.4, 1.7)
    if build.dress:
        pen.limb("skin", hip, knee, foot, width=width * 0.72)
    elif build.legs > 20:
        pen.limb("legs-" if far else "legs", hip, knee, foot, width=width)
    else:
        pen.limb("skin", hip, knee, foot, width=width * 0.75)
        pen.limb("legs-" if far else "legs", hip, knee, width=width)


def _torso(pen: Pen, build: Build, hip: Point, shoulder: Point, pose: Pose, pose_name: str) -> None:
    wide, waist = build.shoulders, build.shoulders * (0.72 if build.dress else 0.88)
    (hx, hy), (sx, sy) = hip, shoulder
    pen.limb("skin", (sx, sy - 1), (sx + 0.5, sy + 2), width=3.6)
    pen.blob(
        "main", (sx - wide, sy - 1.5), (sx, sy + 0.6), (sx + wide, sy - 1.5), (hx + waist + 0.3, (sy + hy) / 2),
        (hx + waist + 0.4, hy - 1), (hx, hy - 2.2), (hx - waist - 0.4, hy - 1), (hx - waist - 0.3, (sy + hy) / 2),
    )  # fmt: skip
    if build.dress:
        _skirt(pen, build, hip, pose, pose_name)


def _skirt(pen: Pen, build: Build, hip: Point, pose: Pose, pose_name: str) -> None:
    (hx, hy), legs = hip, build.legs
    if pose_name in {"sit", "floor", "ride", "cycle"}:
        knees = [(hx + x * legs * 1.05, hy + y * legs) for x, y in (pose.far_leg[0], pose.near_leg[0])]
        for knee in knees:
            pen.limb("main", hip, knee, width=6.6)
        return
    reach = [pose.far_leg[0][0] * legs, pose.near_leg[0][0] * legs]
    left, right = hx + min(reach) - 5.2, hx + max(reach) + 5.2
    hem = hy - legs * (0.62 if max(reach) < 0.4 * legs else 0.42)
    pen.polygon("main", (hx - 3.4, hy + 4), (hx + 3.4, hy + 4), (right, hem), (hx, hem - 1.2), (left, hem))
    pen.limb("main+", (hx - 3.3, hy + 4), (hx + 3.3, hy + 4), width=1.6, ink=False)


def _head(pen: Pen, kind: str, r: Units, x: Units, y: Units) -> None:
    _hair_behind(pen, kind, r, x, y)
    pen.ellipse("skin", x, y, r, r)
    pen.ellipse("skin", x - r * 0.35, y - r * 0.15, r * 0.2, r * 0.24)
    pen.cut()
    if kind == "man":
        pen.blob(
            "hair", (x - r * 0.3, y - r * 0.2), (x + r * 0.25, y - r * 0.25), (x + r * 0.95, y - r * 0.2),
            (x + r * 0.85, y - r * 0.85), (x + r * 0.25, y - r * 1.2), (x - r * 0.35, y - r * 0.85), ink=False,
        )  # fmt: skip
        pen.limb("#b5534a", (x + r * 0.3, y - r * 0.5), (x + r * 0.65, y - r * 0.5), width=0.9, ink=False)
    else:
        pen.limb("#b5534a", (x + r * 0.2, y - r * 0.5), (x + r * 0.5, y - r * 0.58), (x + r * 0.72, y - r * 0.45),
                 width=0.9, ink=False)  # fmt: skip
        pen.ellipse("#ef9a8c", x + r * 0.02, y - r * 0.3, r * 0.2, r * 0.15, ink=False)
    pen.eye(x + r * 0.2, y + r * 0.12, r * 0.14)
    pen.eye(x + r * 0.7, y + r * 0.12, r * 0.14)
    _hair_above(pen, kind, r, x, y)


def _hair_behind(pen: Pen, kind: str, r: Units, x: Units, y: Units) -> None:
    if kind == "woman":
        pen.blob(
            "hair", (x, y + r * 1.18), (x - r * 1.1, y + r * 0.6), (x - r * 1.35, y - r * 0.6), (x - r * 1.5,
                y - r * 2),
            (x - r * 0.6, y - r * 2.15), (x + r * 0.1, y - r * 1.0), (x + r * 0.9, y + r * 0.6),
        )  # fmt: skip
    if kind == "girl":
        for side in (-1, 1):
            pen.blob(
                "hair", (x + side * r * 0.8, y + r * 0.6), (x + side * r * 1.35, y + r * 0.75),
                (x + side * r * 1.75, y - r * 0.1), (x + side * r * 1.5, y - r * 0.75), (x + side * r * 1.15,
                    y - r * 0.1),
            )  # fmt: skip
    pen.cut()


def _hair_above(pen: Pen, kind: str, r: Units, x: Units, y: Units) -> None:
    pen.cut()
    if kind == "boy":
        pen.blob(
            "main+", (x - r * 1.02, y + r * 0.25), (x - r * 0.8, y + r * 0.95), (x, y + r * 1.25),
            (x + r * 0.8, y + r * 0.9), (x + r * 0.98, y + r * 0.4), (x, y + r * 0.42),
        )  # fmt: skip
        pen.limb("main-", (x + r * 0.5, y + r * 0.42), (x + r * 1.4, y + r * 0.36), width=1.7)
        return
    fringe = 0.55 if kind == "man" else 0.4
    pen.blob(
        "hair", (x - r * 1.02, y - r * 0.1), (x - r * 0.95, y + r * 0.7), (x, y + r * 1.16), (x + r * 0.85,
            y + r * 0.72),
        (x + r * 0.97, y + r * fringe * 0.9), (x + r * 0.3, y + r * fringe), (x - r * 0.35, y + r * (fringe - 0.1)),
        (x - r * 0.6, y - r * 0.2),
    )  # fmt: skip
    if kind == "girl":
        for side in (-1, 1):
            pen.ellipse("main", x + side * r * 0.98, y + r * 0.62, r * 0.28, r * 0.28)
