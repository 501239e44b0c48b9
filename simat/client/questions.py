"""From a query to the fields of a request."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np

from simat.edits import parse_edits
from simat.errors import QueryError
from simat.images import load_image, read_bytes
from simat.types import ImageInput, Query

PLAIN = ("text", "scale", "k", "composer", "include_self", "reference", "where", "seed", "samples", "strength")
DRAW, EDIT = "draw", "edit"
_UNSAID = Query()


def kind_of(query: Query) -> str:
    """The kind of question that a query is: ``draw`` with a layout, else ``edit``, which takes all the others."""
    return EDIT if query.layout is None else DRAW


def fields_of(query: Query) -> dict[str, Any]:
    """The fields of a query, those that differ from their defaults.

    Raises:
        ImageError: the image cannot be read.
        QueryError: edits that the edit language cannot write.
    """
    fields = {name: getattr(query, name) for name in PLAIN if getattr(query, name) != getattr(_UNSAID, name)}
    if query.parsed_edits:
        fields["edits"] = _edits(query)
    if isinstance(query.image, int | np.integer):
        fields["id"] = int(query.image)
    elif query.image is not None:
        fields["image"] = picture(query.image)
    if query.vector is not None:
        fields["vector"] = np.asarray(query.vector, np.float64).tolist()
    if query.mask is not None:
        fields["mask"] = mask(query.mask)
    if query.layout is not None:
        fields["segments"] = {words: mask(segment) for words, segment in query.layout.items()}
    return fields


def picture(image: ImageInput) -> str:
    """An image as the base64 of a file: of its own bytes where it has some.

    Raises:
        ImageError: it cannot be read.
    """
    if isinstance(image, str | Path):
        return base64.b64encode(read_bytes(image)).decode()
    if isinstance(image, int):
        raise QueryError("an id is no picture", got=image)
    return _png(load_image(image))


def mask(values: np.ndarray) -> str:
    """A mask [height, width], bool or in [0, 1], as the base64 of a grey picture: 1 is white.

    Raises:
        QueryError: it is none.
    """
    from PIL import Image

    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all() or values.min(initial=0) < 0 or values.max(initial=0) > 1:
        raise QueryError("a mask has two dimensions, and values in [0, 1]", got=f"shape {values.shape}")
    return _png(Image.fromarray(np.rint(values * 255).astype(np.uint8)))


def _edits(query: Query) -> str:
    text = query.edits if isinstance(query.edits, str) else ", ".join(map(str, query.edits))
    try:
        same = parse_edits(text) == query.parsed_edits
    except QueryError:
        same = False
    if not same:
        raise QueryError("these edits cannot be written", got=repr(text), remedy="leave out commas and arrows")
    return text


def _png(image: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
