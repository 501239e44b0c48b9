"""``/healthz``: the process lives. ``/readyz``: it has loaded what it answers with."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from simat import __version__
from simat.server.replies import json_response
from simat.server.service import Service


def router(service: Service) -> APIRouter:
    """The routes."""
    routes = APIRouter(tags=["health"])

    @routes.get("/healthz", summary="Whether the server lives")
    async def healthz() -> dict[str, Any]:
        return {"status": "ok", "version": __version__}

    @routes.get(
        "/readyz",
        summary="Whether the server is ready to answer",
        responses={503: {"description": "It is loading, or could not load, what it answers with."}},
    )
    async def readyz() -> Response:
        state = service.state()
        return json_response({"ready": state == "ready", "state": state}, 200 if state == "ready" else 503)

    return routes
