"""From a scene to pixels: cached sprites on a cached backdrop, in palette slots at a multiple of the size, averaged.

Which thing a pixel belongs to comes from the same slots, so masks and picture cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data.regions import Box
from data.scenes.layout import Part
from data.scenes.palette import COLOURS, HAIRS, LEGS, SKINS, named, parse
from data.scenes.places import STUFF, backdrop
from data.scenes.scene import Scene, SceneError
from data.scenes.world import drawing

SUBJECT, OBJECT, FIRST_STUFF = 1, 2, 10
SIZES = (64, 512)
_SLOT = {OBJECT: 64, SUBJECT: 160}  # where a thing's slots begin in the palette


@dataclass(frozen=True)
class Rendered:
    """A picture and what each of its pixels shows.

    Attributes:
        image: RGB.
        segments: ``SUBJECT``, ``OBJECT``, or ``FIRST_STUFF`` + index in ``places.STUFF``.
    """

    image: Image.Image
    segments: UInt8[np.ndarray, "size size"]

    def mask(self, which: int) -> Bool[np.ndarray, "size size"]:
        """The visible pixels of ``SUBJECT`` or ``OBJECT``."""
        return np.asarray(self.segments == which)

    def box(self, which: int) -> Box:
        """The tight box around :meth:`mask`; all zero where nothing is visible."""
        return tight_box(self.mask(which))


def render(scene: Scene, size: int, without: int | None = None) -> Rendered:
    """Draw a scene.

    Args:
        size: edge in pixels, from 64 to 512.
        without: ``SUBJECT`` or ``OBJECT`` to leave out.

    Raises:
        SceneError: a size out of range.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise SceneError(f"a scene is {SIZES[0]} to {SIZES[1]} pixels wide", got=size)
    over = 4 if size <= 128 else 3 if size <= 256 else 2
    canvas = _backdrop(scene.place, scene.variant, size * over).copy()
    parts = {SUBJECT: scene.layout.subject, OBJECT: scene.layout.object}
    order = (OBJECT, SUBJECT) if scene.layout.subject_in_front else (SUBJECT, OBJECT)
    drawn = [_paste(canvas, scene, parts[which], _SLOT[which]) for which in order if which != without]
    # Only what is near a figure is averaged anew.
    top, left = (min(box[n] for box in drawn) // over for n in (0, 1))
    bottom, right = (-(-max(box[n] for box in drawn) // over) for n in (2, 3))
    figures = Image.fromarray(canvas[top * over : bottom * over, left * over : right * over])
    figures.putpalette(_palette(scene).tobytes())
    picture = _empty(scene.place, scene.variant, size, over).copy()
    picture.paste(figures.convert("RGB").reduce(over), (left, top))
    centres = canvas[over // 2 :: over, over // 2 :: over]
    return Rendered(picture, _segments(scene.place, scene.variant)[centres])


def tight_box(mask: Bool[np.ndarray, "h w"]) -> Box:
    """x0, y0, x1, y1 around the true pixels; all zero where there are none."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _paste(canvas: UInt8[np.ndarray, "n n"], scene: Scene, part: Part, slot: int) -> Box:
    """Draw a part on the canvas; returns the rows and columns where: top, left, bottom, right."""
    edge = len(canvas)
    unit = edge / 100 * scene.scale
    scale = unit * part.scale
    left, bottom, right, _ = scene.layout.box
    mirrored = scene.facing == "left"
    sprite, mask = _sprite(part.name, part.pose, round(scale, 6))
    if mirrored:
        sprite, mask = sprite[:, ::-1], mask[:, ::-1]
    height, width = sprite.shape
    x = (part.x - left) * unit + part.drawing.box[0] * scale
    if mirrored:
        x = (right - left) * unit - x - width
    x, y = (
        x + scene.x * edge / 100,
        edge - scene.y * edge / 100 - (part.y - bottom) * unit - part.drawing.box[3] * scale,
    )
    row, column = round(y), round(x)
    np.copyto(canvas[row : row + height, column : column + width], sprite + np.uint8(slot - 1), where=mask)
    return row, column, row + height, column + width


@lru_cache(maxsize=2048)
def _sprite(name: str, pose: str, scale: float) -> tuple[UInt8[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    slots = drawing(name, pose).raster(scale)
    return slots, slots > 0


@lru_cache(maxsize=64)
def _backdrop(place: str, variant: int, edge: int) -> UInt8[np.ndarray, "n n"]:
    return backdrop(place, variant).raster(edge / 100)


@lru_cache(maxsize=64)
def _empty(place: str, variant: int, size: int, over: int) -> Image.Image:
    image = Image.fromarray(_backdrop(place, variant, size * over))
    image.putpalette(_ground(place, variant).tobytes())
    return image.convert("RGB").reduce(over)


@lru_cache(maxsize=64)
def _segments(place: str, variant: int) -> UInt8[np.ndarray, " slots"]:
    table = np.zeros(256, np.uint8)
    for slot, fill in enumerate(backdrop(place, variant).fills, 1):
        if ":" in fill:
            table[slot] = FIRST_STUFF + STUFF.index(fill.partition(":")[0])
    table[_SLOT[OBJECT] : _SLOT[SUBJECT]] = OBJECT
    table[_SLOT[SUBJECT] :] = SUBJECT
    return table


def _palette(scene: Scene) -> UInt8[np.ndarray, "slots 3"]:
    table = np.zeros((256, 3), np.uint8)
    ground = _ground(scene.place, scene.variant)
    table[: len(ground)] = ground
    parts = (scene.layout.subject, scene.layout.object)
    for part, colour, tint, slot in zip(
        parts, scene.colours, scene.tints, (_SLOT[SUBJECT], _SLOT[OBJECT]), strict=True
    ):
        paint = _paint(part.name, part.pose, colour, tint)
        table[slot : slot + len(paint)] = paint
    return table


@lru_cache(maxsize=64)
def _ground(place: str, variant: int) -> UInt8[np.ndarray, "slots 3"]:
    fills = backdrop(place, variant).fills
    return np.array([(0, 0, 0), *(parse(fill.rpartition(":")[2]) for fill in fills)], np.uint8)


@lru_cache(maxsize=4096)
def _paint(name: str, pose: str, colour: str, tint: tuple[int, int, int]) -> UInt8[np.ndarray, "slots 3"]:
    main = COLOURS[colour or "grey"]
    skin, hair, legs = SKINS[tint[0]], HAIRS[tint[1]], LEGS[tint[2]]
    if name == "horse":
        hair = (62, 44, 38) if colour != "black" else (120, 110, 104)
    return np.array([named(fill, main, skin, hair, legs) for fill in drawing(name, pose).fills], np.uint8)
