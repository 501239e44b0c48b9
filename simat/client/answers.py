"""From what a server answers to an answer."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL.Image import Image

from simat.errors import FetchError
from simat.images import decode, mask_of
from simat.types import Answer, Result


def answer_of(document: Mapping[str, Any]) -> Answer:
    """An answer from its document; the paths of what was found are relative to the folder that was indexed.

    Raises:
        FetchError: it is no answer.
    """
    try:
        results = tuple(_result(told) for told in document["results"])
        extras = {name: _extra(value) for name, value in document["extras"].items()}
        return Answer(results, document["backend"], dict(document["timings"]), extras)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise FetchError("what the server sent is no answer", got=f"{type(error).__name__}: {error}") from error


def decoded(text: str) -> Image:
    """A picture from the base64 of its file.

    Raises:
        ImageError: it is none.
    """
    return decode(base64.b64decode(text))


def _result(told: Mapping[str, Any]) -> Result:
    image = None if told["image"] is None else decoded(told["image"])
    path = Path(told["path"]) if told["path"] else None
    return Result(told["score"], told["id"], path, told["caption"], image)


def _extra(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"png"}:
        return decoded(value["png"])
    if isinstance(value, dict) and value.keys() == {"masks"}:
        return _masks(value["masks"])
    if isinstance(value, dict):
        return {name: _extra(item) for name, item in value.items()}
    return [_extra(item) for item in value] if isinstance(value, list) else value


def _masks(texts: list[str]) -> Float32[np.ndarray, "n h w"]:
    """Masks in [0, 1], to the 255th part."""
    return np.stack([mask_of(decoded(text)) for text in texts])
