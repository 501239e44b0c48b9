"""Files mapped into memory that keep no descriptor open: an index may have more parts than a process may open files."""

from __future__ import annotations

import ctypes
import os
import weakref
from functools import cache
from mmap import MAP_SHARED, PAGESIZE, PROT_READ
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

MADV_RANDOM, MADV_WILLNEED, MADV_DONTNEED = 1, 3, 4
WINDOW = 2**17  # bytes: Linux's usual read-ahead; where more are announced in one call, it may leave out the rest


class MappedFile:
    """A file's bytes, read-only; unmapped when nothing refers to them any more.

    Attributes:
        bytes: the whole file; it goes on being what it was when the file is removed.

    Raises:
        OSError: it cannot be opened or mapped.
    """

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.fstat(descriptor).st_size
            self.bytes: UInt8[np.ndarray, " bytes"] = _map(descriptor, size) if size else np.empty(0, np.uint8)
        finally:
            os.close(descriptor)

    def scatter(self) -> None:
        """Tell that a few bytes will be looked at here and there: what lies around them is not read from disk too."""
        self._advise(0, len(self.bytes), MADV_RANDOM)

    def expect(self, start: int, stop: int) -> None:
        """Tell that bytes [start, stop) are looked at next."""
        expect(self.bytes[start:stop])

    def release(self, start: int, stop: int) -> None:
        """Give the memory of bytes [start, stop) back to the system; they are read again when next looked at."""
        self._advise(start, stop, MADV_DONTNEED)

    def _advise(self, start: int, stop: int, advice: int) -> None:
        if len(self.bytes):
            _advise(self.bytes.ctypes.data + start, self.bytes.ctypes.data + stop, advice)


def expect(values: np.ndarray) -> None:
    """Tell that all of some mapped values are looked at next; nothing happens where they are in memory.

    They are read from disk at once, also where whoever mapped the file told that it is looked at here and there.
    """
    first, end = values.ctypes.data, values.ctypes.data + values.nbytes
    for start in range(first, end, WINDOW):
        _advise(start, min(start + WINDOW, end), MADV_WILLNEED)


def same_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays without gaps have the same bytes; nothing is looked at beyond the first that differ."""
    return a.nbytes == b.nbytes and _libc().memcmp(a.ctypes.data, b.ctypes.data, a.nbytes) == 0


def _advise(start: int, stop: int, advice: int) -> None:
    """Of memory from one address to another."""
    first = start - start % PAGESIZE
    if stop > first:
        _libc().madvise(first, stop - first, advice)


def _map(descriptor: int, size: int) -> UInt8[np.ndarray, " bytes"]:
    address = _libc().mmap(None, size, PROT_READ, MAP_SHARED, descriptor, 0)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    memory = (ctypes.c_ubyte * size).from_address(address)
    # At the end of the process the system unmaps: a thread may be reading still.
    weakref.finalize(memory, _libc().munmap, address, size).atexit = False
    values = np.ctypeslib.as_array(memory)
    values.flags.writeable = False
    return values


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    return libc
