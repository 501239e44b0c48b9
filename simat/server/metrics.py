"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
TOGETHER = (1, 2, 4, 8, 16, 32, 64, 128)
OTHER = "other"  # addresses that no route has; their number is anybody's choice


class Metrics:
    """Counters of one server.

    Attributes:
        registry: of prometheus_client.
        waiting: queries that wait for their batch.
        images: of every index.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "simat_requests", "Requests by route and status", ["route", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "simat_request_seconds", "From request to answer", ["route"], buckets=SECONDS, registry=self.registry
        )
        self._batches = Histogram(
            "simat_batch_queries", "Queries answered together", buckets=TOGETHER, registry=self.registry
        )
        self.waiting = Gauge("simat_waiting_queries", "Queries that wait for their batch", registry=self.registry)
        self.images = Gauge("simat_index_images", "Images of an index", ["index"], registry=self.registry)

    def batch(self, queries: int) -> None:
        """Count one batch."""
        self._batches.observe(queries)

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        self._requests.labels(route, method, status).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Everything, in the text format."""
        return generate_latest(self.registry)


class Counted:
    """Middleware that counts requests by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request and count it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            route = getattr(scope.get("route"), "path", OTHER)
            self._metrics.request(route, _method(scope["method"]), status, time.perf_counter() - started)


def _method(name: str) -> str:
    return name if name in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} else OTHER
