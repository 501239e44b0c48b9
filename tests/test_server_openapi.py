"""The OpenAPI document against the server: whatever it allows, and much that it does not, meets no inner error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import schemathesis
from helpers import ColourEncoder
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

import simat
from simat.server.app import create_app
from simat.server.options import ServiceOptions
from simat.server.service import Service

CLIP_RETRIEVAL = {"/knn-service", "/metadata", "/indices-list", "/config.json"}  # another protocol, with its own tests
STREAMS = "/v1/jobs/{id}/events"  # it ends with its job


@pytest.fixture(scope="module")
def document(colour_index: Any) -> Iterator[Any]:
    engine = simat.open(colour_index, ColourEncoder())
    with closing(Service([engine], ServiceOptions(backends=("retrieve",)))) as service:
        service.warm()
        yield schemathesis.openapi.from_asgi("/openapi.json", without_end(create_app(service, page=False)))


def without_end(app: Any) -> Any:
    """The application, which would close its service after every call of a client that starts and ends it."""

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})

    return served


ROUTES = [
    *(("POST", f"/v1/{noun}") for noun in ("search", "edit", "draw", "encode", "jobs")),
    *(("GET", f"/v1/{noun}") for noun in ("indices", "indices/{name}", "images/{id}", "images/{id}/thumbnail")),
    *(("GET", f"/{noun}") for noun in ("healthz", "readyz", "metrics")),
    ("POST", "/v1/indices/{name}/reload"),
    ("GET", "/v1/jobs/{id}"),
    ("DELETE", "/v1/jobs/{id}"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: part)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_nothing_that_the_document_describes_breaks_the_server(
    document: Any, method: str, path: str, mode: GenerationMode
) -> None:
    operation = document[path][method]

    @given(operation.as_strategy(generation_mode=mode))
    @settings(max_examples=8, suppress_health_check=[*HealthCheck], deadline=None, phases=[Phase.generate])
    def check(case: Any) -> None:
        case.call_and_validate(checks=[not_a_server_error, response_schema_conformance])

    try:
        check()
    except Unsatisfiable:  # there is nothing wrong to say to a route without fields
        assert mode is GenerationMode.NEGATIVE


def test_every_route_of_ours_is_tried(document: Any) -> None:
    described = {(o.ok().method.upper(), o.ok().path) for o in document.get_all_operations()}
    ours = {(method, path) for method, path in described if path.startswith("/v1/") or path.count("/") == 1}
    assert ours - {("GET", STREAMS)} == {*ROUTES} | {r for r in ours if r[1] in CLIP_RETRIEVAL}
