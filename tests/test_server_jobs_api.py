from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from helpers import blotches, encoded, plain
from starlette.testclient import TestClient
from talking import head, listening, talk

from simat.engine import Engine
from simat.errors import Cancelled, QueryError
from simat.server.app import create_app
from simat.server.options import ServiceOptions
from simat.server.service import Service
from simat.types import Answer, Cancel, OnStep, Query, Result, Step


class Slow:
    """In place of :meth:`Service.answer`: waits for a gate, then takes steps, until it is cancelled."""

    def __init__(self) -> None:
        self.gate, self.begun, self.asked = threading.Event(), threading.Event(), []  # type: ignore[var-annotated]

    def __call__(
        self,
        name: str | None,
        query: Query,
        backend: str,
        on_step: OnStep,
        cancel: Cancel,
        settings: Mapping[str, Any],
    ) -> Answer:
        self.asked.append((name, query, backend, settings))
        self.begun.set()
        for step in range(1, 4):
            while not self.gate.wait(0.02):
                if cancel():
                    raise Cancelled("cancelled")
            on_step(Step("denoise", step, 3, blotches(step)))
        if query.seed == 13:
            raise QueryError("an unlucky number", got=13, remedy="take another")
        extras = {"seed": 7, "mask": np.ones((1, 4, 4), bool)}
        return Answer((Result(0.0, image=blotches(9)),), backend, {"total": 0.1}, extras)


@pytest.fixture
def service(colours: Engine, tmp_path: Path) -> Iterator[Service]:
    made = Service([colours], ServiceOptions(queue=2, state=tmp_path / "state"))
    yield made
    made.jobs.close(patience=0.0)
    made.close()


@pytest.fixture
def slow(service: Service, monkeypatch: pytest.MonkeyPatch) -> Slow:
    """The service's answers, made slow."""
    work = Slow()
    monkeypatch.setattr(service, "answer", work)
    return work


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(create_app(service, page=False), "http://localhost")


def edit(**fields: Any) -> dict[str, Any]:
    return {"kind": "edit", "id": 3, "edits": "red -> blue", "backend": "diffedit", **fields}


def ended(client: TestClient, job: Mapping[str, Any]) -> dict[str, Any]:
    """The job once it has ended."""
    for _ in range(500):
        document = dict(client.get(job["url"]).json())
        if document["state"] not in {"waiting", "running"}:
            return document
        time.sleep(0.01)
    raise AssertionError(document)


def test_a_job_gives_the_answer_that_the_route_gives(client: TestClient) -> None:
    picture = base64.b64encode(encoded(plain("red"))).decode()
    for kind, fields in (
        ("search", {"text": "red", "k": 3}),
        ("search", {"image": picture, "k": 3}),
        ("edit", {"image": picture, "edits": "red -> blue", "k": 2}),
    ):
        direct = client.post(f"/v1/{kind}", json=fields).json()
        handed = client.post("/v1/jobs", json={"kind": kind, **fields})
        assert handed.status_code == 202
        assert handed.headers["location"] == handed.json()["url"]
        document = ended(client, handed.json())
        assert (document["state"], document["problem"], document["kind"]) == ("done", None, kind)
        assert document["answer"]["results"] == direct["results"]
        assert document["answer"]["backend"] == direct["backend"]


def test_a_job_takes_a_form(client: TestClient) -> None:
    files = {"image": ("red.png", encoded(plain("red")), "image/png")}
    handed = client.post("/v1/jobs", data={"kind": "edit", "edits": "red -> blue", "k": "1"}, files=files)
    (result,) = ended(client, handed.json())["answer"]["results"]
    assert result["path"] == "blue.png"


def test_a_job_tells_where_it_is(client: TestClient, slow: Slow) -> None:
    first = client.post("/v1/jobs", json=edit(settings={"steps": 4}, seed=5)).json()
    slow.begun.wait(5)
    second = client.post("/v1/jobs", json=edit()).json()
    assert client.get(first["url"]).json()["state"] == "running"
    told = client.get(second["url"]).json()
    assert (told["state"], told["position"], told["answer"], told["step"]) == ("waiting", 0, None, None)
    slow.gate.set()
    document = ended(client, first)
    assert document["step"] == {"stage": "denoise", "step": 3, "total": 3}
    assert document["finished"] >= document["created"]
    assert document["answer"]["results"][0]["image"]
    assert document["answer"]["extras"]["seed"] == 7
    name, query, backend, settings = slow.asked[0]
    assert (query.image, query.edits, query.seed, backend) == (3, "red -> blue", 5, "diffedit")
    assert (settings, name) == ({"steps": 4}, client.get("/v1/indices").json()["indices"][0]["name"])


