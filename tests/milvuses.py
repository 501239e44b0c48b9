"""Collections of Milvus Lite for tests, and a Milvus that listens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from simat.embeddings import EmbeddingSet
from simat.manifest import IndexManifest, write_manifest


def plain_index(folder: Path, embeddings: EmbeddingSet) -> Path:
    """An index over an embedding set in ``folder/embeddings``, without shards: all that a push reads."""
    rows = len(embeddings)
    write_manifest(folder, IndexManifest(embeddings.manifest.space, "embeddings", "Flat", (), rows))
    return folder


@contextmanager
def listening(file: Path) -> Iterator[int]:
    """A Milvus on a port of this machine."""
    from milvus_lite.adapter.grpc.server import start_server_in_thread

    server, database, port = start_server_in_thread(data_dir=str(file), host="127.0.0.1", port=0)
    try:
        yield port
    finally:
        server.stop(grace=0)
        database.close()


@contextmanager
def mute() -> Iterator[int]:
    """A port where connections are accepted and nothing is ever said."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        kept: list[socket.socket] = []

        def accept() -> None:
            try:
                while True:
                    kept.append(server.accept()[0])
            except OSError:  # closed: the test is over
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield server.getsockname()[1]
        for connection in kept:
            connection.close()


def nearest(vectors: np.ndarray, query: np.ndarray, among: np.ndarray, k: int) -> list[int]:
    """The ids of the k nearest stored vectors among some, by a sort of all inner products."""
    stored = vectors.astype(np.float16).astype(np.float32)
    return sorted(among.tolist(), key=lambda i: (-float(np.float32(stored[i] @ query)), i))[:k]
