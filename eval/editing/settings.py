"""What is compared: backends at several strengths, and sweeps over one of their settings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from simat.errors import QueryError
from simat.files import sha256_text
from simat.types import Accepts

REFERENCE = "reference"
SWITCH = {"on": True, "off": False}


@dataclass(frozen=True)
class Setting:
    """One way to answer every case.

    Attributes:
        backend: its name.
        strength: of every query; None for backends that take none.
        options: settings of the backend, by name; values as text, which the backend reads.
        reference: whether the backend is told what the picture shows.
        limit: how many cases it answers; None for all.
    """

    backend: str
    strength: float | None = None
    options: tuple[tuple[str, str], ...] = ()
    reference: bool = True
    limit: int | None = None

    @property
    def variant(self) -> str:
        """The backend and what is set, without the strength: one curve of a figure."""
        told = [f"{name}={value}" for name, value in self.options]
        return " ".join([self.backend, *told, *([] if self.reference else ["without reference"])])

    @property
    def label(self) -> str:
        """As tables show it."""
        return self.variant if self.strength is None else f"{self.variant}, {self.strength:g}"

    @property
    def slug(self) -> str:
        """Name of its folder."""
        plain = re.sub(r"[^A-Za-z0-9.=_-]+", "-", self.label).strip("-")
        return f"{plain[:80]}-{sha256_text(self.label)[:8]}"

    @property
    def settings(self) -> Mapping[str, str]:
        """What the backend gets beside the query."""
        return dict(self.options)


def settings_of(
    accepts: Mapping[str, Accepts],
    strengths: Sequence[float],
    sweeps: Sequence[str] = (),
    limits: Mapping[str, int] | None = None,
    always: Sequence[str] = (),
) -> list[Setting]:
    """Every backend at every strength, and again for every value of each of its sweeps.

    Args:
        accepts: of the backends, by name, in the order of the report.
        strengths: for the backends that take one; the others answer once.
        sweeps: ``BACKEND.SETTING=VALUE,VALUE,…``; the setting ``reference`` takes ``on`` and ``off``.
        limits: number of cases, of backends that are too slow for all.
        always: ``BACKEND.SETTING=VALUE``: what every setting of a backend has.

    Raises:
        QueryError: a sweep of another form, or of a backend that is not compared.
    """
    fixed: dict[str, dict[str, str]] = {}
    for backend, name, (value, *others) in (_parsed(text, accepts) for text in always):
        if others:
            raise QueryError("one value, or a sweep", got=f"{backend}.{name} with {1 + len(others)} values")
        fixed.setdefault(backend, {})[name] = value
    found: dict[Setting, None] = {}
    for backend, fields in accepts.items():
        for options in _variants(backend, fixed.get(backend, {}), [_parsed(text, accepts) for text in sweeps]):
            takes = "strength" in fields.requires | fields.optional
            for strength in strengths if takes and strengths else (None,):
                told = {name: value for name, value in options.items() if name != REFERENCE}
                reference = SWITCH.get(options.get(REFERENCE, "on"))
                if reference is None:
                    raise QueryError(f"{backend}.{REFERENCE} is on or off", got=options[REFERENCE])
                limit = (limits or {}).get(backend)
                found[Setting(backend, strength, tuple(told.items()), reference, limit)] = None
    return [*found]


def parse_limits(text: str | None, backends: Sequence[str]) -> dict[str, int]:
    """``flexit=50,zestguide=100`` as numbers of cases.

    Raises:
        QueryError: another form, a backend that is not compared, or no number above 0.
    """
    limits = {}
    for part in text.split(",") if text else ():
        backend, _, number = part.strip().partition("=")
        if backend not in backends or not number.isdecimal() or not int(number):
            raise QueryError("a limit reads BACKEND=NUMBER", got=repr(part), remedy=f"backends: {', '.join(backends)}")
        limits[backend] = int(number)
    return limits


def _variants(
    backend: str, fixed: Mapping[str, str], sweeps: Sequence[tuple[str, str, Sequence[str]]]
) -> Iterator[dict[str, str]]:
    yield dict(fixed)
    for name, setting, values in sweeps:
        if name == backend:
            for value in values:
                yield {**fixed, setting: value}


def _parsed(text: str, known: Mapping[str, Accepts]) -> tuple[str, str, list[str]]:
    target, equals, values = text.partition("=")
    backend, dot, setting = target.strip().partition(".")
    parts = [value.strip() for value in re.split(r",(?![^\[]*\])", values)]  # a list in brackets is one value
    if not (equals and dot and setting and all(parts)):
        raise QueryError("a sweep reads BACKEND.SETTING=VALUE,VALUE", got=repr(text))
    if backend not in known:
        raise QueryError("a sweep of a backend that is not compared", got=backend, remedy=f"see {', '.join(known)}")
    return backend, setting, parts