def test_a_job_that_fails_has_a_problem(client: TestClient, slow: Slow) -> None:
    slow.gate.set()
    document = ended(client, client.post("/v1/jobs", json=edit(seed=13)).json())
    assert document["state"] == "failed"
    problem = document["problem"]
    assert (problem["title"], problem["got"], problem["remedy"]) == ("an unlucky number", "13", "take another")
    assert (problem["status"], problem["type"]) == (422, "urn:simat:QueryError")


def test_a_job_is_cancelled_and_forgotten(client: TestClient, slow: Slow) -> None:
    running, waiting = (client.post("/v1/jobs", json=edit()).json() for _ in range(2))
    slow.begun.wait(5)
    assert client.delete(waiting["url"]).json()["state"] == "cancelled"
    assert client.delete(running["url"]).status_code == 200
    document = ended(client, running)
    assert (document["state"], document["problem"]["type"]) == ("cancelled", "urn:simat:Cancelled")
    assert client.delete(running["url"]).status_code == 200
    assert client.get(running["url"]).status_code == 404


def test_a_full_queue_says_when_to_come_again(client: TestClient, slow: Slow) -> None:
    handed = [client.post("/v1/jobs", json=edit()).json() for _ in range(3)]
    full = client.post("/v1/jobs", json=edit())
    assert full.status_code == 429
    assert int(full.headers["retry-after"]) >= 10
    assert full.json()["title"] == "too many jobs are waiting"
    client.delete(handed[2]["url"])
    assert client.post("/v1/jobs", json=edit()).status_code == 202


@pytest.mark.parametrize(
    ("fields", "status", "reason"),
    [
        ({}, 422, "kind: field required"),
        ({"kind": "dance"}, 422, "kind: input should be"),
        ({"kind": "search"}, 422, "search for words or for an image"),
        ({"kind": "search", "text": "red", "k": 10**9}, 422, "k: input should be less"),
        ({"kind": "search", "text": "red", "index": "nowhere"}, 404, "no such index"),
        ({"kind": "search", "text": "red", "edits": "a -> b"}, 422, "edits: extra inputs"),
        ({"kind": "edit", "id": 1, "edits": "dog"}, 422, ""),
        ({"kind": "edit", "id": 1, "edits": "a -> b", "backend": "paint"}, 422, "no such backend"),
        ({"kind": "edit", "image": "!!", "edits": "a -> b"}, 400, "image is no base64"),
        ({"kind": "edit", "image": "aGVsbG8=", "edits": "a -> b"}, 422, "not an image"),
        ({"kind": "draw", "text": "a dog", "segments": {"dog": "aGVsbG8="}}, 422, "not an image"),
    ],
)
def test_a_bad_question_is_no_job(client: TestClient, fields: dict[str, Any], status: int, reason: str) -> None:
    answer = client.post("/v1/jobs", json=fields)
    assert answer.status_code == status
    assert reason in answer.json()["title"]


@pytest.mark.parametrize("name", ["x", "..%2f..%2fetc%2fpasswd", "%00", "a" * 5000])
@pytest.mark.parametrize("end", ["", "/events"])
def test_an_unknown_job_is_not_found(client: TestClient, name: str, end: str) -> None:
    answer = client.get(f"/v1/jobs/{name}{end}")
    assert answer.status_code in {400, 404}
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_job_is_found_by_the_next_server_without_its_index(
    client: TestClient, slow: Slow, service: Service, tmp_path: Path
) -> None:
    slow.gate.set()
    made = client.post("/v1/jobs", json=edit()).json()
    ended(client, made)
    service.close()
    with TestClient(create_app(Service((), ServiceOptions(state=tmp_path / "state")), page=False)) as other:
        found = other.get(made["url"]).json()
    assert found["state"] == "done"
    assert found["answer"]["results"][0]["image"]


