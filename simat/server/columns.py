"""What the clip-retrieval protocol tells of an image: its path, its caption, and the image itself as JPEG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from simat.documents import shown
from simat.embeddings import ImageRow
from simat.engine import Engine
from simat.errors import ImageError
from simat.images import decode, read_bytes

JPEG = b"\xff\xd8\xff"
SMALL = 256 * 2**10  # bytes: a JPEG up to here is told as it is
EDGE = 768  # pixels: the longest edge of what is told of the others
QUALITY = 88
REMEMBERED = 256  # pictures that were made smaller
MOST_BYTES = 32 * 2**20  # of pictures in one answer; images after that come without


def columns(engine: Engine, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The columns of images: ``image_path``, ``caption`` where there is one, ``image`` where its file can be read.

    Args:
        engine: whose images.
        ids: of the images.

    Raises:
        QueryError: an id that is not there.
    """
    told, left = [], MOST_BYTES
    for row in engine.embeddings.rows(np.array(ids, np.int64)):
        picture = as_jpeg(engine.embeddings.resolve(row)) if left > 0 else None
        left -= len(picture or b"")
        told.append(_of_row(row, picture))
    return told


def as_jpeg(path: Path) -> bytes | None:
    """An image file as a JPEG for a screen; None where it is gone or damaged."""
    try:
        state = path.stat()
        if state.st_size <= SMALL:
            data = read_bytes(path)
            if data.startswith(JPEG):
                return data
        return _smaller(path, state.st_mtime_ns, state.st_size)
    except (ImageError, OSError):
        return None


def _of_row(row: ImageRow, picture: bytes | None) -> dict[str, Any]:
    told = {"image_path": shown(Path(row.path))}
    if row.caption is not None:
        told["caption"] = row.caption
    if picture is not None:
        told["image"] = base64.b64encode(picture).decode()
    return told


@lru_cache(maxsize=REMEMBERED)
def _smaller(path: Path, modified: int, size: int) -> bytes:
    """The JPEG of a file as it was then."""
    picture = decode(read_bytes(path), EDGE)
    picture.thumbnail((EDGE, EDGE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()
