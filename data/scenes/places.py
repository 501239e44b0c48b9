"""The eight places: flat picture-book backdrops, each fill labelled with the stuff it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from data.scenes.drawing import Drawing, Pen, Units
from data.scenes.palette import Rgb, parse

STUFF = (
    "sky", "cloud", "sun", "sea", "sand", "grass", "tree-backdrop", "hill", "building", "window", "pavement", "road",
    "snow", "wall", "picture", "floor", "path", "crop", "cactus", "barn",
)  # fmt: skip
VARIANTS = 6
HORIZON = 44.0
_FRAME = (0.0, 0.0, 100.0, 100.0)
# Floor and backdrop: what a figure must stand out from.
GROUNDS: dict[str, tuple[Rgb, ...]] = {
    "beach": (parse("#f3dfa8"), parse("#5cb8dc")),
    "park": (parse("#8fce6c"), parse("#c4e8f6")),
    "street": (parse("#b9bcc4"), parse("#e3b79a")),
    "snow": (parse("#f4f8fd"), parse("#b9d6ec")),
    "forest": (parse("#86b568"), parse("#5d9174")),
    "desert": (parse("#efc27e"), parse("#fbe3b8")),
    "field": (parse("#a9cf63"), parse("#bfe4f5")),
    "room": (parse("#cdc1dc"), parse("#f3e0bd")),
}


@cache
def backdrop(place: str, variant: int) -> Drawing:
    """A whole picture 100 × 100 units, without figures; its fills are ``stuff:#rrggbb``.

    Args:
        variant: in [0, ``VARIANTS``).
    """
    pen, generator = Pen(), np.random.default_rng([variant, *place.encode()])
    _DRAW[place](pen, generator)
    return replace(pen.done(), box=_FRAME)


def _flat(pen: Pen, stuff: str, colour: str, low: Units, high: Units) -> None:
    pen.box(f"{stuff}:{colour}", -1, low, 101, high, ink=False)


def _sky(pen: Pen, generator: np.random.Generator, colour: str, clouds: int = 2, sun: str = "#ffe27a") -> None:
    _flat(pen, "sky", colour, HORIZON - 8, 101)
    x = float(generator.choice([14, 84]))
    if sun:
        pen.ellipse(f"sun:{sun}", x, 87, 7, 7, ink=False)
    for n in range(clouds):
        cx, cy = 30 + 38 * n + generator.uniform(-12, 12), generator.uniform(76, 90)
        for dx, dy, r in ((-6, 0, 4), (0, 2, 5.4), (6, 0, 4.2)):
            pen.ellipse("cloud:#ffffff", cx + dx, cy + dy, r * 1.3, r * 0.8, ink=False)


def _beach(pen: Pen, generator: np.random.Generator) -> None:
    _sky(pen, generator, "#bfe6f7")
    _flat(pen, "sea", "#5cb8dc", 30, HORIZON + 14)
    for _ in range(7):
        x, y = generator.uniform(2, 90), generator.uniform(38, 55)
        pen.limb("sea:#9bd8ee", (x, y), (x + generator.uniform(4, 9), y), width=0.9, ink=False)
    pen.blob("sea:#e9f7fb", (-10, 38), (15, 36.5), (40, 39), (70, 36), (110, 38), (110, 20), (-10, 20), ink=False)
    pen.blob("sand:#f3dfa8", (-10, 36), (15, 34.5), (40, 37), (70, 34), (110, 36), (120, -10), (-20, -10), ink=False)
    for _ in range(9):
        x, y = generator.uniform(2, 98), generator.uniform(2, 30)
        pen.ellipse("sand:#e0c585", x, y, 1.1, 0.6, ink=False)


def _round_trees(pen: Pen, generator: np.random.Generator, colours: tuple[str, str], base: Units) -> None:
    for n in range(8):
        x, r = n * 14 + generator.uniform(-4, 4), generator.uniform(8, 12)
        pen.ellipse(f"tree-backdrop:{colours[n % 2]}", x, base + r * 0.7, r, r, ink=False)


def _park(pen: Pen, generator: np.random.Generator) -> None:
    _sky(pen, generator, "#c4e8f6")
    _round_trees(pen, generator, ("#a9d8a0", "#97cd92"), HORIZON - 4)
    _flat(pen, "grass", "#8fce6c", -1, HORIZON)
    side = int(generator.choice([-1, 1]))
    pen.blob("path:#e9dcb4", (50 - side * 6, HORIZON), (50 + side * 12, 36), (50 - side * 4, 26), (50 - side * 30, -6),
             (50 + side * 14, -6), (50 + side * 22, 24), (50 + side * 22, 36), (50, HORIZON), ink=False)  # fmt: skip
    for n in range(14):
        x, y = generator.uniform(2, 98), generator.uniform(2, 38)
        pen.ellipse(f"grass:{('#fff6df', '#f7d354', '#f2a7c3')[n % 3]}", x, y, 0.9, 0.9, ink=False)


def _street(pen: Pen, generator: np.random.Generator) -> None:
    _sky(pen, generator, "#cfe9f6", clouds=1, sun="")
    colours = ("#e3b79a", "#d9c3a5", "#c9a7a0", "#e6cfa6", "#b9c3c9")
    x = -6.0
    for n in range(6):
        width, height = generator.uniform(17, 24), generator.uniform(30, 44)
        pen.box(
            f"building:{colours[(n + int(generator.integers(5))) % 5]}",
            x,
            HORIZON - 4,
            x + width,
            HORIZON + height,
            ink=False,
        )
        for wy in np.arange(HORIZON + 5, HORIZON + height - 7, 10):
            for wx in np.arange(x + 3, x + width - 4, 6.5):
                pen.box("window:#f4f6f1", wx, wy, wx + 3.8, wy + 5.4, ink=False)
        x += width
    _flat(pen, "pavement", "#d9dadd", 36, HORIZON)
    _flat(pen, "pavement", "#a5a8b0", 34.6, 36)
    _flat(pen, "road", "#b9bcc4", -1, 34.6)
    for left in range(4, 100, 24):
        pen.polygon("road:#fbfbf6", (left, 17), (left + 12, 17), (left + 11, 20), (left + 1, 20), ink=False)


def _snow(pen: Pen, generator: np.random.Generator) -> None:
    _sky(pen, generator, "#b9d6ec", clouds=1, sun="")
    pen.blob("hill:#dbe8f5", (-20, 44), (10, 66), (34, 54), (60, 70), (96, 52), (120, 44), (50, 30), ink=False)
    for _ in range(7):
        x, h = generator.uniform(0, 100), generator.uniform(13, 20)
        for k in range(3):
            y = HORIZON - 3 + k * h * 0.28
            pen.polygon(
                "tree-backdrop:#7fa79f", (x - 6 + k * 1.4, y), (x + 6 - k * 1.4, y), (x, y + h * 0.5), ink=False
            )
    pen.blob("snow:#f4f8fd", (-20, 40), (10, 45), (45, 42), (80, 46), (120, 41), (120, -20), (-20, -20), ink=False)
    for _ in range(26):
        pen.ellipse("snow:#ffffff", generator.uniform(2, 98), generator.uniform(46, 98), 0.9, 0.9, ink=False)
    for _ in range(5):
        x, y = generator.uniform(5, 80), generator.uniform(4, 34)
        pen.curve("snow:#d5e3f1", (x, y), (x + 7, y + 1.4), (x + 14, y), width=1.1, ink=False)


def _room(pen: Pen, generator: np.random.Generator) -> None:
    _flat(pen, "wall", "#f3e0bd", 30, 101)
    for stripe in range(3, 100, 12):
        pen.box("wall:#eed6ab", stripe, 30, stripe + 5, 101, ink=False)
    x = float(generator.choice([8, 62]))
    pen.box("window:#fffaf0", x, 62, x + 30, 94, ink=False)
    pen.box("window:#bfe4f5", x + 2.4, 64.4, x + 13.8, 91.6, ink=False)
    pen.box("window:#bfe4f5", x + 16.2, 64.4, x + 27.6, 91.6, ink=False)
    other = 74.0 if x < 50 else 12.0
    pen.box("picture:#8a5a33", other, 70, other + 18, 90, ink=False)
    pen.box("picture:#cfe8c8", other + 2, 72, other + 16, 88, ink=False)
    pen.ellipse(f"picture:{generator.choice(['#f2a7c3', '#f7d354', '#8fb9e6'])}", other + 9, 80, 5, 5, ink=False)
    _flat(pen, "wall", "#fffaf0", 36, 39.4)
    _flat(pen, "floor", "#cdc1dc", -1, 36)
    for y in (7, 15, 23, 30):
        pen.limb("floor:#b8a8cc", (-1, y), (101, y), width=0.7, ink=False)


def _forest(pen: Pen, generator: np.random.Generator) -> None:
    _flat(pen, "tree-backdrop", "#5d9174", 30, 101)
    for colour, count, width in (("#4f8267", 8, 6.0), ("#74a587", 6, 7.5)):
        for n in range(count):
            x = (n + 0.5) * 100 / count + generator.uniform(-4, 4)
            pen.polygon(f"tree-backdrop:{colour}", (x - width / 2, 36), (x + width / 2, 36), (x + width * 0.36, 101),
                        (x - width * 0.36, 101), ink=False)  # fmt: skip
    for n in range(9):
        x = n * 12.5 + generator.uniform(-3, 3)
        pen.ellipse(f"tree-backdrop:{('#69a57c', '#78b389')[n % 2]}", x, 97, 10, generator.uniform(8, 13), ink=False)
    pen.blob("grass:#86b568", (-20, 38), (10, 41), (45, 39), (80, 42), (120, 39), (120, -20), (-20, -20), ink=False)
    for n in range(9):
        x, y = generator.uniform(2, 96), generator.uniform(2, 34)
        pen.polygon(f"grass:{('#6f9f55', '#9dc77c')[n % 2]}", (x - 1.6, y), (x + 1.6, y), (x, y + 4), ink=False)


def _desert(pen: Pen, generator: np.random.Generator) -> None:
    _sky(pen, generator, "#fbe3b8", clouds=0, sun="#fff3c9")
    shift = generator.uniform(-20, 20)
    pen.blob("hill:#e6b171", (-30 + shift, 40), (10 + shift, 60), (40 + shift, 50), (74 + shift, 62),
        (130 + shift, 40), (50, 20),
             ink=False)  # fmt: skip
    for _ in range(3):
        x, y = float(generator.choice([6, 18, 82, 94])), 40.0
        pen.limb("cactus:#8fae7a", (x, y), (x, y + 17), width=3, ink=False)
        pen.limb("cactus:#8fae7a", (x, y + 7), (x + 5, y + 7), (x + 5, y + 12), width=2.2, ink=False)
        pen.limb("cactus:#8fae7a", (x, y + 9), (x - 5, y + 9), (x - 5, y + 14), width=2.2, ink=False)
    pen.blob("sand:#efc27e", (-20, 40), (10, 44), (45, 40), (80, 45), (120, 40), (120, -20), (-20, -20), ink=False)
    for _ in range(6):
        x, y = generator.uniform(0, 80), generator.uniform(3, 36)
        pen.curve("sand:#dca860", (x, y), (x + 6, y + 1.6), (x + 13, y + 0.4), width=0.9, ink=False)


def _field(pen: Pen, generator: np.random.Generator) -> None:
    _sky(pen, generator, "#bfe4f5")
    pen.blob("hill:#b5dba0", (-20, 40), (14, 58), (46, 48), (80, 60), (120, 40), (50, 26), ink=False)
    x = float(generator.choice([10, 76]))
    pen.box("barn:#d98c7c", x, 44, x + 15, 56, ink=False)
    pen.polygon("barn:#a7665c", (x - 2, 56), (x + 17, 56), (x + 7.5, 64), ink=False)
    pen.box("barn:#fbeee6", x + 5, 44, x + 10, 51, ink=False)
    _flat(pen, "crop", "#f0d26e", 34, 46)
    for cx in np.arange(-10, 112, 4.5):
        pen.limb("crop:#d9b54c", (cx, 34), (50 + (cx - 50) * 0.82, 45.6), width=0.9, ink=False)
    _flat(pen, "grass", "#a9cf63", -1, 36)
    for _ in range(12):
        gx, y = generator.uniform(2, 96), generator.uniform(2, 32)
        pen.polygon("grass:#8fb94e", (gx - 1.4, y), (gx + 1.4, y), (gx + 0.4, y + 3.6), ink=False)


_DRAW: dict[str, Callable[[Pen, np.random.Generator], None]] = {
    "beach": _beach, "park": _park, "street": _street, "snow": _snow, "forest": _forest, "desert": _desert,
    "field": _field, "room": _room,
}  # fmt: skip
