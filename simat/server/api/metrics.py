"""``GET /metrics``: counters for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from simat.server.service import Service


def router(service: Service) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["health"])

    @routes.get("/metrics", summary="Counters for Prometheus", response_class=Response)
    def metrics() -> Response:
        service.count()
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes
