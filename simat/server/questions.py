"""From the fields of a request to a query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from PIL.Image import Image

from simat.errors import QueryError
from simat.images import mask_of
from simat.server.bodies import Body, from_base64
from simat.server.problems import BadBody
from simat.server.schemas import DrawFields, EditFields, SearchFields
from simat.types import Query

Decode = Callable[[bytes], Awaitable[Image]]
SEGMENT = "segments."


async def search_query(body: Body[SearchFields], decode: Decode) -> Query:
    """The query of a search; the same choice of a composer as :meth:`simat.engine.Engine.search` makes."""
    fields = body.fields
    source = await _source(body, decode)
    alone = (fields.text is None) != (not source)
    if not alone and (fields.text is None or fields.composer is None):
        raise QueryError(
            "search for words or for an image",
            got="both" if source else "neither",
            remedy="to search for both, name a composer: weighted, slerp, product or basic" if source else None,
        )
    composer = fields.composer or ("image" if source else "text")
    own: dict[str, Any] = {
        "text": fields.text,
        "scale": fields.scale,
        "k": fields.k,
        "include_self": fields.include_self,
        "where": fields.where,
    }
    return Query(**source, **own, composer=composer)


async def edit_query(body: Body[EditFields], decode: Decode) -> Query:
    """The query of an edit."""
    fields = body.fields
    source, mask = await _source(body, decode), await _mask(body, decode)
    names = ("text", "scale", "k", "include_self", "reference", "strength", "seed", "samples", "where")
    own = {name: getattr(fields, name) for name in names}
    edits = () if fields.edits is None else fields.edits
    return Query(**source, **own, edits=edits, mask=mask, composer=fields.composer or "delta")


async def draw_query(body: Body[DrawFields], decode: Decode) -> Query:
    """The query of a drawing."""
    fields = body.fields
    source, mask = await _source(body, decode), await _mask(body, decode)
    masks = {words: from_base64(text, f"{SEGMENT}{words}") for words, text in fields.segments.items()}
    masks |= {name.removeprefix(SEGMENT): files[0] for name, files in body.files.items() if name.startswith(SEGMENT)}
    layout = {words: mask_of(await decode(data)) for words, data in masks.items()}
    own = {name: getattr(fields, name) for name in ("text", "strength", "seed", "samples")}
    return Query(**source, **own, layout=layout or None, mask=mask)


async def _source(body: Body[Any], decode: Decode) -> dict[str, Any]:
    fields = body.fields
    given: dict[str, Any] = {"id": fields.id, "image": body.file("image"), "vector": getattr(fields, "vector", None)}
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) > 1:
        raise BadBody("the image is given several times", got=", ".join(named), remedy="name it once")
    if "id" in named:
        return {"image": fields.id}
    if "vector" in named:
        return {"vector": np.array(fields.vector, np.float64)}
    return {"image": await decode(named["image"])} if named else {}


async def _mask(body: Body[Any], decode: Decode) -> np.ndarray | None:
    data = body.file("mask")
    return None if data is None else mask_of(await decode(data))
