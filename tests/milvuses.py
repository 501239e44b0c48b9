"""Collections of Milvus Lite for tests, and a Milvus that listens."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from simat.embeddings import EmbeddingSet
from simat.manifest import IndexManifest, write_manifest
from simat.milvus.connection import Connection


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
def locked_up() -> Iterator[int]:
    """A port where every call is refused for want of a password."""
    import grpc

    class Refusing(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, handler_call_details: Any) -> Any:
            def refuse(_: bytes, context: Any) -> None:
                context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.server(ThreadPoolExecutor(1), handlers=[Refusing()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


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


class Noted(Connection):
    """Stands for a connection: notes how much is asked for at a time, and finds nothing.

    Attributes:
        hits: of every search.
        rows_asked: of every question for rows.
    """

    def __init__(self) -> None:
        self.hits: list[int] = []
        self.rows_asked: list[int] = []

    def search(self, queries: np.ndarray, k: int, *_: Any) -> list[list[tuple[int, float]]]:
        self.hits.append(len(queries) * k)
        return [[] for _ in queries]

    def rows(self, condition: str, fields: list[str], limit: int) -> list[dict[str, Any]]:
        self.rows_asked.append(limit)
        return []
