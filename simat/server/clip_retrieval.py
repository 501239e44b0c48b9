"""The protocol of clip-retrieval 2, for its clients and its front end.

``POST /knn-service``, ``POST /metadata``, ``GET /indices-list`` and ``GET /config.json``, with one slash or two before
them. Bodies are JSON whatever they call themselves. Which pages of other origins may ask is the business of
:mod:`simat.server.guard`. The columns of an image are
``image_path`` (relative to the folder that was indexed), ``caption`` where there is one, and ``image``, a JPEG in
base64, where its file is there. Words for safety, violence, aesthetics and the multilingual encoder are taken and do
nothing, as in a server of the original without those models.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response
from jaxtyping import Float32, Int64
from PIL.Image import Image
from starlette.concurrency import run_in_threadpool

from simat.backends.ranking import stored_vectors
from simat.engine import Engine
from simat.server.batching import Closed
from simat.server.bodies import BASE64, from_base64, read_body
from simat.server.columns import columns
from simat.server.duplicates import firsts
from simat.server.fetching import fetch
from simat.server.knn import KNN_FIELDS, METADATA_FIELDS, KnnRequest, fields_of, ids_of, text_of
from simat.server.neighbours import Found, Neighbours, Question
from simat.server.replies import json_response
from simat.server.service import FOUND, Service

SAME = 0.94  # cosine above which two images are near duplicates
FETCH_SECONDS = 10.0

Handler = Callable[[Request], Awaitable[Any]]


class Protocol:
    """Answers the requests of the protocol.

    Args:
        service: whose indices are asked.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._neighbours: dict[str, Neighbours] = {}
        self._lock = threading.Lock()

    async def knn(self, request: Request) -> list[dict[str, Any]]:
        """Images nearest to what is asked, best first: ``id``, ``similarity``, and the columns of the first ones."""
        self._service.check_backend(FOUND)
        wanted = KnnRequest.of(fields_of(await self._body(request)))
        if not wanted.results:
            return []
        picture = await self._picture(wanted)
        engine, future = self._submit(wanted, picture)
        found = await asyncio.wrap_future(future)
        return await run_in_threadpool(_told, engine, found, wanted)

    async def metadata(self, request: Request) -> list[dict[str, Any]]:
        """The columns of images by id."""
        fields = fields_of(await self._body(request))
        engine, ids = self._service.engine(text_of(fields, "indice_name")), ids_of(fields)
        told = await run_in_threadpool(columns, engine, ids)
        return [{"id": id, "metadata": one} for id, one in zip(ids, told, strict=True)]

    async def indices(self, request: Request) -> list[str]:
        """The names of the indices."""
        return list(self._service.names)

    async def config(self, request: Request) -> dict[str, str]:
        """What the front end wants to know before it asks."""
        return {"defaultBackend": str(request.base_url), "defaultIndex": "", "urlColumn": "url"}

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, int(self._service.options.upload_bytes * BASE64) + 2**20)

    async def _picture(self, wanted: KnnRequest) -> Image | None:
        options = self._service.options
        if wanted.image is not None:
            return await self._service.decode(from_base64(wanted.image, "image"))
        if wanted.image_url is not None:
            limits = options.fetch, options.upload_bytes, FETCH_SECONDS
            return await self._service.decode(await run_in_threadpool(fetch, wanted.image_url, *limits))
        return None

    def _submit(self, wanted: KnnRequest, picture: Image | None) -> tuple[Engine, Future[Found]]:
        while True:
            neighbours = self._of(wanted.index)
            sought = wanted.text or picture or neighbours.vector(wanted.vector or ())
            try:
                return neighbours.engine, neighbours.submit(Question(sought, wanted.results))
            except Closed:  # opened anew in this very moment
                continue

    def _of(self, index: str | None) -> Neighbours:
        """The queue before an index; a new one where the index was opened anew."""
        with self._lock:
            engine = self._service.engine(index)
            name = index or self._service.names[0]
            known = self._neighbours.get(name)
            if known is not None and known.engine is engine:
                return known
            if known is not None:
                known.close()
            self._neighbours[name] = Neighbours(engine, self._service.options, self._service.metrics.batch)
            return self._neighbours[name]


def router(service: Service) -> APIRouter:
    """The routes."""
    protocol, routes = Protocol(service), APIRouter(tags=["clip-retrieval"])
    _add(routes, "POST", "/knn-service", protocol.knn, KNN_FIELDS)
    _add(routes, "POST", "/metadata", protocol.metadata, METADATA_FIELDS)
    _add(routes, "GET", "/indices-list", protocol.indices)
    _add(routes, "GET", "/config.json", protocol.config)
    return routes


def _add(routes: APIRouter, method: str, path: str, handler: Handler, fields: Mapping[str, Any] | None = None) -> None:
    """A route under both of its names."""

    async def answer(request: Request) -> Response:
        return json_response(await handler(request))

    told: dict[str, Any] = {"summary": (handler.__doc__ or "").partition("\n")[0]}
    if fields is not None:
        content = {"application/json": {"schema": fields}}
        told["openapi_extra"] = {"requestBody": {"required": True, "content": content}}
    for name in (path, f"/{path}"):  # the front end puts a slash behind the server's address, and one before the path
        routes.add_api_route(name, answer, methods=[method], include_in_schema=name == path, **told)


def _told(engine: Engine, found: Found, wanted: KnnRequest) -> list[dict[str, Any]]:
    ids, scores = found.ids, found.scores
    if wanted.deduplicate and len(ids):
        kept = firsts(_vectors(engine, ids), SAME)
        ids, scores = ids[kept], scores[kept]
    told = columns(engine, ids[: wanted.told].tolist())
    told += [{}] * (len(ids) - len(told))
    pairs = zip(told, ids.tolist(), scores.tolist(), strict=True)
    return [{**column, "id": id, "similarity": score} for column, id, score in pairs]


def _vectors(engine: Engine, ids: Int64[np.ndarray, " n"]) -> Float32[np.ndarray, "n d"]:
    """The stored vectors of images, in their order."""
    order = np.argsort(ids)
    return stored_vectors(engine.searcher, engine.embeddings, ids[order])[np.argsort(order)]
