"""What the clip-retrieval protocol tells of an image: its path, its caption, and the image itself as JPEG."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simat.containers import size_of
from simat.documents import shown
from simat.embeddings import ImageRow
from simat.engine import Engine
from simat.errors import SimatError
from simat.protocols import Images
from simat.server import pictures

JPEG = b"\xff\xd8\xff"
SMALL = 256 * 2**10  # bytes: a JPEG up to here is told as it is
EDGE = pictures.SIZES[-1]  # pixels: the longest edge of what is told of the others
MOST_BYTES = 32 * 2**20  # of pictures in one answer; images after that come without


def columns(engine: Engine, ids: Sequence[int]) -> list[dict[str, Any]]:
    """The columns of images: ``image_path``, ``caption`` where there is one, ``image`` where its file can be read.

    Args:
        engine: whose images.
        ids: of the images.

    Raises:
        QueryError: an id that is not there, or was removed.
    """
    told, left = [], MOST_BYTES
    for row in engine.rows(np.array(ids, np.int64)):
        picture = as_jpeg(engine.embeddings, row) if left > 0 else None
        left -= len(picture or b"")
        told.append(_of_row(row, picture))
    return told


def as_jpeg(embeddings: Images, row: ImageRow) -> bytes | None:
    """An image as a JPEG for a screen; None where its file is gone, or is not what was indexed."""
    try:
        if size_of(embeddings.resolve(row)) <= SMALL:
            data = pictures.original(embeddings, row).data
            if data.startswith(JPEG):
                return data
        return pictures.thumbnail(embeddings, row, EDGE).data
    except SimatError:
        return None


def _of_row(row: ImageRow, picture: bytes | None) -> dict[str, Any]:
    told = {"image_path": shown(Path(row.path))}
    if row.caption is not None:
        told["caption"] = row.caption
    if picture is not None:
        told["image"] = base64.b64encode(picture).decode()
    return told
