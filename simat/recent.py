"""What was made of the last few objects, known by who they are and not by what they hold."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Recent:
    """Remembers what was made of ``size`` objects; safe to share between threads.

    For objects that are costly to compare and never change: each is kept as long as it is remembered, so that no
    other can take its place in memory.
    """

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._made: OrderedDict[int, tuple[object, Any]] = OrderedDict()

    def of(self, source: object, make: Callable[[], T]) -> T:
        """What ``make`` gave for this very object, or gives now."""
        with self._lock:
            if id(source) in self._made:
                self._made.move_to_end(id(source))
                known: T = self._made[id(source)][1]
                return known
        made = make()
        with self._lock:
            self._made[id(source)] = (source, made)
            while len(self._made) > self._size:
                self._made.popitem(last=False)
        return made
