"""Things to hold, to stand under, to chase and to pass."""

from __future__ import annotations

from data.scenes.drawing import INK, Pen, Point, Units


def umbrella(pen: Pen) -> None:
    """An umbrella; ``grip`` its handle, ``shade`` the middle of its lower edge."""
    pen.curve("#7d5029", (0, 46), (0, 4), (1, 1.4), (3.4, 1.2), (4.4, 4), width=1.8)
    pen.cut()
    pen.polygon(
        "main", (-29, 34), *_arc(0, 34, 29, 20), (29, 34), (19.4, 37), (9.7, 34), (0, 37), (-9.7, 34), (-19.4, 37)
    )
    pen.polygon("main+", (-9.7, 34), (-8, 45), (0, 54), (8, 45), (9.7, 34), (0, 37), ink=False)
    pen.limb("#7d5029", (0, 54), (0, 56.5), width=1.6)
    pen.mark(grip=(0, 10), shade=(0, 34), top=(0, 56))


def parasol(pen: Pen) -> None:
    """A parasol that stands by itself; ``shade`` is the middle of its lower edge."""
    pen.box("#eadfca", -7, 0, 7, 3)
    pen.limb("#f4ead2", (0, 2), (0, 62), width=2.2)
    pen.cut()
    pen.polygon("main", (-36, 56), *_arc(0, 56, 36, 21), (36, 56))
    for x in (-24, 0, 24):
        pen.polygon("#fff6df", (x - 6, 56), (x * 0.45 - 3, 72 - abs(x) * 0.1), (x * 0.45 + 3,
            72 - abs(x) * 0.1), (x + 6, 56),
                    ink=False)  # fmt: skip
    pen.polygon("main-", (-36, 56), (36, 56), (36, 53.4), (-36, 53.4))
    pen.mark(shade=(0, 53), top=(0, 77))


def balloon(pen: Pen) -> None:
    """A balloon on a string."""
    pen.curve(INK, (0, 1), (1.5, 8), (-1.5, 16), (0, 24), width=1.3, ink=False)
    pen.polygon("main", (-2.4, 22.6), (2.4, 22.6), (0, 26))
    pen.ellipse("main", 0, 36, 10.5, 12)
    pen.ellipse("main+", -3.6, 40, 2.4, 3.6, turn=-25, ink=False)
    pen.mark(grip=(0, 1), top=(0, 48))


def kite(pen: Pen) -> None:
    """A kite with its tail, on a string."""
    pen.curve(INK, (0, 1), (3, 10), (9, 20), (13, 27), width=1.3, ink=False)
    pen.curve("#fff6df", (11, 25), (6, 22), (4, 26), (-1, 23), width=1.2)
    pen.cut()
    pen.polygon("main", (10, 24), (27, 34), (22, 54), (4, 42))
    pen.polygon("main+", (22, 54), (27, 34), (14.4, 39.5), ink=False)
    pen.limb(INK, (10, 24), (22, 54), width=0.7, ink=False)
    pen.limb(INK, (4, 42), (27, 34), width=0.7, ink=False)
    pen.mark(grip=(0, 1), top=(18, 54))


def flag(pen: Pen) -> None:
    """A flag on its pole, which leans forward."""
    pen.limb("#8a5a33", (-3, 1.5), (12, 41), width=2)
    pen.cut()
    pen.blob("main", (12.6, 40), (22, 43), (30, 39), (38, 40), (33, 26), (25, 25), (17, 29), (7.4, 26.4))
    pen.limb("#fff6df", (10.4, 33), (19, 36), (27, 32), (35, 33), width=3.4, ink=False)
    pen.mark(grip=(-0.5, 8), top=(20, 42))


def flower(pen: Pen) -> None:
    """A big flower with two leaves."""
    pen.curve("#3f8f3d", (0, 1.4), (0.6, 12), (0, 22), width=2)
    for side in (-1, 1):
        pen.blob("#55ab4b", (0, 6), (side * 5, 11), (side * 9.5, 11.5), (side * 6, 6))
    pen.cut()
    for dx, dy in ((0, 7), (6.6, 2.2), (4.2, -5.6), (-4.2, -5.6), (-6.6, 2.2)):
        pen.ellipse("main", dx, 26 + dy, 4.8, 4.8)
    pen.cut()
    pen.ellipse("#f5c842", 0, 26, 4.2, 4.2)
    pen.mark(grip=(0, 4), top=(0, 36))


def ball(pen: Pen) -> None:
    """A beach ball in two colours."""
    pen.ellipse("main", 0, 10, 10, 10)
    pen.blob("#fff6df", (-3, 19), (-1.5, 10), (-3, 1), (3.4, 1), (5.4, 10), (3.4, 19), ink=False)
    pen.ellipse("#fff6df", -0.2, 17.6, 2.4, 1.6, ink=False)
    pen.ellipse("main-", 0.5, 10, 2.4, 2.6, ink=False)
    pen.mark(grip=(-8.5, 10), top=(0, 20), rest=(0, 0))


def basket(pen: Pen) -> None:
    """A basket with a handle, full of fruit."""
    pen.curve("#8a5a33", (-9, 12), (-7, 21), (0, 24), (7, 21), (9, 12), width=2)
    for x, fruit in ((-6, "#d8392f"), (0, "#f0a030"), (6, "#6fae3c")):
        pen.ellipse(fruit, x, 13.4, 3.6, 3.6)
    pen.cut()
    pen.polygon("#cf9a55", (-12.5, 13), (12.5, 13), (9, 1), (-9, 1))
    for y in (4.6, 8.6):
        pen.limb("#9a6a33", (-10.4, y), (10.4, y), width=1, ink=False)
    pen.mark(grip=(0, 24), top=(0, 24), rest=(0, 1))


