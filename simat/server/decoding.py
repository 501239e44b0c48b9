"""The worker process that decodes uploads; :class:`simat.server.uploads.Decoder` starts it in :func:`main`.

It reads whatever a stranger sends, so it is a process of its own, with little memory, no files and a clock, and
nothing that it says is trusted. It speaks over one inherited socket: ``b"ready"`` once; then for every file that comes
a JSON header (``width`` and ``height``, or the fields of an :class:`ImageError`) and the RGB pixels, row by row.
"""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from typing import Any

from PIL import Image

from simat.errors import ImageError
from simat.images import decode_sized

READY = b"ready"
MEMORY = 512 * 2**20  # what the interpreter and its libraries map, and room for the file
MEMORY_PER_PIXEL = 24  # several copies in several modes
FILES = 32


def main() -> None:
    """Serve on the file descriptor, with the pixels and the seconds, given as arguments."""
    descriptor, pixels, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    Image.init()  # later no library can be loaded
    Image.MAX_IMAGE_PIXELS = None  # the limit is ours
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when to stop
    confine(MEMORY + MEMORY_PER_PIXEL * pixels)
    serve(Connection(descriptor), pixels, seconds)


def confine(memory: int) -> None:
    """Take from this process what decoding does not need: memory, new files, writing, core dumps."""
    limits = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_NOFILE: FILES,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        resource.setrlimit(kind, (most, most))


def serve(connection: Connection, pixels: int, seconds: float) -> None:
    """Decode file after file until the other end closes; one that takes longer than ``seconds`` ends the process."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send_bytes(READY)
        while True:
            answer(connection, pixels, seconds)


def answer(connection: Connection, pixels: int, seconds: float) -> None:
    """Decode the next file; what it took is free again afterwards."""
    data = connection.recv_bytes()
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor; its signal kills even inside a decoder
    header, picture = decoded(data, pixels)
    signal.setitimer(signal.ITIMER_PROF, 0)
    connection.send_bytes(json.dumps(header).encode())
    connection.send_bytes(picture)


def decoded(data: bytes, pixels: int) -> tuple[dict[str, Any], bytes]:
    """Header and pixels of one file."""
    try:
        picture, _ = decode_sized(data, max_pixels=pixels)
        return {"width": picture.width, "height": picture.height}, picture.tobytes()
    except ImageError as error:
        return {"what": error.what, "got": error.got and str(error.got), "remedy": error.remedy}, b""
    except MemoryError:
        return {"what": "the image takes too much memory to decode"}, b""
