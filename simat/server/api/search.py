"""``POST /v1/search``: images nearest to words, to an image, or to both."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from simat.server.api.documented import problems, reads
from simat.server.bodies import read
from simat.server.questions import search_query
from simat.server.replies import reply
from simat.server.schemas import AnswerOut, SearchFields
from simat.server.service import FOUND, Service


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/v1", tags=["search"])

    @routes.post(
        "/search",
        summary="Images nearest to words, to an image, or to both",
        response_model=AnswerOut,
        responses=problems(400, 404, 413, 415, 422, 429, 503),
        openapi_extra=reads(SearchFields, "image"),
    )
    async def search(request: Request) -> Response:
        body = await read(request, SearchFields, service.options.upload_bytes)
        name = service.name_of(body.fields.index)
        engine = service.engine(name)
        query = await search_query(body, service.decode)
        return reply(await service.answered(name, query, FOUND), name, engine)

    return routes