def tree(pen: Pen) -> None:
    """A round tree; ``shade`` is the middle of the crown's lower edge."""
    pen.polygon("#8a5a33", (-6.4, 0.5), (6.4, 0.5), (3.4, 12), (3.4, 54), (-3.4, 54), (-3.4, 12))
    pen.cut()
    for x, y, r in ((-18, 60, 12), (18, 60, 12), (-12, 74, 12), (12, 74, 12), (0, 80, 11), (0, 62, 13)):
        pen.ellipse("main", x, y, r, r * 0.92)
    for x, y in ((-14, 70), (5, 80), (14, 64), (-4, 62)):
        pen.curve("main+", (x - 4, y), (x - 1, y + 2.4), (x + 3, y + 1), width=1.6, ink=False)
    pen.mark(shade=(0, 50), top=(0, 90))


def palm(pen: Pen) -> None:
    """A palm; ``shade`` as the tree's."""
    pen.curve("#a8794a", (-4, 1.5), (-2, 20), (1, 42), (2, 64), width=5)
    for y in (10, 20, 30, 40, 50):
        pen.limb("#85592f", (-4 + y * 0.1, y), (0 + y * 0.1, y), width=0.8, ink=False)
    pen.cut()
    for tip, height in ((-30, 56), (30, 57), (-24, 72), (25, 73)):
        pen.blob(
            "main", (2, 66), (tip * 0.5 + 1, height * 0.5 + 41), (tip, height), (tip * 0.55 + 1, height * 0.5 + 32)
        )
    pen.cut()
    for x in (-1, 5):
        pen.ellipse("#6b4425", x, 63, 2.8, 2.8)
    pen.mark(shade=(0, 54), top=(0, 76))


def lamp(pen: Pen) -> None:
    """A street lamp whose light hangs to the right; ``shade`` is below the light."""
    pen.box("#3f464d", -4, 0, 4, 5)
    pen.curve("#4d565e", (0, 4), (0, 62), (3, 72), (14, 74), (20, 68), width=2.8)
    pen.cut()
    pen.polygon("#ffe27a", (13, 63), (27, 63), (24, 57), (16, 57))
    pen.polygon("#4d565e", (11, 63), (29, 63), (24, 69), (16, 69))
    pen.mark(shade=(20, 55), top=(8, 74))


def bush(pen: Pen) -> None:
    """A bush with berries."""
    for x, y, r in ((-13, 8, 8), (13, 8, 8), (-6, 14, 9), (7, 14, 9), (0, 7, 8)):
        pen.ellipse("main", x, y, r, r)
    for x, y in ((-12, 8), (-4, 16), (8, 12), (1, 6), (14, 6), (-5, 8), (6, 19)):
        pen.ellipse("#e23b3b", x, y, 1.7, 1.7, ink=False)
    pen.mark(top=(0, 22))


def puddle(pen: Pen) -> None:
    """A puddle on the ground."""
    pen.blob("#4a9fd0", (-27, 5), (-20, 9), (-4, 9.6), (14, 9), (27, 6), (24, 2), (8, 0.6), (-16, 0.8))
    pen.limb("#d7eefa", (-15, 6), (-3, 6.6), width=1.3, ink=False)
    pen.limb("#d7eefa", (6, 3.6), (16, 4), width=1.3, ink=False)
    pen.mark(top=(0, 9))


def snowman(pen: Pen) -> None:
    """A snowman with a hat and a scarf."""
    for y, r in ((12, 12.5), (29, 9), (42, 7)):
        pen.ellipse("#fbfdff", 0, y, r, r)
        pen.cut()
    for side in (-1, 1):
        pen.limb("#6b4425", (side * 8, 30), (side * 18, 36), width=1.4)
    pen.limb("main", (-6, 36), (6, 36), width=3.4)
    pen.polygon("#f08a2c", (1, 43.4), (10, 41.6), (1, 40.4))
    for x in (-2.6, 3):
        pen.eye(x, 44.6, 1.1)
    for y in (30, 26):
        pen.ellipse(INK, 0, y, 1.2, 1.2, ink=False)
    pen.cut()
    pen.box(INK, -5, 48, 5, 56)
    pen.limb(INK, (-8, 48.4), (8, 48.4), width=1.6)
    pen.limb("main", (-4.6, 50.4), (4.6, 50.4), width=2, ink=False)
    pen.mark(top=(0, 56))


def butterfly(pen: Pen) -> None:
    """A butterfly in the air."""
    for dx, dy, rx, ry, turn in (
        (-8, 26, 8.4, 6, 130),
        (8, 26, 8.4, 6, 50),
        (-6, 16, 5.6, 4.6, 40),
        (6, 16, 5.6, 4.6, 140),
    ):
        pen.ellipse("main", dx, dy, rx, ry, turn)
    pen.cut()
    for side in (-1, 1):
        pen.ellipse("#fff6df", side * 8.4, 27, 2.8, 2.4, ink=False)
        pen.ellipse("main-", side * 6, 16, 1.9, 1.9, ink=False)
        pen.curve(INK, (0, 28), (side * 1.6, 33), (side * 5, 36), width=0.8, ink=False)
    pen.limb(INK, (0, 13), (0, 28), width=2.2, ink=False)
    pen.mark(top=(0, 34), rest=(0, 11))


def _arc(x: Units, y: Units, rx: Units, ry: Units) -> list[Point]:
    import math

    return [(x - rx * math.cos(a * math.pi / 16), y + ry * math.sin(a * math.pi / 16)) for a in range(1, 16)]
