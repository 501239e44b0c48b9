"""The files of an index as they are sent: only what the manifest vouches for, byte by byte."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePath

import numpy as np
from fastapi import Request, Response
from PIL import Image

from simat.embeddings import ImageRow
from simat.engine import Engine
from simat.errors import ImageError, NotFound, QueryError
from simat.images import FORMATS, decode, read_bytes
from simat.protocols import Images

SIZES = (128, 256, 512)
REMEMBERED = 2048  # thumbnails, some 10 KB each
QUALITY = 85
CACHING = "private, no-cache"  # an id may be another image after a reload: ask, and hear that nothing has changed
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


@dataclass(frozen=True)
class Picture:
    """The bytes of an image file.

    Attributes:
        data: the whole file.
        media_type: of what it is, whatever its name.
        tag: names the bytes.
    """

    data: bytes
    media_type: str
    tag: str


def row_of(engine: Engine, id: int) -> ImageRow:
    """What the manifest knows of an image.

    Raises:
        NotFound: no image has this id, or it was removed.
    """
    try:
        return engine.rows(np.array([id], np.int64))[0]
    except QueryError as error:
        raise NotFound(error.what, got=error.got, remedy=error.remedy) from None


def original(embeddings: Images, row: ImageRow) -> Picture:
    """The file of an image, if it still is what was indexed.

    Raises:
        NotFound: it has moved, or holds something else now.
    """
    data = _indexed(embeddings.resolve(row), row.path, row.sha256)
    return Picture(data, _media_type(data), row.sha256)


def thumbnail(embeddings: Images, row: ImageRow, size: int) -> Picture:
    """An image as a small JPEG, at most ``size`` pixels wide and high.

    Raises:
        NotFound: as :func:`original` does.
    """
    return Picture(
        _thumbnail(embeddings.resolve(row), row.path, row.sha256, size), "image/jpeg", thumbnail_tag(row, size)
    )


def thumbnail_tag(row: ImageRow, size: int) -> str:
    """Names the bytes of a thumbnail."""
    return f"{row.sha256}-{size}"


def respond(request: Request, tag: str, picture: Picture | None) -> Response:
    """The response to a request for a picture.

    Args:
        request: may name a tag that it has, and a range of bytes.
        tag: of the picture.
        picture: None where the request has it already (:func:`is_known`).
    """
    headers = {"ETag": f'"{tag}"', "Cache-Control": CACHING, "Accept-Ranges": "bytes"}
    if picture is None:
        return Response(status_code=304, headers=headers)
    whole = Response(picture.data, headers=headers, media_type=picture.media_type)
    asked = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if asked is None or request.headers.get("if-range", f'"{tag}"') != f'"{tag}"':
        return whole
    size = len(picture.data)
    bounds = _bounds(asked[1], asked[2], size)
    if bounds is None:
        return whole
    start, stop = bounds
    if start >= min(stop, size):
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return Response(picture.data[start:stop], 206, headers, picture.media_type)


def is_known(request: Request, tag: str) -> bool:
    """Whether the client has the picture of this tag."""
    known = request.headers.get("if-none-match", "")
    return known == "*" or f'"{tag}"' in (one.strip().removeprefix("W/") for one in known.split(","))


@lru_cache(REMEMBERED)
def _thumbnail(file: Path, path: str, sha256: str, size: int) -> bytes:
    picture = decode(_indexed(file, path, sha256), size)
    picture.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _indexed(file: Path, path: str, sha256: str) -> bytes:
    gone = NotFound("the file of this image is not what was indexed", got=path, remedy="index the folder again")
    if PurePath(path).is_absolute() or ".." in PurePath(path).parts:
        raise gone
    try:
        data = read_bytes(file)
    except ImageError as error:
        raise gone from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise gone
    return data


def _media_type(data: bytes) -> str:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return Image.MIME.get(image.format or "", "application/octet-stream")
    except Exception:  # what was indexed by a newer Pillow
        return "application/octet-stream"


def _bounds(first: str, last: str, size: int) -> tuple[int, int] | None:
    """The bytes [start, stop) of a range; None where it names none."""
    if first:
        return int(first), min(int(last), size - 1) + 1 if last else size
    return (max(size - int(last), 0), size) if last else None
