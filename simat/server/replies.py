"""From an answer to what is sent: paths relative to the index's root, addresses of pictures, made ones in base64."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
from fastapi import Response
from PIL import Image

from simat.documents import as_document
from simat.engine import Engine
from simat.types import Answer, Result

MOST_NUMBERS = 4096  # of an array in an answer; greater ones stay here


def reply(answer: Answer, name: str | None, engine: Engine | None) -> Response:
    """An answer as a response.

    Args:
        answer: by any backend.
        name: the index that was asked.
        engine: the same, None for a generator without any.
    """
    return json_response(answer_document(answer, name, engine))


def json_response(document: Any, status: int = 200) -> Response:
    """Any document as JSON."""
    return Response(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), status, media_type="application/json")


def answer_document(answer: Answer, name: str | None, engine: Engine | None) -> dict[str, Any]:
    """What :class:`simat.server.schemas.AnswerOut` describes."""
    document = as_document(answer, None if engine is None else engine.embeddings.root)
    index = None if name is None else quote(name, safe="")
    for told, result in zip(document["results"], answer.results, strict=True):
        _add_pictures(told, result, index)
    return {**document, "extras": extras_document(answer.extras)}


def extras_document(extras: Mapping[str, Any]) -> dict[str, Any]:
    """What a backend has to tell, as far as JSON can: numbers and words as they are, pictures and masks as PNG.

    A picture is ``{"png": base64}``; an array of n masks [n, height, width], bool or in [0, 1], is
    ``{"masks": [base64, …]}``; another array is a list, up to ``MOST_NUMBERS`` numbers, and left out above.
    """
    told = {name: _told(value) for name, value in extras.items()}
    return {name: value for name, value in told.items() if value is not None}


def png(picture: Image.Image) -> str:
    """A picture as PNG, in base64."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _add_pictures(told: dict[str, Any], result: Result, index: str | None) -> None:
    told["image"] = None if result.image is None else png(result.image)
    found = result.id is not None and index is not None
    told["url"] = f"/v1/images/{result.id}?index={index}" if found else None
    told["thumbnail"] = f"/v1/images/{result.id}/thumbnail?index={index}" if found else None


def _told(value: Any) -> Any:
    if isinstance(value, Image.Image):
        return {"png": png(value)}
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Mapping):
        return {str(key): _told(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    if isinstance(value, str | int | float | bool | np.generic):
        return value
    return None


def _array(array: np.ndarray) -> Any:
    if array.ndim == 3 and (array.dtype == bool or _is_share(array)):
        greys = np.rint(array.astype(np.float32) * 255).astype(np.uint8)
        return {"masks": [png(Image.fromarray(grey)) for grey in greys]}
    return array.tolist() if array.size <= MOST_NUMBERS else None


def _is_share(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and bool(array.size) and bool(((array >= 0) & (array <= 1)).all())
