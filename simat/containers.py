"""Files that hold many pictures: a picture inside one has a path that goes on below the file.

``a.tar/dir/0001.jpg`` is a member of a tar, ``b.parquet/17`` and ``data-00000-of-00002.arrow/17`` are rows, by
number, of the column that :func:`simat.tables.image_column` finds; ``b.parquet/17/photo`` of another one. Whoever
opens a picture by its path opens such a path as well, and nothing is unpacked to disk.
"""

from __future__ import annotations

import os
import stat
import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path
from typing import Any

from simat.errors import ImageError, StorageError
from simat.tables import Table, image_column
from simat.tars import NOT_A_PICTURE, TarTable

TAR, TABLES = ".tar", (".parquet", ".arrow")
MOST_MEMBERS = 500_000  # of the tars whose tables are kept: some 350 bytes each
OPEN_TABLES = 4  # each may hold a batch of rows of pictures
State = tuple[int, int, int]


def read_bytes(path: Path, limit: int) -> bytes:
    """The bytes of a regular file, or of a picture inside a container.

    Args:
        path: of either.
        limit: bytes at most.

    Raises:
        ImageError: missing, unreadable, empty, too large, or no regular file.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        found = split(path)
        if found is None:
            raise _unreadable(path, error) from error
        data = _inside(*found, limit)
    else:
        data = _plain(path, status, limit)
    if not data:
        raise ImageError("the file is empty")
    return data


def size_of(path: Path) -> int:
    """The number of bytes that :func:`read_bytes` gives.

    Raises:
        ImageError: missing or unreadable.
    """
    try:
        return path.stat().st_size
    except (OSError, ValueError) as error:
        found = split(path)
        if found is None:
            raise _unreadable(path, error) from error
        if _is_tar(found[0]):
            return _member(*found)[1]
        held = _row(*found)
        return len(held) if isinstance(held, bytes) else size_of(held)


def split(path: Path) -> tuple[Path, str] | None:
    """A path below a container as the container and what follows; None for every other path."""
    for container in path.parents:
        if container.suffix.lower() in (TAR, *TABLES):
            try:
                if stat.S_ISREG(container.stat().st_mode):
                    return container, os.fspath(path)[len(os.fspath(container)) + 1 :]
            except (OSError, ValueError):
                continue
    return None


def tar_table(path: Path) -> TarTable:
    """The members of a tar; read once, and again where the file has changed.

    Raises:
        ImageError: it cannot be read, or is compressed.
    """
    return _tars.table(path, _state(path))


def table(path: Path) -> Table:
    """A Parquet or Arrow file, opened once, and again where it has changed.

    Raises:
        StorageError: missing or damaged.
        ImageError: missing.
    """
    return _table(path, _state(path))


def forget() -> None:
    """Close and forget what was opened: the next one to ask reads it anew."""
    _tars.forget()
    _table.cache_clear()


class _Tars:
    """The tables of the tars that were asked for last, of ``MOST_MEMBERS`` together or of one tar."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Path, State], TarTable] = OrderedDict()

    def table(self, path: Path, state: State) -> TarTable:
        with self._lock:
            if (path, state) in self._kept:
                self._kept.move_to_end((path, state))
                return self._kept[path, state]
        made = TarTable.of(path)
        with self._lock:
            self._kept[path, state] = made
            members = sum(len(table.members) for table in self._kept.values())
            while members > MOST_MEMBERS and len(self._kept) > 1:
                members -= len(self._kept.popitem(last=False)[1].members)
        return made

    def forget(self) -> None:
        with self._lock:
            self._kept.clear()


_tars = _Tars()
_table = lru_cache(OPEN_TABLES)(lambda path, state: Table(path))


def _state(path: Path) -> State:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return status.st_ino, status.st_size, status.st_mtime_ns


def _plain(path: Path, status: os.stat_result, limit: int) -> bytes:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError("a folder that cannot be read", got=path.name)
    if not stat.S_ISREG(status.st_mode):  # a pipe would block for ever
        raise ImageError("not a regular file", got=path.name)
    if _is_tar(path):  # listed for what is wrong with it
        raise ImageError(tar_table(path).damage or NOT_A_PICTURE, got=path.name)
    _check_size(status.st_size, limit)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _inside(container: Path, inner: str, limit: int) -> bytes:
    if _is_tar(container):
        start, size = _member(container, inner)
        _check_size(size, limit)
        try:
            with container.open("rb") as file:
                return os.pread(file.fileno(), size, start)
        except OSError as error:
            raise _unreadable(container, error) from error
    held = _row(container, inner)
    if not isinstance(held, bytes):
        return read_bytes(held, limit)
    _check_size(len(held), limit)
    return held


def _member(container: Path, inner: str) -> tuple[int, int]:
    found = tar_table(container)
    member = found.members.get(inner)
    if member is None:
        raise ImageError("no such file in the tar", got=inner)
    if member.problem is not None:
        raise ImageError(member.problem, got=inner)
    return member.start, member.size


def _row(container: Path, inner: str) -> bytes | Path:
    """What a row holds: a picture, or the path of its file."""
    data, path = _of_value(_value(container, inner))
    if data is not None:
        return data
    if path is None:
        raise ImageError("the row holds no image", got=f"{container.name}/{inner}")
    followed = container.parent / path
    if split(followed) is not None:  # a row that names a row could go on for ever
        raise ImageError("the row names a file inside another one", got=f"{container.name}/{inner}")
    return followed


def _value(container: Path, inner: str) -> Any:
    number, _, column = inner.partition("/")
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise ImageError("a row is a number", got=inner)
    try:
        opened = table(container)
        name = column or image_column(opened.schema)
        if name is None:
            raise ImageError("the table has no column of images", got=container.name)
        return opened.value(int(number), name)
    except StorageError as error:
        raise ImageError(error.what, got=error.got) from error


def _of_value(value: Any) -> tuple[bytes | None, str | None]:
    """Bytes or path of a picture, from the value of its column."""
    if isinstance(value, dict):
        data, path = value.get("bytes"), value.get("path")
        return (data, None) if data else (None, path or None)
    if isinstance(value, bytes):
        return value, None
    return None, value if isinstance(value, str) and value else None


def _is_tar(path: Path) -> bool:
    return path.suffix.lower() == TAR


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ImageError(f"larger than {limit >> 20} MiB", got=f"{size >> 20} MiB")


def _unreadable(path: Path, error: Exception) -> ImageError:
    reason = (error.strerror or error) if isinstance(error, OSError) else error
    return ImageError(f"cannot read the file: {reason}", got=str(path))
