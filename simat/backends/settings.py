"""Settings of generators: the fields of a frozen dataclass, from values or from text, with errors that list them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar, get_type_hints

from simat.errors import QueryError

S = TypeVar("S")


@dataclass(frozen=True)
class Limits:
    """The closed interval that a number of some settings must lie in."""

    low: float
    high: float = math.inf


UNIT = Limits(0.0, 1.0)


def settings_of(kind: type[S], *layers: Mapping[str, Any] | None) -> S:
    """The settings of a generator: its own defaults, overridden layer by layer.

    Args:
        kind: the dataclass; its ``__post_init__`` may check more.
        layers: values by name, later ones first served; text is read as JSON where the field is not a text.

    Raises:
        QueryError: a name that the dataclass does not have, or a value of another type.
    """
    given: dict[str, Any] = {}
    for layer in layers:
        given.update(layer or {})
    types = get_type_hints(kind)
    known = {field.name: types[field.name] for field in fields(kind)}  # type: ignore[arg-type]
    for name in given.keys() - known.keys():
        raise QueryError("no such setting", got=repr(name), remedy=f"there are: {', '.join(known)}")
    return kind(**{name: _value(name, value, known[name]) for name, value in given.items()})


def check_limits(settings: object, **limits: Limits) -> None:
    """Raise unless every named number of the settings lies within its limits.

    Raises:
        QueryError: names the setting and the interval; NaN is in none.
    """
    for name, limit in limits.items():
        value = getattr(settings, name)
        if not limit.low <= value <= limit.high or math.isinf(value):
            interval = f"at least {limit.low:g}" if math.isinf(limit.high) else f"in [{limit.low:g}, {limit.high:g}]"
            raise QueryError(f"the setting {name!r} must be {interval}", got=value)


def _value(name: str, value: Any, kind: Any) -> Any:
    plain = kind in {bool, int, float, str}
    if isinstance(value, str) and kind is not str:
        value = _read(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, list):
        value = tuple(value)
    if plain and type(value) is not kind:
        raise QueryError(f"the setting {name!r} is a {kind.__name__}", got=repr(value))
    return value


def _read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:  # a name, for settings that are one of several
        return text
