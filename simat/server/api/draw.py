"""``POST /v1/draw``: a picture from words, each where its mask wants it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request, Response

from simat.server.api.documented import problems, reads
from simat.server.api.waiting import while_connected
from simat.server.bodies import Body, read
from simat.server.questions import draw_query
from simat.server.replies import reply
from simat.server.schemas import AnswerOut, DrawFields
from simat.server.service import Service


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/v1", tags=["draw"])

    @routes.post(
        "/draw",
        summary="A picture from words, each where its mask wants it",
        response_model=AnswerOut,
        responses=problems(400, 404, 413, 415, 422, 429, 503),
        openapi_extra=reads(DrawFields, "image", "mask"),
    )
    async def draw(request: Request) -> Response:
        body: Body[DrawFields] = await read(request, DrawFields, service.options.upload_bytes)
        fields = body.fields
        name = service.name_of(fields.index, needed=fields.id is not None)
        engine = None if name is None else service.engine(name)
        query = await draw_query(body, service.decode)
        work = service.answered(name, query, fields.backend, fields.settings)
        return await asyncio.to_thread(reply, await while_connected(request, work), name, engine)

    return routes
