"""The application: routers, errors, documentation, and the page on top."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from simat import __version__
from simat.server import clip_retrieval, guard, problems
from simat.server.api import draw, edit, encode, health, images, indices, jobs, metrics, search
from simat.server.following import Follower
from simat.server.metrics import Counted
from simat.server.security import Security
from simat.server.service import Service

SUMMARY = 'Search images by "this one, but with a cat instead of a dog".'
ROUTERS = (search, edit, draw, jobs, images, encode, indices, health, metrics, clip_retrieval)


def create_app(service: Service, security: Security | None = None, page: bool = True) -> FastAPI:
    """The whole server as an ASGI application.

    Args:
        service: what it answers with; closed when the application shuts down.
        security: who may ask; None where others look after that (limits, logs and headers stay).
        page: whether the page is at ``/``.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        threading.Thread(target=service.warm, name="simat-warm", daemon=True).start()
        follower = Follower(service, service.options.follow)
        follower.start()
        yield
        await asyncio.to_thread(follower.close)
        await asyncio.to_thread(service.close)

    app = FastAPIOffline("/docs", None, title="simat", version=__version__, summary=SUMMARY, lifespan=lifespan)
    problems.install(app)
    app.add_middleware(Counted, metrics=service.metrics)
    guard.install(app, security, service.options.upload_bytes)
    for module in ROUTERS:
        app.include_router(module.router(service))
    if page:
        from simat.server.page import mount_page

        mount_page(app, service, service.jobs)
    return app
