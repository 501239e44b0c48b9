"""Things to sit and lie on, and things to jump over.

``seat`` is where one sits, ``top`` the middle of the upper edge, ``bed`` where one lies.
"""

from __future__ import annotations

from data.scenes.drawing import Pen

WOOD, WOOD_DARK = "#a9713f", "#7d5029"


def bench(pen: Pen) -> None:
    """A park bench from the front."""
    for y in (23, 28.5):
        pen.box("main", -27, y, 27, y + 4)
    for x in (-21, 21):
        pen.box("#5a5f66", x - 1.5, 0, x + 1.5, 27)
    pen.cut()
    pen.box("main+", -29, 13, 29, 17.5)
    pen.mark(seat=(0, 17), bed=(0, 17), top=(0, 32.5))


def chair(pen: Pen) -> None:
    """A chair from the side, its back at the left."""
    for x in (-7, 9):
        pen.limb("main-", (x, 16), (x, 1.6), width=3)
    pen.limb("main", (-9.5, 1.6), (-10.5, 38), width=3.4)
    pen.limb("main", (10.5, 1.6), (10.5, 14), width=3.4)
    pen.cut()
    pen.box("main", -11.5, 13.5, 12.5, 18)
    pen.limb("main", (-10.5, 36), (-9.9, 26), width=5.4)
    pen.mark(seat=(-1, 18), top=(0, 38))


def sofa(pen: Pen) -> None:
    """A sofa from the front."""
    for x in (-27, 27):
        pen.box(WOOD_DARK, x - 2, 0, x + 2, 5)
    pen.blob("main-", (-30, 6), (-30, 30), (-15, 34), (15, 34), (30, 30), (30, 6))
    pen.cut()
    pen.polygon("main", (-30, 4), (30, 4), (30, 16), (-30, 16))
    pen.limb("main+", (-24, 16), (-2, 16), width=5)
    pen.limb("main+", (2, 16), (24, 16), width=5)
    pen.cut()
    for x in (-31, 31):
        pen.limb("main", (x, 6), (x, 20), width=8)
    pen.mark(seat=(0, 17.5), bed=(0, 17.5), top=(0, 34))


def bed(pen: Pen) -> None:
    """A bed from the side, its pillow at the left."""
    pen.limb(WOOD_DARK, (-37, 2), (-37, 30), width=4)
    pen.limb(WOOD_DARK, (37, 2), (37, 19), width=4)
    pen.cut()
    pen.box(WOOD, -36, 5, 36, 10)
    pen.cut()
    pen.polygon("#fffaf0", (-35, 10), (35, 10), (35, 16), (-35, 16))
    pen.blob("main", (-12, 6), (-12, 17), (12, 17.6), (36, 17), (37, 6), (12, 5))
    pen.cut()
    pen.blob("#fffaf0", (-35, 15), (-34, 20), (-24, 20.5), (-20, 17), (-23, 15))
    pen.mark(seat=(8, 17), bed=(2, 18), top=(0, 18))


def table(pen: Pen) -> None:
    """A table with a cloth."""
    for x in (-22, 22):
        pen.limb(WOOD, (x, 1.8), (x, 20), width=3.6)
    pen.cut()
    pen.polygon("main", (-28, 25), (28, 25), (28, 16), (21, 13.5), (14, 16), (7, 13.5), (0, 16), (-7, 13.5), (-14, 16),
                (-21, 13.5), (-28, 16))  # fmt: skip
    pen.limb("main+", (-28, 25), (28, 25), width=2.6)
    pen.mark(seat=(0, 26), bed=(0, 26), top=(0, 26))


def rug(pen: Pen) -> None:
    """A rug on the floor, in perspective."""
    for x in range(-32, 33, 8):
        pen.limb("#f3e6c8", (x, 0.8), (x, 2.4), width=1.2)
    pen.polygon("main", (-34, 2), (34, 2), (27, 16), (-27, 16))
    pen.polygon("main+", (-28, 4.4), (28, 4.4), (23, 13.6), (-23, 13.6), ink=False)
    pen.polygon("main-", (-20, 6.6), (20, 6.6), (17.4, 11.4), (-17.4, 11.4), ink=False)
    pen.mark(seat=(0, 7), bed=(0, 8.5), top=(0, 16))


def rock(pen: Pen) -> None:
    """A grey boulder."""
    pen.blob("main", (-20, 0.5), (-22, 8), (-14, 17), (-3, 19), (10, 18), (19, 12), (21, 1), (8, -0.2), (-8, -0.2))
    pen.blob("main+", (-16, 11), (-10, 15.5), (-2, 17), (2, 15), (-6, 12), (-12, 9), ink=False)
    pen.limb("main-", (6, 12), (10, 8), (9, 4), width=1, ink=False)
    pen.mark(seat=(0, 18), bed=(-1, 18), top=(0, 19))


def log(pen: Pen) -> None:
    """A felled trunk."""
    pen.box("#8a5a33", -26, 1, 22, 13)
    pen.ellipse("#8a5a33", -26, 7, 3, 6)
    pen.cut()
    for y, x0, x1 in ((10, -20, -6), (4, -16, 2), (7, -2, 12)):
        pen.limb("#6b4425", (x0, y), (x1, y), width=0.9, ink=False)
    pen.ellipse("#e6bd85", 23, 7, 4, 6)
    pen.ellipse("#c18e55", 23, 7, 2.2, 3.6, ink=False)
    pen.ellipse("#e6bd85", 23, 7, 1.2, 2.2, ink=False)
    pen.mark(seat=(-2, 12.4), bed=(-2, 12.4), top=(0, 13), grip=(-2, 1), rest=(-2, 1))


def box(pen: Pen) -> None:
    """A closed crate."""
    pen.box("main", -12, 1, 12, 21)
    pen.limb("main+", (-12, 20.4), (12, 20.4), width=3.4)
    pen.box("#f4ead2", -2.4, 1.6, 2.4, 19, ink=False)
    pen.limb("main-", (-12, 6), (-3, 6), width=0.8, ink=False)
    pen.limb("main-", (3, 6), (12, 6), width=0.8, ink=False)
    pen.mark(seat=(0, 21.5), top=(0, 22), rest=(0, 1))


def hay_bale(pen: Pen) -> None:
    """A round bale of straw."""
    pen.ellipse("#e3b84b", 0, 13, 16, 13)
    pen.curve("#b98a27", (4, 13), (0, 16), (-5, 12), (1, 7), (9, 11), (7, 19), (-3, 21), (-11, 14), (-7, 4), (3, 2.4),
              width=1.2, ink=False)  # fmt: skip
    for x in (-15, 13, 17):
        pen.limb("#e3b84b", (x, 1), (x + 3, 2.4), width=1)
    pen.mark(seat=(0, 25.4), bed=(0, 25.4), top=(0, 26), rest=(0, 0))


def fence(pen: Pen) -> None:
    """A picket fence."""
    for y in (6, 15):
        pen.box("main-", -28, y, 28, y + 3.4)
    pen.cut()
    for x in range(-24, 25, 12):
        pen.polygon("main", (x - 3, 0), (x + 3, 0), (x + 3, 20), (x, 24), (x - 3, 20))
    pen.mark(seat=(0, 23), top=(0, 24))


def stool(pen: Pen) -> None:
    """A round stool on three legs."""
    for x in (-8, 0, 8):
        pen.limb(WOOD, (x * 0.75, 14), (x, 1.6), width=2.8)
    pen.cut()
    pen.blob("main", (-11, 15), (-10, 19), (0, 20), (10, 19), (11, 15), (0, 13.4))
    pen.mark(seat=(0, 19), top=(0, 20))
