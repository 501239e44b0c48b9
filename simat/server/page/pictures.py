"""Pictures on their way between the page and the service: data URLs, and the value of a picker."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from simat.errors import ImageError, TooLarge
from simat.images import decode

SHOWN = 1024  # the longer edge, in pixels, of what is only looked at
Decode = Callable[[bytes], Image.Image]


def read_picker(value: Any, limit: int, read: Decode = decode) -> Image.Image | int | None:
    """What a picker holds: the id of an image of the index, the picture itself, or nothing.

    Args:
        value: ``{"id": n}`` or ``{"data": data URL}``, as the browser sent it; anything else in it is ignored.
        limit: the greatest picture file, in bytes.
        read: decodes it.

    Raises:
        ImageError: the value is neither, or no picture that can be read.
        TooLarge: more bytes than the limit.
    """
    if not isinstance(value, Mapping) or not value:
        return None
    number, data = value.get("id"), value.get("data")
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    if not isinstance(data, str):
        raise ImageError("a picture is a file or an image of the index", remedy="choose it again")
    return read(from_data_url(data, limit))


def from_data_url(url: str, limit: int) -> bytes:
    """The bytes of a base64 data URL.

    Raises:
        ImageError: it is none.
        TooLarge: more bytes than the limit.
    """
    head, comma, text = url.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        raise ImageError("a picture is a file or an image of the index", remedy="choose it again")
    if len(text) // 4 * 3 > limit + 3:
        raise TooLarge(f"a picture may have {limit >> 20} MiB", got=f"{len(text) // 4 * 3 >> 20} MiB")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("the picture is damaged on its way", remedy="choose it again") from error


def png_url(picture: Image.Image) -> str:
    """A picture as it is."""
    return _data_url(picture, "PNG")


def shown_url(picture: Image.Image) -> str:
    """A picture for looking at: a JPEG of at most ``SHOWN`` pixels."""
    small = picture
    if max(picture.size) > SHOWN:
        small = picture.copy()
        small.thumbnail((SHOWN, SHOWN))
    return _data_url(small.convert("RGB"), "JPEG", quality=88)


def _data_url(picture: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
