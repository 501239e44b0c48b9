"""JSON files larger than memory should be: their items one at a time, and one clear error where they break off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.corpus import CorpusError


def stream_items(path: Path, prefix: str, many: bool = False) -> Iterator[dict[str, Any]]:
    """The objects of an array, or of a sequence, in the order of the file.

    Args:
        prefix: where the array's items are: ``images.item`` for ``{"images": [...]}``, ``item`` for ``[...]``.
        many: the file is a sequence of JSON values, such as one a line; ``prefix`` is looked up in each.

    Raises:
        CorpusError: no such file, truncated or damaged JSON, or an item that is no object.
    """
    import ijson

    try:
        with path.open("rb") as file:
            for number, item in enumerate(ijson.items(file, prefix, use_float=True, multiple_values=many), 1):
                if not isinstance(item, dict):
                    raise CorpusError(f"{path.name}: {prefix or 'record'} {number} is no object", got=_shown(item))
                yield item
    except OSError as error:
        raise CorpusError(f"cannot read the annotations: {error.strerror}", got=str(path)) from error
    except (ijson.JSONError, ValueError) as error:  # some backends of ijson let the decoder's own errors through
        raise CorpusError("truncated or damaged JSON", got=str(path), remedy="download the file again") from error


def whole_number(item: dict[str, Any], key: str, path: Path) -> int:
    """The whole number under ``key``, from 0 to what 64 bits hold.

    Raises:
        CorpusError: there is none, or something else.
    """
    value = item.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise CorpusError(f"{path.name}: {key!r} should be a whole number", got=_shown(value))
    return value


def text(item: dict[str, Any], key: str, path: Path) -> str:
    """The text under ``key``.

    Raises:
        CorpusError: there is none, or something else.
    """
    value = item.get(key)
    if not isinstance(value, str):
        raise CorpusError(f"{path.name}: {key!r} should be text", got=_shown(value))
    return value


def _shown(value: object) -> str:
    return "nothing" if value is None else repr(value)[:40]
