"""Pictures made on a server: the same as here, with the same steps; cancelled from here; through broken connections."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import ColourEncoder
from making import few, question, studio_of
from talking import listening
from tiny_diffusion import picture

import simat
from simat.client import jobs
from simat.client.jobs import Event, read_events, step_of
from simat.errors import Busy, Cancelled, FetchError, ImageError, NotFound, QueryError
from simat.server.app import create_app
from simat.server.events import jpeg
from simat.server.options import ServiceOptions
from simat.server.security import Security
from simat.server.service import Service
from simat.types import Answer, Query, Step

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def service(colour_index: Path, tiny: Any) -> Iterator[Service]:
    service = Service([simat.open(colour_index, ColourEncoder())], ServiceOptions(queue=1))
    service.studio.__dict__["_diffusion"] = tiny
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> Iterator[simat.Client]:
    app = create_app(service, Security(), page=False)
    with listening(app) as port, simat.connect(f"http://127.0.0.1:{port}") as client:
        yield client


def counts(service: Service) -> dict[str, int]:
    return {state: count for state, count in service.jobs.counts.items() if count}


def eventually(done: Any) -> bool:
    until = time.monotonic() + 20
    while not done() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(done())


def pixels(answer: Answer) -> np.ndarray:
    return np.stack([np.asarray(result.image) for result in answer])


def test_pictures_are_those_that_are_made_here(client: simat.Client, service: Service, tiny: Any) -> None:
    here = studio_of(tiny)
    query, settings = question(samples=2, seed=3), few(here, "diffedit")
    steps: list[Step] = []
    local_steps: list[Step] = []
    remote = client.answer(query, "diffedit", steps.append, settings=settings)
    local = here.answer(query, "diffedit", settings=settings, on_step=local_steps.append)
    assert np.array_equal(pixels(remote), pixels(local))
    assert [(s.stage, s.step, s.total) for s in steps] == [(s.stage, s.step, s.total) for s in local_steps]
    assert steps[-1].preview is not None
    assert np.abs(remote.extras["mask_soft"] - local.extras["mask_soft"]).max() <= 0.5 / 255 + 1e-6
    assert remote.extras["config"] == {**local.extras["config"]}
    assert remote.extras["input"].tobytes() == local.extras["input"].tobytes()
    assert eventually(lambda: counts(service) == {})  # the server may forget it


def test_drawings_go_by_their_layout(client: simat.Client, tiny: Any) -> None:
    here = studio_of(tiny)
    layout = {"dog": np.pad(np.ones((32, 32), np.float32), ((32, 0), (0, 32)))}
    query, settings = Query(text="a dog on a beach", layout=layout, seed=1), {"steps": 2}
    remote = client.answer(query, "zestguide", settings=settings)
    assert np.array_equal(pixels(remote), pixels(here.answer(query, "zestguide", settings=settings)))


def test_pictures_of_the_index_are_edited_by_their_id(client: simat.Client, service: Service) -> None:
    made = client.answer(Query(image=0, edits="red -> blue"), "copy")
    assert made[0].image.size == (64, 64)
    assert made.backend == "copy"


def test_a_cancelled_job_ends_here_and_there(client: simat.Client, service: Service) -> None:
    steps: list[Step] = []
    with pytest.raises(Cancelled):
        client.answer(question(), "diffedit", steps.append, lambda: bool(steps), {"steps": 900})
    assert eventually(lambda: counts(service) == {})
    assert len(steps) < 900


def test_an_error_of_a_step_ends_the_job(client: simat.Client, service: Service) -> None:
    def broken(step: Step) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        client.answer(question(), "diffedit", broken, settings={"steps": 900})
    assert eventually(lambda: "running" not in counts(service))


@pytest.mark.parametrize(
    ("query", "settings", "expected", "told"),
    [
        (Query(image=0), {}, QueryError, "needs"),
        (Query(image=999, edits="a -> b"), {}, NotFound, "no image with this id"),
        (Query(image=0, edits="red -> blue"), {"steps": -1}, QueryError, "steps"),
        (Query(image=0, edits="red -> blue"), {"nonsense": 1}, QueryError, "nonsense"),
        (Query(image="/nowhere.png", edits="red -> blue"), {}, ImageError, "cannot read the file"),
    ],
)
def test_refusals_of_jobs_are_those_of_the_backend(
    client: simat.Client, query: Query, settings: dict[str, Any], expected: type[Exception], told: str
) -> None:
    with pytest.raises(expected, match=told):
        client.answer(query, "diffedit", settings=settings)


def test_a_full_queue_says_when_to_come_back(client: simat.Client, service: Service) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def held(on_step: Any, cancel: Any) -> Answer:
        begun.set()
        go_on.wait(20)
        raise Cancelled("enough")

    service.jobs.submit(held, "edit")
    begun.wait(20)
    service.jobs.submit(held, "edit")
    with pytest.raises(Busy) as busy:
        client.answer(question(), "copy")
    assert busy.value.retry_after >= 1
    go_on.set()


def test_a_job_that_the_server_forgot_is_told(client: simat.Client, service: Service) -> None:
    steps: list[Step] = []

    def forget(step: Step) -> None:
        if not steps:
            service.jobs.get = lambda id: (_ for _ in ()).throw(NotFound("no such job"))  # type: ignore[method-assign]
        steps.append(step)

    with pytest.raises(NotFound, match="no such job"):
        client.answer(question(), "diffedit", forget, settings={"steps": 5, "noises": 1})


def test_broken_connections_lose_no_step(client: simat.Client, monkeypatch: pytest.MonkeyPatch, tiny: Any) -> None:
    whole, asked = client._channel.lines, list[str]()

    def breaking(path: str, **headers: str) -> Iterator[str]:
        asked.append(headers["Last-Event-ID"])
        for number, line in enumerate(whole(path, **headers)):
            if number == 9 and len(asked) < 4:
                raise FetchError("no answer: the cable")
            yield line

    monkeypatch.setattr(client._channel, "lines", breaking)
    monkeypatch.setattr(jobs, "PAUSE_S", 0.01)
    settings = {"steps": 4, "noises": 1}
    steps: list[Step] = []
    local: list[Step] = []
    client.answer(question(), "diffedit", steps.append, settings=settings)
    studio_of(tiny).answer(question(), "diffedit", settings=settings, on_step=local.append)
    assert len(asked) == 4
    assert [(s.stage, s.step) for s in steps] == [(s.stage, s.step) for s in local]


def test_a_server_that_is_gone_is_told(client: simat.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: str, **headers: str) -> Iterator[str]:
        raise FetchError("no answer: the server")

    monkeypatch.setattr(client._channel, "lines", gone)
    monkeypatch.setattr(jobs, "PAUSE_S", 0.01)
    with pytest.raises(FetchError, match="the server"):
        client.answer(question(), "copy")


# events


def test_events_are_read_as_the_standard_has_them() -> None:
    lines = [": ping", "", "event: step", 'data: {"step":', "data: 1}", "id: 7", "", "", 'data:{"x": 2}', ""]
    assert [*read_events(lines)] == [Event("step", "7", {"step": 1}), Event("message", "", {"x": 2})]


def test_events_without_data_or_end_are_left_out() -> None:
    assert [*read_events(["event: step", "", 'data: {"x": 1}'])] == []


@pytest.mark.parametrize("data", ["[1]", "nonsense", "7"])
def test_events_of_strangers_are_refused(data: str) -> None:
    with pytest.raises(FetchError, match="no JSON objects"):
        list(read_events([f"data: {data}", ""]))


@pytest.mark.parametrize("state", ["waiting", "running", "done", "failed", "cancelled"])
def test_events_tell_the_end(state: str) -> None:
    assert Event("state", "1", {"state": state}).is_final is (state in {"done", "failed", "cancelled"})
    assert not Event("step", "1", {"state": state}).is_final


def test_steps_hold_their_preview() -> None:
    told = {"stage": "edit", "step": 2, "total": 9}
    assert step_of({**told, "preview": None}) == Step("edit", 2, 9)
    preview = base64.b64encode(jpeg(picture(1))).decode()
    shown = step_of({**told, "preview": f"data:image/jpeg;base64,{preview}"}).preview
    assert shown is not None
    assert shown.size == picture(1).size
    with pytest.raises(ImageError):
        step_of({**told, "preview": "data:image/jpeg;base64,AAAA"})
