"""``POST /v1/encode``: texts and images to vectors of an index's space."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from fastapi import APIRouter, Request, Response

from simat.errors import QueryError
from simat.server.api.documented import problems, reads
from simat.server.bodies import from_base64, read
from simat.server.replies import json_response
from simat.server.schemas import EncodeFields, VectorsOut
from simat.server.service import Service


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(prefix="/v1", tags=["encode"])

    @routes.post(
        "/encode",
        summary="Texts and images to vectors",
        response_model=VectorsOut,
        responses=problems(400, 404, 413, 415, 422, 429, 503),
        openapi_extra=reads(EncodeFields, "images"),
    )
    async def encode(request: Request) -> Response:
        body = await read(request, EncodeFields, service.options.upload_bytes)
        name = service.name_of(body.fields.index)
        files = [from_base64(text, "images") for text in body.fields.images] + [*body.files.get("images", ())]
        if not (files or body.fields.texts):
            raise QueryError("nothing to encode", remedy="give texts or images")
        images = [await service.decode(data) for data in files]
        texts, pictures = await asyncio.gather(
            service.encode_texts(name, body.fields.texts), service.encode_images(name, images)
        )
        space = asdict(service.engine(name).space)
        return json_response({"index": name, "space": space, "texts": texts, "images": pictures})

    return routes
