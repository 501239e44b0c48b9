"""The question in the address of the page, so that it can be shared, kept and gone back to."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final
from urllib.parse import urlencode

from simat.server.page.forms import DrawForm, EditForm, Form, SearchForm

TABS: Final[dict[str, type[Form]]] = {form.tab: form for form in (SearchForm, EditForm, DrawForm)}
NAMES = {
    "words": "q", "picture": "id", "source": "from", "target": "to", "backends": "by", "count": "k",
}  # fmt: skip
MOST = 4 * 128 * 128  # characters of a value


def to_link(form: Form) -> str:
    """The query part of the address: what differs from an empty form; a picture that was uploaded is left out."""
    pairs = [("tab", form.tab)]
    for each in fields(form):
        value = getattr(form, each.name)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if value not in (default, None, ""):
            pairs += _written(each.name, value)
    return urlencode(pairs)


def from_link(params: Mapping[str, str]) -> Form | None:
    """The form that an address tells; None where it tells none. What cannot be read keeps its default."""
    kind = TABS.get(params.get("tab", ""))
    if kind is None:
        return None
    given: dict[str, Any] = {}
    for each in fields(kind):
        value = _layout(params) if each.name == "layout" else _read(each.name, params.get(_key(each.name)))
        if value is not None:
            given[each.name] = value
    return kind(**given)


def _key(name: str) -> str:
    return NAMES.get(name, name)


def _written(name: str, value: Any) -> list[tuple[str, str]]:
    if name == "picture":
        number = value.get("id")
        return [] if number is None else [("id", str(number))]
    if name == "layout":
        words = ",".join(str(each).replace(",", " ") for each in value.get("words", ()))
        return [("segments", words), ("cells", str(value.get("cells", "")))]
    if name == "backends":
        return [("by", ",".join(value))]
    return [(_key(name), f"{value:g}" if isinstance(value, float) else str(value))]


def _read(name: str, text: str | None) -> Any:
    if text is None or len(text) > MOST:
        return None
    if name == "picture":
        return {"id": int(text)} if text.isascii() and text.isdigit() and len(text) < 19 else None
    if name == "backends":
        return tuple(each for each in text.split(",") if each)
    if name in {"count", "seed", "samples"}:
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    return _number(text) if name in {"scale", "strength"} else text


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _layout(params: Mapping[str, str]) -> dict[str, Any] | None:
    words, cells = params.get("segments"), params.get("cells", "")
    return None if words is None or len(words) + len(cells) > MOST else {"words": words.split(","), "cells": cells}
