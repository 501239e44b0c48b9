"""Damaged uploads: files of every format that somebody broke, and bodies that are hardly HTTP's any more."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
BOUNDARY = b"simat-fuzz"


@dataclass(frozen=True)
class Upload:
    """A request to make.

    Attributes:
        path: of the route.
        kind: its Content-Type.
        body: its body.
    """

    path: str
    kind: str
    body: bytes


def uploads(seed: int) -> Callable[[int], Upload]:
    """``upload(number)``: the same upload whenever a number of a seed is asked for."""
    whole = [_picture(format, edge) for format in FORMATS for edge in (8, 64, 400)]
    damages = (_flipped, _cut, _spliced, _grown, _with_great_numbers, _random, _lying_png, _unharmed)
    sendings = (_as_form, _as_json, _as_broken_form, _as_broken_json, _as_bare_file)

    def upload(number: int) -> Upload:
        rng = np.random.default_rng((seed, number))
        data = whole[rng.integers(len(whole))]
        for _ in range(rng.integers(1, 3)):
            data = damages[rng.integers(len(damages))](data, whole, rng)
        return sendings[rng.choice(len(sendings), p=(0.4, 0.3, 0.15, 0.1, 0.05))](data, rng)

    return upload


def _picture(format: str, edge: int) -> bytes:
    grid = np.random.default_rng(edge).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(grid).resize((edge, edge), Image.Resampling.BICUBIC).save(buffer, format)
    return buffer.getvalue()


def _unharmed(data: bytes, whole: list[bytes], rng: np.random.Generator) -> bytes:
    return data


def _random(data: bytes, whole: list[bytes], rng: np.random.Generator) -> bytes:
    return data[:4] + rng.bytes(rng.integers(0, 2000))


def _flipped(data: bytes, whole: list[bytes], rng: np.random.Generator) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    places = rng.integers(0, max(1, len(changed)), rng.integers(1, 20))
    if len(changed):
        changed[places] = rng.integers(0, 256, len(places))
    return changed.tobytes()


def _cut(data: bytes, whole: list[bytes], rng: np.random.Generator) -> bytes:
    return data[: rng.integers(0, len(data) + 1)]


def _spliced(data: bytes, whole: list[bytes], rng: np.random.Generator) -> bytes:
    other = whole[rng.integers(len(whole))]
    return data[: rng.integers(0, len(data) + 1)] + other[rng.integers(0, len(other)) :]


def _grown(data: bytes, whole: list[bytes], rng: np.random.Generator) -> bytes:
    place = rng.integers(0, len(data) + 1)
    return data[:place] + rng.bytes(rng.integers(1, 50)) * int(rng.integers(1, 200)) + data[place:]


def _with_great_numbers(data: bytes, whole: list[bytes], rng: np.random.Generator) -> bytes:
    """Where formats keep sizes and offsets, near the front, a number that is far too great."""
    place = int(rng.integers(0, max(1, min(64, len(data) - 4))))
    number = rng.choice([0, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFF, 0x10000])
    return data[:place] + struct.pack(rng.choice(["<I", ">I"]), number) + data[place + 4 :]


def _lying_png(data: bytes, whole: list[bytes], rng: np.random.Generator) -> bytes:
    """A PNG with right checksums around anything: a size that is not its own, and chunks that inflate."""
    width, height = (int(edge) for edge in rng.choice([0, 1, 7, 3000, 60_000, 2**31 - 1], 2))
    header = struct.pack(">IIBBBBB", width, height, *(int(b) for b in rng.choice([1, 2, 8, 16, 3, 6], 2)), 0, 0, 0)
    kind = bytes(rng.choice([b"IDAT", b"zTXt", b"iCCP", b"PLTE", b"eXIf", b"acTL", b"fdAT"]))
    pixels = zlib.compress(b"\0" * int(rng.integers(0, 2**20)), 9)
    chunks = [(b"IHDR", header), (kind, b"k\0\0" + pixels), (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _as_form(data: bytes, rng: np.random.Generator) -> Upload:
    if rng.random() < 0.5:
        return Upload("/v1/search", _form_kind(), _form(("image", data)))
    return Upload("/v1/edit", _form_kind(), _form(("image", data), ("edits", b"dog -> cat"), ("k", b"3")))


def _as_json(data: bytes, rng: np.random.Generator) -> Upload:
    import base64

    text = base64.b64encode(data).decode()
    questions = {
        "/v1/search": {"image": text},
        "/v1/encode": {"images": [text]},
        "/v1/edit": {"image": text, "edits": "dog -> cat"},
        "/knn-service": {"image": text, "modality": "image", "num_images": 3},
    }
    path = rng.choice([*questions])
    return Upload(path, "application/json", json.dumps(questions[path]).encode())


def _as_broken_form(data: bytes, rng: np.random.Generator) -> Upload:
    body = _flipped(_form(("image", data), ("edits", b"dog -> cat")), [], rng)
    return Upload("/v1/edit", _form_kind(), _cut(body, [], rng) if rng.random() < 0.5 else body)


def _as_broken_json(data: bytes, rng: np.random.Generator) -> Upload:
    good = _as_json(data[:300], rng)
    return Upload(good.path, good.kind, _flipped(good.body, [], rng))


def _as_bare_file(data: bytes, rng: np.random.Generator) -> Upload:
    kind = rng.choice(["image/png", "application/json", "multipart/form-data", "text/plain", "x", ""])
    return Upload("/v1/search", str(kind), data)


def _form_kind() -> str:
    return f"multipart/form-data; boundary={BOUNDARY.decode()}"


def _form(*fields: tuple[str, bytes]) -> bytes:
    parts = []
    for name, value in fields:
        file = b'; filename="x.png"\r\nContent-Type: image/png' if name == "image" else b""
        parts.append(b'Content-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name.encode(), file, value))
    return b"".join(b"--%s\r\n%s" % (BOUNDARY, part) for part in parts) + b"--%s--\r\n" % BOUNDARY
