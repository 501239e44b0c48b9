"""A connection to Milvus: every call has a limit, every failure is an error of ours."""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from simat.errors import StorageError
from simat.milvus.address import Address
from simat.plugins import required
from simat.reach import listens

TOKEN = "SIMAT_MILVUS_TOKEN"  # environment variable: user:password, or an API key
# Whole numbers: where pymilvus waits for an index, it takes others for no limit at all.
CONNECT_S, ASK_S, WRITE_S, FINISH_S = 5, 10, 120, 3600
OPENED: Counter[Path] = Counter()  # files of Milvus Lite, by how many connections of this process have them open
LOGGERS = ("pymilvus", "milvus_lite", "faiss.loader")
SILENT, DEPTH = "DEADLINE_EXCEEDED", 8
REFUSED, GONE = {"UNAUTHENTICATED", "PERMISSION_DENIED"}, {"UNAVAILABLE", SILENT}
_LOCK = threading.Lock()


class Connection:
    """One collection of one Milvus. Safe to share between threads.

    Args:
        address: of the collection, which need not be there.
        create: let a file of Milvus Lite be made where there is none.

    Raises:
        StorageError: pymilvus is not installed, or nobody answers within ``CONNECT_S`` and a few seconds.
    """

    def __init__(self, address: Address, create: bool = False) -> None:
        self.address = address
        client = _client_class()
        self._check(create)
        with self._told("cannot open Milvus"), self._alone():
            # A connection of its own, which ends with it: pymilvus keeps those that it shares for good.
            options = {"token": os.environ.get(TOKEN, ""), "timeout": CONNECT_S, "dedicated": True}
            self._client = client(address.uri, **options, **self._database())
            if address.file is not None:
                OPENED[address.file] += 1

    def properties(self) -> dict[str, str] | None:
        """Properties of the collection; None where there is no such collection."""
        with self._told("cannot ask Milvus"):
            if not self._client.has_collection(self._name, timeout=ASK_S):
                return None
            facts = self._client.describe_collection(self._name, timeout=ASK_S)
        return dict(facts.get("properties") or {})

    def create(self, schema: Any, properties: Mapping[str, str], index: Mapping[str, Any]) -> None:
        """Make the collection, empty and indexed."""
        with self._told("Milvus refuses the collection"):
            wanted = self._client.prepare_index_params()
            wanted.add_index(**index)
            self._client.create_collection(
                self._name, schema=schema, properties=dict(properties), index_params=wanted, timeout=WRITE_S
            )

    def drop(self) -> None:
        """Remove the collection and all it holds."""
        with self._told("Milvus cannot drop the collection"):
            self._client.drop_collection(self._name, timeout=WRITE_S)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Put rows in, in place of those with the same ids."""
        with self._told("Milvus cannot take the rows"):
            self._client.upsert(self._name, list(rows), timeout=WRITE_S)

    def finish(self) -> None:
        """Let what was written be indexed, kept and searched."""
        with self._told("Milvus cannot finish the collection"):
            self._client.flush(self._name, timeout=FINISH_S)
        self.load()

    def load(self) -> None:
        """Let the collection be searched; a great one may take long where it is not in memory yet."""
        with self._told("Milvus cannot load the collection"):
            self._client.load_collection(self._name, timeout=FINISH_S)

    def count(self, condition: str = "") -> int:
        """How many rows meet a condition, those of a moment ago too."""
        with self._told("Milvus cannot count"):
            found = self._client.query(
                self._name, condition, output_fields=["count(*)"], timeout=ASK_S, consistency_level="Strong"
            )
        return int(found[0]["count(*)"])

    def rows(self, condition: str, fields: Sequence[str], limit: int) -> list[dict[str, Any]]:
        """Fields of at most ``limit`` rows that meet a condition, in any order."""
        with self._told("Milvus cannot read"):
            return [
                dict(row)
                for row in self._client.query(
                    self._name, condition, output_fields=list(fields), limit=limit, timeout=ASK_S
                )
            ]

    def search(
        self, queries: np.ndarray, k: int, field: str, condition: str, parameters: Mapping[str, Any]
    ) -> list[list[tuple[int, float]]]:
        """Ids and inner products of the nearest rows, a list per query."""
        with self._told("Milvus cannot search"):
            found = self._client.search(
                self._name,
                data=queries.tolist(),
                filter=condition,
                limit=k,
                anns_field=field,
                search_params={"metric_type": "IP", "params": dict(parameters)},
                timeout=ASK_S,
            )
        return [[(int(hit["id"]), float(hit["distance"])) for hit in hits] for hits in found]

    def close(self) -> None:
        """Let go of the connection; after the last, a file of Milvus Lite can be opened elsewhere."""
        file = self.address.file
        with self._alone():
            self._client.close()
            if file is None:
                return
            OPENED[file] -= 1
            if not OPENED[file]:
                from milvus_lite.server_manager import server_manager_instance

                server_manager_instance.release_server(str(file))

    @property
    def _name(self) -> str:
        return self.address.collection

    def _alone(self) -> AbstractContextManager[object]:
        """Files are opened and closed one after another; servers that do not answer hold nobody else up."""
        return nullcontext() if self.address.file is None else _LOCK

    def _database(self) -> dict[str, str]:
        return {} if self.address.database == "default" else {"db_name": self.address.database}

    def _check(self, create: bool) -> None:
        """Say at once what pymilvus would say late, or at length."""
        address = self.address
        if address.file is None:
            if (reason := listens(address.host, address.port)) is not None:
                raise StorageError(
                    "no Milvus answers",
                    got=f"{address.host}:{address.port}: {reason}",
                    remedy="start it, or look at the address",
                )
        elif not address.file.exists() and not create:
            raise StorageError(
                "no such file of Milvus Lite", got=str(address.file), remedy="make it with 'simat index push'"
            )
        elif not address.file.parent.is_dir():
            raise StorageError("no such folder", got=str(address.file.parent))

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise StorageError(
                what, got=f"{self.address}: {_reason(error)}", remedy=_remedy(error, self.address)
            ) from error


def _client_class() -> Any:
    pymilvus = required("pymilvus", StorageError, "pip install 'simat[milvus]'")
    for name in LOGGERS:  # what they log, the errors say
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return pymilvus.MilvusClient


def _failed_call(error: BaseException | None) -> Any:
    """The gRPC call behind an error, None where there is none; pymilvus also makes errors the causes of themselves."""
    import grpc

    for _ in range(DEPTH):
        if error is None or (isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call)):
            return error
        error = error.__context__ if error.__cause__ in {None, error} else error.__cause__
    return None


def _reason(error: Exception) -> str:
    call = _failed_call(error)
    if call is not None and call.code().name == SILENT:
        return "no answer in time"
    told = str((call.details() if call is not None else None) or getattr(error, "message", "") or error).strip()
    return told.splitlines()[0] if told else type(error).__name__


def _remedy(error: Exception, address: Address) -> str | None:
    call, reason = _failed_call(error), _reason(error).lower()
    code = call.code().name if call is not None else ""
    if code in REFUSED or "auth" in reason or "permission" in reason:
        return f"set {TOKEN} to user:password"
    if address.file is not None and "local milvus" in reason:
        return "another process may have it open: close it there"
    return "look whether Milvus runs, and how busy it is" if code in GONE else None
