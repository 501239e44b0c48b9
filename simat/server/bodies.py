"""The body of a request, as JSON or as a multipart form, to the fields of a schema and the files beside them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from simat.errors import TooLarge
from simat.server.problems import BadBody, Unsupported

M = TypeVar("M", bound=BaseModel)
BASE64 = 4 / 3
MOST_FILES = 24
MOST_FIELDS = 64
FORM = "multipart/form-data"
JSON = "application/json"


@dataclass(frozen=True)
class Body(Generic[M]):
    """What a request asks.

    Attributes:
        fields: checked by the schema.
        files: the bytes of files, by the name of their field.
    """

    fields: M
    files: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    def file(self, name: str) -> bytes | None:
        """The bytes of a picture, whether it came as a file or in base64; None where there is none.

        Raises:
            BadBody: no base64, or given both ways.
        """
        text, files = getattr(self.fields, name, None), self.files.get(name, ())
        if len(files) + (text is not None) > 1:
            raise BadBody(f"{name} is given twice")
        if files:
            return files[0]
        return None if text is None else from_base64(text, name)


def from_base64(text: str, name: str) -> bytes:
    """Bytes from base64, also of a data URL.

    Raises:
        BadBody: it is none.
    """
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadBody(f"{name} is no base64", got=repr(text[:40])) from error


async def read(request: Request, schema: type[M], limit: int) -> Body[M]:
    """Read a request.

    Args:
        request: its body is JSON, or a multipart form.
        schema: of the fields.
        limit: bytes of a file; what base64 adds is allowed for.

    Raises:
        TooLarge: the body is over the limit.
        Unsupported: another media type.
        BadBody: neither JSON nor a form.
        ValidationError: the schema refuses it.
    """
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if kind not in {JSON, FORM}:
        raise Unsupported("the body is JSON or a multipart form", got=kind, remedy=f"send {JSON} or {FORM}")
    body = await read_body(request, int(limit * BASE64) + 2**20)
    if kind == FORM:
        return await _form(request, body, schema)
    try:
        document = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise BadBody("the body is no JSON", got=str(error)) from error
    if not isinstance(document, dict):
        raise BadBody("the body is no JSON object", got=type(document).__name__)
    if len(document) > MOST_FIELDS:  # each would be an error of its own, and take its time
        raise BadBody("too many fields", got=len(document), remedy=f"there are never more than {MOST_FIELDS}")
    return Body(schema.model_validate(document))


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request, refused as soon as it grows over the limit.

    Raises:
        TooLarge: more bytes than ``limit``.
    """
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is over {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _form(request: Request, body: bytes, schema: type[M]) -> Body[M]:
    async def once() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(
        request.headers, once(), max_files=MOST_FILES, max_fields=MOST_FIELDS, max_part_size=len(body) + 1
    )
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise BadBody("the form cannot be read", got=str(error) or type(error).__name__) from error
    fields, files = await _parts(form)
    return Body(schema.model_validate(fields), files)


async def _parts(form: FormData) -> tuple[dict[str, Any], dict[str, list[bytes]]]:
    fields: dict[str, Any] = {}
    files: dict[str, list[bytes]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            files.setdefault(name, []).append(await value.read())
        elif name in fields:
            raise BadBody("a field is given twice", got=repr(name[:100]))
        else:
            fields[name] = value
    await form.close()
    return fields, files
