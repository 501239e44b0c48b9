"""DuckDB, shut in: it parses filters and evaluates them over tables that it is handed, and can reach nothing else."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool

from simat.errors import QueryError, StorageError
from simat.plugins import required

if TYPE_CHECKING:
    import pyarrow as pa

MEMORY = "1GB"  # for what one filter computes; the columns themselves are not DuckDB's
LIMIT_S = 10.0  # for one filter over one block of rows
AGAIN_S = 0.05
EXPRESSIONS, PIECE = "regexp_", 128  # functions that may take long for a row, and rows that no one stops them within
SETTINGS = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
    "memory_limit": MEMORY,
    "temp_directory": "",
    "max_expression_depth": "250",
}
MOST_TOLD = 200  # characters of what DuckDB says
BEFORE, AFTER = "SELECT 1 WHERE (", "\n)"


def serialized(text: str) -> str:
    """DuckDB's JSON form of a text parsed as the condition of a ``SELECT``, in brackets.

    Raises:
        QueryError: DuckDB raises anything at all.
    """
    with _session() as session, _told("the filter does not parse"):
        (document,) = session.execute("SELECT json_serialize_sql(?::VARCHAR)", [BEFORE + text + AFTER]).fetchone()
        return str(document)


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind and first character of every token: ``comment``, ``operator``, ``string_const``, ….

    Raises:
        QueryError: DuckDB raises anything at all.
    """
    raw = text.encode()
    with _told("the filter does not parse"):
        found = _duckdb().tokenize(text)
    for place, kind in found:
        yield kind.name, raw[place : place + 1].decode("ascii", "replace")


def evaluated(condition: str, table: pa.Table) -> Bool[np.ndarray, " rows"]:
    """Which rows of a table meet a condition: those where it is true, neither false nor null.

    Args:
        condition: SQL over the columns of the table.
        table: in memory.

    Raises:
        QueryError: the condition is no truth value, cannot be computed, or takes longer than ``LIMIT_S``.
    """
    import pyarrow as pa

    if EXPRESSIONS in condition:
        table = pa.Table.from_batches(table.to_batches(max_chunksize=PIECE), table.schema)
    with _session() as session, _told("the filter cannot be computed"):
        session.register("rows", table)
        with _limited(session):
            session.execute(f"SELECT ({condition}) FROM rows LIMIT 0")
            kind = str(session.description[0][1])
            if kind != "BOOLEAN":
                remedy = "compare it with something: width >= 640"
                raise QueryError("the filter is no condition", got=f"a value of type {kind}", remedy=remedy)
            found = session.execute(f"SELECT coalesce(({condition}), false) AS keep FROM rows").fetchnumpy()
    keep: Bool[np.ndarray, " rows"] = np.asarray(found["keep"], bool)
    return keep


@cache
def _database() -> Any:
    database = _duckdb().connect(":memory:", config=SETTINGS)
    database.execute("SET lock_configuration = true")
    atexit.register(_database.cache_clear)  # what lives on at the end of Python is complained of
    return database


@contextmanager
def _session() -> Iterator[Any]:
    """A connection of its own for whoever asks: DuckDB's are not to be shared between threads."""
    with _STARTING:
        database = _database()
    with closing(database.cursor()) as session:
        yield session


@contextmanager
def _limited(session: Any) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        if not ended.wait(LIMIT_S):
            while not ended.wait(AGAIN_S):  # what interrupts a query that is still being planned is lost
                session.interrupt()

    watcher = threading.Thread(target=watch, name="simat-where", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """DuckDB's errors as ours, on one line and without the statement they quote."""
    duckdb = _duckdb()
    try:
        yield
    except duckdb.InterruptException as error:
        raise QueryError(f"the filter takes longer than {LIMIT_S:.0f} s", remedy="make it simpler") from error
    except (duckdb.Error, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise QueryError(what, got=(reason.partition("Error: ")[2] or reason)[:MOST_TOLD]) from error


def _duckdb() -> Any:
    return required("duckdb", StorageError, "pip install duckdb")


_STARTING = threading.Lock()
