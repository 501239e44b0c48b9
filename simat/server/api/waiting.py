"""Work that goes on only while somebody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request

from simat.errors import Cancelled

T = TypeVar("T")
LOOK_S = 0.5  # between two looks at the connection


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of work that is cancelled when the client goes away.

    Raises:
        Cancelled: it went.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=LOOK_S)
        if not task.done() and await request.is_disconnected():
            task.cancel()
            await asyncio.wait({task})
    if task.cancelled():
        raise Cancelled("the client has gone away")
    return task.result()
