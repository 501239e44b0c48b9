"""``/v1/indices``: what this server has open, and what it can do with it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Response

from simat.server.abilities import abilities, index_document
from simat.server.api.documented import problems
from simat.server.replies import json_response
from simat.server.schemas import IndexOut, IndicesOut
from simat.server.service import Service


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1/indices", tags=["indices"])

    @routes.get("", summary="The indices, backends and composers", response_model=IndicesOut)
    def indices() -> Response:
        told = [index_document(name, service.engine(name)) for name in service.names]
        return json_response({"indices": told, **abilities(service)})

    @routes.get("/{name}", summary="One index", response_model=IndexOut, responses=problems(404))
    def index(name: str) -> Response:
        return json_response(index_document(name, service.engine(name)))

    @routes.post(
        "/{name}/reload",
        summary="Open the folder of an index anew; queries under way end on the old one",
        response_model=IndexOut,
        responses=problems(404, 409, 503),
    )
    async def reload(name: str) -> Response:
        engine = await asyncio.to_thread(service.reload, name)
        return json_response(await asyncio.to_thread(index_document, name, engine))

    return routes