def test_a_found_image_without_its_index_tells_no_folder(client: TestClient, service: Service, tmp_path: Path) -> None:
    made = client.post("/v1/jobs", json={"kind": "search", "text": "red", "k": 1}).json()
    assert ended(client, made)["answer"]["results"][0]["path"] == "red.png"
    service.close()
    with TestClient(create_app(Service((), ServiceOptions(state=tmp_path / "state")), page=False)) as other:
        text = other.get(made["url"]).text
    assert "red.png" not in text
    assert str(service.engine().embeddings.root) not in text


@pytest.fixture
def address(service: Service) -> Iterator[str]:
    with listening(create_app(service, page=False)) as port:
        yield f"http://127.0.0.1:{port}"


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream: id, event, and data as a document."""
    found = []
    for block in re.split(r"\r?\n\r?\n", text.strip()):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


def test_events_tell_what_happens(address: str, slow: Slow) -> None:
    job = httpx.post(f"{address}/v1/jobs", json=edit()).json()
    threading.Timer(0.2, slow.gate.set).start()
    answer = httpx.get(address + job["events"])
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events_of(answer.text)
    assert [event["id"] for event in told] == ["1", "2", "3", "4", "5", "6"]
    assert [event["event"] for event in told] == ["state", "state", "step", "step", "step", "state"]
    assert told[0]["data"] == {"state": "waiting"}
    assert told[-1]["data"] == {"state": "done"}
    assert {**told[4]["data"], "preview": ""} == {"stage": "denoise", "step": 3, "total": 3, "preview": ""}
    kind, _, text = told[4]["data"]["preview"].partition(",")
    assert kind == "data:image/jpeg;base64"
    assert base64.b64decode(text)[:2] == b"\xff\xd8"


@pytest.mark.parametrize(("last", "first"), [("4", "5"), ("x", "1"), ("-1", "1"), ("９", "1"), ("99999999999999", "1")])
def test_events_go_on_where_a_client_was(address: str, slow: Slow, last: str, first: str) -> None:
    slow.gate.set()
    job = httpx.post(f"{address}/v1/jobs", json=edit()).json()
    answer = httpx.get(address + job["events"], headers={"Last-Event-ID": last.encode()})  # type: ignore[dict-item]
    assert events_of(answer.text)[0]["id"] == first


def test_events_end_with_the_problem(address: str, slow: Slow) -> None:
    slow.gate.set()
    job = httpx.post(f"{address}/v1/jobs", json=edit(seed=13)).json()
    last = events_of(httpx.get(address + job["events"]).text)[-1]["data"]
    assert (last["state"], last["problem"]["title"]) == ("failed", "an unlucky number")


def test_a_listener_that_leaves_disturbs_nobody(address: str, slow: Slow, service: Service) -> None:
    job = httpx.post(f"{address}/v1/jobs", json=edit()).json()
    with pytest.raises(TimeoutError):
        talk(int(address.rpartition(":")[2]), head(job["events"]), seconds=0.3)
    for _ in range(100):
        if not service.jobs.get(job["id"])._events._listeners:
            break
        time.sleep(0.02)
    assert not service.jobs.get(job["id"])._events._listeners
    slow.gate.set()
    assert events_of(httpx.get(address + job["events"]).text)[-1]["data"] == {"state": "done"}


def test_many_listen_to_one_job(address: str, slow: Slow) -> None:
    job = httpx.post(f"{address}/v1/jobs", json=edit()).json()
    heard: list[int] = []

    def listen() -> None:
        heard.append(len(events_of(httpx.get(address + job["events"]).text)))

    listeners = [threading.Thread(target=listen) for _ in range(8)]
    for listener in listeners:
        listener.start()
    time.sleep(0.2)
    slow.gate.set()
    for listener in listeners:
        listener.join(10)
    assert heard == [6] * 8


def test_the_document_of_the_api_shows_the_three_questions(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    shapes = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert [shape["properties"]["kind"]["const"] for shape in shapes] == ["search", "edit", "draw"]
    assert "segments" in shapes[2]["properties"]
