"""``/v1/jobs``: the same questions as elsewhere, answered when they are; progress, cancelling, results for a time."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent

from simat.server.api.documented import problems
from simat.server.bodies import Body, read
from simat.server.events import Event
from simat.server.job import Job
from simat.server.problems import problem_document, status_of
from simat.server.questions import draw_query, edit_query, search_query
from simat.server.replies import answer_document, json_response
from simat.server.schemas import DrawFields, EditFields, JobFields, JobOut, Question, SearchFields
from simat.server.service import FOUND, Service
from simat.types import Answer, Cancel, OnStep, Query

PATH = "/v1/jobs"
PING_S = 15
UNREAD_S = 60.0  # for which a listener may leave an event unread
SCHEMAS: Mapping[str, type[Question]] = {"search": SearchFields, "edit": EditFields, "draw": DrawFields}


@dataclass(frozen=True)
class Asked:
    """What a job is to do."""

    kind: str
    index: str | None
    query: Query
    backend: str
    settings: Mapping[str, Any]


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(prefix="/v1", tags=["jobs"])
    known = {**problems(404)}

    @routes.post(
        "/jobs",
        status_code=202,
        summary="Hand in a search, an edit or a drawing",
        response_model=JobOut,
        responses=problems(400, 404, 413, 415, 422, 429, 503),
        openapi_extra=_documented(),
    )
    async def submit(request: Request) -> Response:
        asked = await _asked(service, await read(request, JobFields, service.options.upload_bytes))
        job = service.jobs.submit(partial(_work, service, asked), asked.kind, {"index": asked.index})
        response = await _told(service, job, 202)
        response.headers["Location"] = f"{PATH}/{job.id}"
        return response

    @routes.get("/jobs/{id}", summary="A job, with its answer once it is there", response_model=JobOut, responses=known)
    async def job(id: str) -> Response:
        return await _told(service, service.jobs.get(id))

    @routes.delete("/jobs/{id}", summary="Cancel a job, or forget its answer", response_model=JobOut, responses=known)
    async def cancel(id: str) -> Response:
        return await _told(service, service.jobs.cancel(id))

    @routes.get(
        "/jobs/{id}/events",
        summary="What happens in a job, as server-sent events",
        response_class=Response,
        responses={200: {"content": {"text/event-stream": {}}, "description": "state and step events"}, **known},
    )
    async def events(id: str, request: Request) -> Response:
        after = request.headers.get("last-event-id", "")
        found = service.jobs.get(id)
        number = int(after) if after.isascii() and after.isdigit() and len(after) < 10 else 0
        return EventSourceResponse(_stream(found, number), ping=PING_S, send_timeout=UNREAD_S)

    return routes


async def _asked(service: Service, body: Body[JobFields]) -> Asked:
    kind = body.fields.kind
    fields = SCHEMAS[kind].model_validate(body.fields.model_extra)
    backend = getattr(fields, "backend", FOUND)
    service.check_backend(backend)
    found = not service.makes_pictures(backend)
    index = service.name_of(fields.index, needed=found or fields.id is not None)
    query = await _query(service, Body(fields, body.files))
    return Asked(kind, index, query, backend, getattr(fields, "settings", {}))


async def _query(service: Service, body: Body[Any]) -> Query:
    if isinstance(body.fields, SearchFields):
        return await search_query(body, service.decode)
    if isinstance(body.fields, EditFields):
        return await edit_query(body, service.decode)
    return await draw_query(body, service.decode)


def _work(service: Service, asked: Asked, on_step: OnStep, cancel: Cancel) -> Answer:
    return service.answer(asked.index, asked.query, asked.backend, on_step, cancel, asked.settings)


async def _told(service: Service, job: Job, status: int = 200) -> Response:
    document = await asyncio.to_thread(_document, service, job)
    return json_response(document, status)


def _document(service: Service, job: Job) -> dict[str, Any]:
    answer = job.answer
    return {
        "id": job.id,
        "kind": job.kind,
        "state": str(job.state),
        "position": service.jobs.position(job),
        "created": job.created,
        "finished": job.finished,
        "step": job.step,
        "problem": _problem(job),
        "answer": None if answer is None else _answer(service, job, answer),
        "url": f"{PATH}/{job.id}",
        "events": f"{PATH}/{job.id}/events",
    }


def _answer(service: Service, job: Job, answer: Answer) -> dict[str, Any]:
    index = job.about.get("index")
    if index in service.names:
        return answer_document(answer, index, service.engine(index))
    # Without its index a path would tell the folders of this machine.
    bare = tuple(replace(result, id=None, path=None) for result in answer.results)
    return answer_document(replace(answer, results=bare), None, None)


def _problem(job: Job) -> dict[str, Any] | None:
    return None if job.error is None else problem_document(status_of(job.error), job.error)


async def _stream(job: Job, after: int) -> AsyncIterator[ServerSentEvent]:
    async for event in job.stream(after):
        yield ServerSentEvent(data=_data(job, event), event=event.kind, id=str(event.number))


def _data(job: Job, event: Event) -> str:
    told = dict(event.told)
    if event.kind == "step":
        picture = None if event.preview is None else base64.b64encode(event.preview).decode()
        told["preview"] = None if picture is None else f"data:image/jpeg;base64,{picture}"
    elif told.pop("error", None) is not None:
        told["problem"] = _problem(job)
    return orjson.dumps(told).decode()


def _documented() -> dict[str, Any]:
    """Any of the three questions, with its kind beside its fields."""
    shapes = [_shape(kind, schema) for kind, schema in SCHEMAS.items()]
    content = {media: {"schema": {"oneOf": shapes}} for media in ("application/json", "multipart/form-data")}
    return {"requestBody": {"required": True, "content": content}}


def _shape(kind: str, schema: type[BaseModel]) -> dict[str, Any]:
    shape = schema.model_json_schema(by_alias=False)
    properties = {"kind": {"const": kind, "type": "string"}, **shape["properties"]}
    return {**shape, "properties": properties, "required": ["kind", *shape.get("required", [])]}
