"""``POST /v1/edit``: pictures like this one, but edited; found, or made."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from simat.server.api.documented import problems, reads
from simat.server.api.waiting import while_connected
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
        made = service.makes_pictures(fields.backend)
        name = service.name_of(fields.index, needed=fields.id is not None or not made)
        engine = None if name is None else service.engine(name)
        query = await edit_query(body, service.decode)
        work = service.answered(name, query, fields.backend, fields.settings)
        if not made:
            return reply(await work, name, engine)
        return await asyncio.to_thread(reply, await while_connected(request, work), name, engine)

    return routes
