"""A worker process that decodes images; :class:`indexing.workers.Worker` starts it in :func:`main`.

It reads hostile files, so it is a process of its own, with a memory limit, that the build outlives. It speaks over
one inherited socket: the transform once, then a list of paths per message; it answers with :class:`Decoded` records
and, in one buffer, the pixels of those that could be decoded.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from simat.errors import ImageError
from simat.images import ImageTransform, decode_sized, read_bytes

MEMORY_LIMIT = 4 * 2**30


@dataclass(frozen=True)
class Decoded:
    """What became of one file.

    Attributes:
        reason: why it could not be decoded, None when it could.
        shape: of its pixels in the message's buffer.
    """

    sha256: str = ""
    width: int = 0
    height: int = 0
    shape: tuple[int, ...] = ()
    reason: str | None = None


def decode_file(path: str, transform: ImageTransform | None) -> tuple[Decoded, UInt8[np.ndarray, "h w 3"] | None]:
    """Read, hash, decode and transform one file; without a transform, the pixels are the whole picture's."""
    try:
        data = read_bytes(path)
        picture, (width, height) = decode_sized(data, transform.draft_edge if transform else None)
        pixels = transform.pixels(picture) if transform else np.asarray(picture)
    except ImageError as error:
        return Decoded(reason=str(error)), None
    except MemoryError:
        return Decoded(reason="it takes more memory than a decoder has"), None
    return Decoded(hashlib.sha256(data).hexdigest(), width, height, pixels.shape), pixels


def serve(connection: Connection) -> None:
    """Answer messages until the other end closes."""
    transform: ImageTransform | None = connection.recv()
    messages: SimpleQueue[Sequence[str] | None] = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, messages), daemon=True).start()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while (paths := messages.get()) is not None:
            answers = [decode_file(path, transform) for path in paths]
            connection.send([record for record, _ in answers])
            connection.send_bytes(b"".join(pixels.tobytes() for _, pixels in answers if pixels is not None))


def _receive(connection: Connection, messages: SimpleQueue[Sequence[str] | None]) -> None:
    """Take messages as they come: one of long names fills the socket, and the pool reads no answer while it sends."""
    try:
        while True:
            messages.put(connection.recv())
    except (EOFError, OSError):  # the build is gone
        pass
    finally:
        messages.put(None)


def main() -> None:
    """Serve on the file descriptor given as the only argument."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the build decides when to stop
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = None  # simat.images has limits of its own
    os.nice(5)  # the network is the bottleneck: let it have the cores it asks for
    serve(Connection(int(sys.argv[1])))
