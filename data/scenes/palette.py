"""Named colours, and the choice of colours that can be told apart."""

from __future__ import annotations

from functools import cache

Rgb = tuple[int, int, int]
APART = 110.0  # redmean distance at which a thing stands out from what is behind it

COLOURS: dict[str, Rgb] = {
    "red": (214, 52, 46), "blue": (52, 104, 205), "yellow": (245, 200, 50), "green": (58, 145, 72),
    "orange": (238, 138, 44), "purple": (140, 74, 168), "pink": (236, 122, 170), "white": (246, 244, 238),
    "black": (62, 58, 64), "grey": (140, 146, 158), "brown": (140, 88, 52), "golden": (222, 166, 84),
    "turquoise": (50, 170, 170),
}  # fmt: skip
SKINS: tuple[Rgb, ...] = ((250, 213, 180), (236, 190, 148), (190, 132, 92), (134, 88, 60))
HAIRS: tuple[Rgb, ...] = ((92, 56, 34), (44, 36, 38), (214, 164, 74), (176, 84, 40))
LEGS: tuple[Rgb, ...] = ((56, 70, 112), (96, 84, 74), (74, 82, 88))


def parse(code: str) -> Rgb:
    """``#rrggbb`` as numbers."""
    return int(code[1:3], 16), int(code[3:5], 16), int(code[5:7], 16)


def shade(colour: Rgb, factor: float) -> Rgb:
    """Darker below 1, lighter above (towards white)."""
    if factor <= 1:
        red, green, blue = (int(c * factor) for c in colour)
    else:
        red, green, blue = (int(c + (255 - c) * (factor - 1)) for c in colour)
    return red, green, blue


def distance(one: Rgb, other: Rgb) -> float:
    """The redmean approximation of how different two colours look; 0 to about 765."""
    mean = (one[0] + other[0]) / 2
    red, green, blue = (a - b for a, b in zip(one, other, strict=True))
    return float(((2 + mean / 256) * red**2 + 4 * green**2 + (2 + (255 - mean) / 256) * blue**2) ** 0.5)


@cache
def distinct(names: tuple[str, ...], around: tuple[Rgb, ...]) -> list[str]:
    """The names whose colours stand out from all of ``around``; the best one where none does."""
    worth = {name: min((distance(COLOURS[name], colour) for colour in around), default=999.0) for name in names}
    return [name for name in names if worth[name] >= APART] or [max(names, key=lambda name: worth[name])]


@cache
def named(fill: str, main: Rgb, skin: Rgb, hair: Rgb, legs: Rgb) -> Rgb:
    """The colour of a drawing's fill; see :mod:`data.scenes.drawing`."""
    if fill.startswith("#"):
        return parse(fill)
    dark = min(main) > 120 and max(main) - min(main) < 60
    table = {
        "main": main, "main-": shade(main, 0.78), "main+": shade(main, 1.4), "skin": skin, "hair": hair, "legs": legs,
        "legs-": shade(legs, 0.75), "spot": shade(main, 0.25) if dark else (246, 244, 238), "muzzle": shade(main, 1.6),
    }  # fmt: skip
    return table[fill]
