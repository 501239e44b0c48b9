"""The one door for encoders, backends and commands: entry points, for built-ins and strangers alike."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from simat.errors import SimatError

ENCODERS = "simat.encoders"
BACKENDS = "simat.backends"
COMMANDS = "simat.commands"


@cache
def registered(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name, sorted; nothing is imported."""
    return dict(sorted((point.name, point) for point in entry_points(group=group)))


def load(group: str, name: str) -> Any:
    """Import what is registered as ``name``.

    Raises:
        SimatError: no such name; the error lists the names there are.
    """
    points = registered(group)
    if name not in points:
        kind = group.rpartition(".")[2].removesuffix("s")
        raise SimatError(f"no such {kind}", got=repr(name), remedy=f"there are: {', '.join(points)}")
    return points[name].load()


def required(module: str, error: type[SimatError], remedy: str) -> Any:
    """Import a library that need not be there.

    Raises:
        SimatError: of the class ``error``: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as missing:
        raise error(f"{module} is not installed", remedy=remedy) from missing
