"""Things to ride.

``seat`` is where one sits or stands; a drawing's rider is behind it where ``inside`` is marked.
"""

from __future__ import annotations

from data.scenes.drawing import INK, Pen, Point


def bicycle(pen: Pen) -> None:
    """A bicycle whose front is at the right."""
    for x in (-17, 17):
        pen.ellipse(INK, x, 10.5, 10.5, 10.5)
        pen.ellipse("#e9eef2", x, 10.5, 8, 8, ink=False)
        for dx, dy in ((8, 0), (0, 8), (5.6, 5.6), (5.6, -5.6)):
            pen.limb("#9aa3ab", (x - dx, 10.5 - dy), (x + dx, 10.5 + dy), width=0.6, ink=False)
    pen.cut()
    frame = ((-17, 10.5), (-1, 9.5), (12, 24), (-6, 24), (-17, 10.5)), ((-1, 9.5), (-7, 27)), ((12, 27), (17, 10.5))
    for path in frame:
        pen.limb("main", *path, width=2.3)
    pen.limb("#4b4f55", (12, 27), (13, 33), (9.5, 34.5), width=1.8)
    pen.cut()
    pen.blob(INK, (-12, 28), (-11, 30.6), (-4, 30), (-2, 28.4), (-7, 27))
    pen.ellipse("#4b4f55", -1, 9.5, 2.6, 2.6)
    pen.limb("#4b4f55", (-1, 9.5), (2, 5.6), width=1.4)
    pen.mark(seat=(-6.5, 29.6), top=(0, 30))


def skateboard(pen: Pen) -> None:
    """A skateboard."""
    for x in (-12, 12):
        pen.ellipse("#f4ead2", x, 3.4, 3.4, 3.4)
        pen.ellipse(INK, x, 3.4, 1.2, 1.2, ink=False)
    pen.cut()
    pen.limb("main", (-21, 10), (-16, 7.4), (16, 7.4), (21, 10), width=3.2)
    pen.mark(seat=(0, 9), top=(0, 9.2), rest=(0, 0))


def scooter(pen: Pen) -> None:
    """A kick scooter whose front is at the right."""
    for x in (-15, 16):
        pen.ellipse(INK, x, 4, 4, 4)
        pen.ellipse("#f4ead2", x, 4, 1.7, 1.7, ink=False)
    pen.limb("main", (-15, 6), (-8, 6), (12, 6), (16, 5), (12.5, 30), width=2.8)
    pen.limb(INK, (8.5, 31), (15, 30), width=2.4)
    pen.mark(seat=(-3, 7.6), top=(0, 30))


def car(pen: Pen) -> None:
    """An open car whose front is at the right: its rider sits in it."""
    pen.limb("#9fc7d8", (11, 22), (6, 32), width=2)
    pen.cut()
    pen.blob("main", (-34, 6), (-35, 16), (-31, 22), (-22, 22.5), (-16, 20), (2, 20), (12, 22), (26, 20), (35,
        16), (36, 7),
             (20, 4), (-20, 4))  # fmt: skip
    pen.limb("main-", (-33, 11), (34, 11), width=1.6, ink=False)
    pen.limb("main-", (-10, 18.5), (-10, 7), (5, 7), (5, 18.5), width=0.9, ink=False)
    pen.ellipse("#ffe89a", 33.4, 15, 2.4, 2.4)
    pen.cut()
    for x in (-21, 21):
        pen.ellipse(INK, x, 7, 7, 7)
        pen.ellipse("#cfd6dc", x, 7, 3.6, 3.6, ink=False)
    pen.mark(seat=(-9, 14.5), inside=(-9, 14.5), top=(0, 24))


def boat(pen: Pen) -> None:
    """A rowing boat on its patch of water; its rider sits in it."""
    pen.blob("main", (-29, 19), (-22, 18), (0, 17), (20, 18), (32, 22), (27, 9), (19, 3), (-17, 3), (-25, 8))
    pen.limb("main+", (-28, 17.5), (-17, 16.5), (17, 16.5), (29.5, 19.8), width=2.6)
    pen.limb("main-", (-24, 9.5), (24, 9.5), width=1, ink=False)
    pen.cut()
    waves: list[Point] = [(x, 6.0 if x % 12 else 3.6) for x in range(-36, 37, 6)]
    pen.polygon("#4a9fd0", *waves, (36, 0.5), (-36, 0.5))
    pen.curve("#d7eefa", *waves, width=1.3, ink=False)
    pen.mark(seat=(-6, 14), inside=(-6, 14), top=(0, 19))


def surfboard(pen: Pen) -> None:
    """A surfboard lying flat."""
    pen.blob("main", (-31, 3.4), (-22, 6.4), (0, 7.2), (22, 6.6), (33, 5.6), (24, 2), (0, 0.4), (-22, 1))
    pen.limb("#fff6df", (-24, 3.6), (25, 4.2), width=1.6, ink=False)
    pen.mark(seat=(0, 6), bed=(0, 6.4), top=(0, 7), rest=(0, 0.5))


def sled(pen: Pen) -> None:
    """A sled with curved runners, its front at the right."""
    pen.limb("#8f959c", (-22, 1.4), (18, 1.4), (24, 4), (26, 9), (22.5, 12), width=2.2)
    for x in (-16, 12):
        pen.limb("#8a5a33", (x, 2), (x, 9), width=2.4)
    pen.cut()
    for y in (10.4,):
        pen.limb("main", (-22, y), (20, y), width=3.6)
    pen.mark(seat=(-4, 12.2), bed=(-1, 12.2), top=(0, 12))


def wave(pen: Pen) -> None:
    """A surfboard on a wave."""
    surfboard(pen)
    pen.cut()
    waves: list[Point] = [(x, 3.4 if x % 12 else 0.6) for x in range(-36, 37, 6)]
    pen.polygon("#4a9fd0", *waves, (36, -6), (-36, -6))
    pen.curve("#d7eefa", *waves, width=1.3, ink=False)
