"""Vector drawings: shapes in their own units, with named colours and anchors, and their rasters of palette slots.

x grows to the right, y grows *up* from the ground; 100 units are the side of a picture at scale 1. Everything faces
right. A colour is ``#rrggbb``, or a name that the scene resolves: ``main``, ``main-`` (darker), ``main+`` (lighter).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

Units = int | float  # whole numbers too, which the checks of types tell apart
Point = tuple[Units, Units]
Path = list[list[float]]  # x and y of points in pixels
INK = "#2b2422"
OUTLINE = 0.9  # units on each side of an edge
SMOOTH = 6  # points a smooth curve gets between two given ones
GAPING = 0.2  # units between the thick segments of a line that turns, before they get a round joint


@dataclass(frozen=True)
class Shape:
    """A filled polygon, or a thick line with round ends where ``width`` is positive.

    Attributes:
        points: its corners.
        fill: its colour; empty for none.
        width: thickness of a line in units; 0 for a polygon.
        inked: whether it has an outline.
        layer: outlines of a layer lie under all of its fills, so that its shapes melt into one silhouette.
    """

    points: Float[np.ndarray, "n 2"]
    fill: str
    width: Units
    inked: bool
    layer: int

    @cached_property
    def joints(self) -> list[int]:
        """Points of the outline where its thick line needs a round joint: see :func:`_joints`."""
        points = self.points if self.width else np.concatenate([self.points, self.points[:2]])
        return _joints(points, self.width / 2 + OUTLINE * self.inked)


@dataclass(frozen=True)
class Drawing:
    """Shapes from back to front, and the points where other drawings meet them.

    Attributes:
        fills: the colour of every slot; slot 0 is transparent, ``fills[0]`` is slot 1.
        box: left, bottom, right, top in units, outlines included.
    """

    shapes: tuple[Shape, ...]
    anchors: dict[str, Point]
    fills: tuple[str, ...]
    box: tuple[float, float, float, float]

    def raster(self, pixels_per_unit: Units) -> UInt8[np.ndarray, "h w"]:
        """The slots of the drawing, cropped to ``box`` grown to whole pixels."""
        left, _, right, top = self.box
        size = self.raster_size(pixels_per_unit)
        assert right > left, "an empty drawing"
        image = Image.new("L", size)
        draw = ImageDraw.Draw(image)
        slots = {fill: slot for slot, fill in enumerate(self.fills, 1)}
        for layer in sorted({shape.layer for shape in self.shapes}):
            shapes = [shape for shape in self.shapes if shape.layer == layer]
            flat = [((s.points - (left, top)) * (pixels_per_unit, -pixels_per_unit)).tolist() for s in shapes]
            for shape, points in zip(shapes, flat, strict=True):
                if shape.inked:
                    _stroke(draw, points, shape, slots[INK], pixels_per_unit)
            for shape, points in zip(shapes, flat, strict=True):
                _fill(draw, points, shape, slots[shape.fill], pixels_per_unit)
        return np.asarray(image)

    def raster_size(self, pixels_per_unit: Units) -> tuple[int, int]:
        """Width and height of :meth:`raster`."""
        left, bottom, right, top = self.box
        return int(np.ceil((right - left) * pixels_per_unit)), int(np.ceil((top - bottom) * pixels_per_unit))


class Pen:
    """Collects the shapes of one drawing."""

    def __init__(self) -> None:
        self._shapes: list[Shape] = []
        self._anchors: dict[str, Point] = {}
        self._layer = 0

    def cut(self) -> None:
        """Begin a layer: what follows is outlined against what was drawn before."""
        self._layer += 1

    def polygon(self, fill: str, *points: Point, ink: bool = True) -> None:
        """A polygon with straight edges."""
        self._add(np.array(points, dtype=float), fill, 0.0, ink)

    def blob(self, fill: str, *points: Point, ink: bool = True) -> None:
        """A closed smooth curve through the points (Catmull–Rom)."""
        self._add(_smooth(np.array(points, dtype=float), closed=True), fill, 0.0, ink)

    def ellipse(self, fill: str, x: Units, y: Units, rx: Units, ry: Units, turn: Units = 0, ink: bool = True) -> None:
        """An ellipse around (x, y), turned anticlockwise by ``turn`` degrees."""
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        ring = np.stack([rx * np.cos(angles), ry * np.sin(angles)], axis=1) @ _rotation(turn).T
        self._add(ring + np.array([x, y]), fill, 0.0, ink)

    def limb(self, fill: str, *points: Point, width: Units, ink: bool = True) -> None:
        """A thick line with round ends and joints."""
        self._add(np.array(points, dtype=float), fill, width, ink)

    def curve(self, fill: str, *points: Point, width: Units, ink: bool = True) -> None:
        """A thick smooth line with round ends."""
        self._add(_smooth(np.array(points, dtype=float), closed=False), fill, width, ink)

    def box(self, fill: str, x0: Units, y0: Units, x1: Units, y1: Units, ink: bool = True) -> None:
        """An upright rectangle."""
        self.polygon(fill, (x0, y0), (x1, y0), (x1, y1), (x0, y1), ink=ink)

    def eye(self, x: Units, y: Units, radius: Units = 0.9) -> None:
        """A dark eye with a glint."""
        self.ellipse(INK, x, y, radius, radius * 1.15, ink=False)
        self.ellipse("#ffffff", x + radius * 0.3, y + radius * 0.4, radius * 0.36, radius * 0.36, ink=False)

    def mark(self, **anchors: Point) -> None:
        """Name points where others meet this drawing."""
        self._anchors |= anchors

    def turned(self, degrees: Units) -> Pen:
        """The same drawing turned anticlockwise around its origin."""
        pen, rotation = Pen(), _rotation(degrees)
        pen._shapes = [Shape(s.points @ rotation.T, s.fill, s.width, s.inked, s.layer) for s in self._shapes]
        pen._anchors = {
            name: (float(x), float(y))
            for name, (x, y) in ((n, rotation @ np.array(p)) for n, p in self._anchors.items())
        }
        return pen

    def done(self) -> Drawing:
        """The finished drawing."""
        fills = tuple(dict.fromkeys([INK, *(shape.fill for shape in self._shapes)]))
        reach = [shape.width / 2 + OUTLINE * shape.inked for shape in self._shapes]
        low = np.min([s.points.min(axis=0) - r for s, r in zip(self._shapes, reach, strict=True)], axis=0)
        high = np.max([s.points.max(axis=0) + r for s, r in zip(self._shapes, reach, strict=True)], axis=0)
        left, bottom, right, top = (float(value) for value in (*low, *high))
        return Drawing(tuple(self._shapes), dict(self._anchors), fills, (left, bottom, right, top))

    def _add(self, points: Float[np.ndarray, "n 2"], fill: str, width: Units, ink: bool) -> None:
        self._shapes.append(Shape(points, fill, width, ink, self._layer))


def _rotation(degrees: Units) -> Float[np.ndarray, "2 2"]:
    angle = np.deg2rad(degrees)
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _smooth(points: Float[np.ndarray, "n 2"], closed: bool) -> Float[np.ndarray, "m 2"]:
    """Points on the Catmull–Rom spline through ``points``."""
    if closed:
        padded = np.concatenate([points[-1:], points, points[:2]])
    else:
        padded = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.linspace(0, 1, SMOOTH, endpoint=False)[:, None, None]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def _stroke(draw: ImageDraw.ImageDraw, points: Path, shape: Shape, slot: int, scale: Units) -> None:
    closed = shape.width == 0
    _line(draw, points + points[:2] if closed else points, slot, (shape.width + 2 * OUTLINE) * scale, shape.joints)


def _fill(draw: ImageDraw.ImageDraw, points: Path, shape: Shape, slot: int, scale: Units) -> None:
    if shape.width == 0:
        draw.polygon(list(chain.from_iterable(points)), fill=slot)
    else:
        _line(draw, points, slot, shape.width * scale, shape.joints)


def _line(draw: ImageDraw.ImageDraw, points: Path, slot: int, width: Units, joints: list[int]) -> None:
    draw.line(list(chain.from_iterable(points)), fill=slot, width=max(1, round(width)))
    radius = width / 2
    if radius >= 1:
        for x, y in (points[n] for n in joints):
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=slot)


def _joints(points: Float[np.ndarray, "n 2"], reach: Units) -> list[int]:
    """Ends, and points where the line turns so much that its thick segments would gape."""
    steps = np.diff(points, axis=0)
    angles = np.arctan2(steps[:, 1], steps[:, 0])
    turns = np.abs((np.diff(angles) + np.pi) % (2 * np.pi) - np.pi)
    return [0, *(np.flatnonzero(turns * reach > GAPING) + 1).tolist(), len(points) - 1]
