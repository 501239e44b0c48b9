"""What the OpenAPI document says of routes that read their bodies themselves."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from simat.server.problems import MEDIA_TYPE
from simat.server.schemas import ProblemOut

PROBLEMS = {400: "a body that cannot be read", 404: "no such index or image", 409: "another space", 413: "too large",
            415: "another media type", 422: "a query that cannot be answered", 429: "busy: try again later",
            503: "something that the server needs is not there"}  # fmt: skip


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Responses of the given statuses, as problem details."""
    content = {MEDIA_TYPE: {"schema": ProblemOut.model_json_schema()}}
    return {status: {"description": PROBLEMS[status], "content": content} for status in statuses}


def reads(schema: type[BaseModel], *files: str) -> dict[str, Any]:
    """A request body of JSON or of a form, in which the named fields are files."""
    document = schema.model_json_schema(by_alias=False)
    form = {**document, "properties": {**document["properties"]}}
    form["properties"] |= {name: {"type": "string", "format": "binary"} for name in files}
    content = {"application/json": {"schema": document}, "multipart/form-data": {"schema": form}}
    return {"requestBody": {"required": True, "content": content}}
