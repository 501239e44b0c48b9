"""``POST /v1/edit``: pictures like this one, but edited; found, or made."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from simat.server.api.documented import problems, reads
from simat.server.bodies import Body, read
from simat.server.questions import edit_query
from simat.server.replies import reply
from simat.server.schemas import AnswerOut, EditFields
from simat.server.service import Service


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/v1", tags=["edit"])

    @routes.post(
        "/edit",
        summary="Pictures like this one, but edited",
        response_model=AnswerOut,
        responses=problems(400, 404, 413, 415, 422, 429, 503),
        openapi_extra=reads(EditFields, "image", "mask"),
    )
    async def edit(request: Request) -> Response:
        body: Body[EditFields] = await read(request, EditFields, service.options.upload_bytes)
        fields = body.fields
        name = service.name_of(fields.index, needed=fields.id is not None or not service.makes_pictures(fields.backend))
        engine = None if name is None else service.engine(name)
        query = await edit_query(body, service.decode)
        return reply(await service.answered(name, query, fields.backend, fields.settings), name, engine)

    return routes
