"""One question to several backends: each gets the fields and settings it takes, none is left that nobody takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from simat import plugins
from simat.backends import ALWAYS
from simat.cli.pictures import steps_shown
from simat.errors import QueryError
from simat.types import Query

if TYPE_CHECKING:
    from simat.engine import Engine
    from simat.studios import Studio
    from simat.types import Answer


def answered(
    place: Studio | Engine, names: Sequence[str], query: Query, settings: Mapping[str, Any]
) -> Iterator[Answer]:
    """The answers of the named backends to one query, one after another, with bars.

    Raises:
        QueryError: a field or setting that no backend takes, or that the only one does not take.
    """
    factories = {name: plugins.load(plugins.BACKENDS, name) for name in names}
    given = _given(query)
    _check_taken("would all ignore", given.keys(), {field for f in factories.values() for field in _fields(f, given)})
    known = {name for factory in factories.values() for name in _settings(factory)}
    _check_taken("have no setting", settings.keys(), known)
    for name, factory in factories.items():
        own = Query(**{field: given[field] for field in _fields(factory, given)})
        tuned = {key: value for key, value in settings.items() if key in _settings(factory)}
        with steps_shown(name) as on_step:
            yield place.answer(own, name, on_step=on_step, settings=tuned)


def _given(query: Query) -> dict[str, Any]:
    blank = Query()
    values = {field.name: getattr(query, field.name) for field in fields(Query)}
    return {name: value for name, value in values.items() if _differs(value, getattr(blank, name))}


def _differs(value: Any, default: Any) -> bool:
    return value is not default if default is None else bool(value != default)


def _fields(factory: Any, given: Mapping[str, Any]) -> set[str]:
    accepts = getattr(factory, "accepts", None)
    return set(given) if accepts is None else set(given) & (accepts.requires | accepts.optional | ALWAYS)


def _settings(factory: Any) -> set[str]:
    kind = getattr(factory, "Settings", None)
    return set() if kind is None else {field.name for field in fields(kind)}


def _check_taken(how: str, given: Any, taken: set[str]) -> None:
    left = sorted(set(given) - taken)
    if left:
        there = f"they take {', '.join(sorted(taken))}" if taken else "they take none"
        raise QueryError(f"the backends {how} {', '.join(left)}", remedy=there)
