"""``GET /v1/images/{id}`` and its thumbnail: files of an index, through its manifest only."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi import Path as InPath

from simat.errors import NotFound
from simat.server import pictures
from simat.server.api.documented import problems
from simat.server.service import Service

Id = Annotated[int, InPath(ge=0, lt=2**63, description="Of the index.")]
Index = Annotated[str | None, Query(description="Name of an index; the first one.")]
Size = Annotated[int, Query(description="Pixels, at most.", json_schema_extra={"enum": [*pictures.SIZES]})]
SENT: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file.", "content": {"image/*": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The range of it that was asked for."},
    304: {"description": "The client has it."},
    416: {"description": "There is no such range."},
    **problems(404, 422),
}


def router(service: Service) -> APIRouter:
    """The routes; they read files, so each request has a thread."""
    routes = APIRouter(prefix="/v1/images", tags=["images"])

    @routes.get("/{id}", summary="The file of an image", response_class=Response, responses=SENT)
    def image(request: Request, id: Id, index: Index = None) -> Response:
        engine = service.engine(index)
        row = pictures.row_of(engine, id)
        known = pictures.is_known(request, row.sha256)
        return pictures.respond(request, row.sha256, None if known else pictures.original(engine.embeddings, row))

    @routes.get("/{id}/thumbnail", summary="An image, small", response_class=Response, responses=SENT)
    def thumbnail(request: Request, id: Id, index: Index = None, size: Size = 256) -> Response:
        if size not in pictures.SIZES:
            raise NotFound("no thumbnails of this size", got=size, remedy=f"there are: {pictures.SIZES}")
        engine = service.engine(index)
        row = pictures.row_of(engine, id)
        tag = pictures.thumbnail_tag(row, size)
        known = pictures.is_known(request, tag)
        return pictures.respond(request, tag, None if known else pictures.thumbnail(engine.embeddings, row, size))

    routes.head("/{id}", include_in_schema=False)(image)
    routes.head("/{id}/thumbnail", include_in_schema=False)(thumbnail)
    return routes
