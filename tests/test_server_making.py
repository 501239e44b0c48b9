"""Pictures made on request: in their turn, in one answer, and for nobody once the client has gone."""

from __future__ import annotations

import asyncio
import base64
import io
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from helpers import encoded, plain
from PIL import Image

from simat.engine import Engine
from simat.errors import Cancelled
from simat.generators.options import ModelOptions
from simat.server.api.waiting import while_connected
from simat.server.app import create_app
from simat.server.options import ServiceOptions
from simat.server.service import Service
from simat.types import Answer, Query

RED = encoded(plain("red", (64, 64)))


@pytest.fixture
def studio(colours: Engine, tiny_folder: Path) -> Iterator[Service]:
    options = ServiceOptions(model=ModelOptions(str(tiny_folder), device="cpu", dtype="float32"), queue=1)
    with closing(Service([colours], options)) as service:
        yield service


@pytest.fixture
def client(studio: Service, one_thread: Any) -> Iterator[TestClient]:
    yield TestClient(create_app(studio, page=False))


def picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_an_edit_is_made_and_comes_with_what_the_backend_tells(client: TestClient) -> None:
    fields = {"edits": "cat -> dog", "backend": "diffedit", "settings": '{"steps": 2}', "seed": "3"}
    answer = client.post("/v1/edit", files={"image": ("x.png", RED)}, data=fields)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    (result,) = told["results"]
    made = picture(result["image"])
    assert result["url"] is None
    assert told["backend"] == "diffedit"
    assert told["extras"]["seed"] == 3
    assert told["extras"]["config"]["steps"] == 2
    assert picture(told["extras"]["input"]["png"]).size == made.size
    (mask,) = told["extras"]["mask"]["masks"]
    assert picture(mask).mode == "L"


def test_an_edit_of_an_indexed_image(client: TestClient, colours: Engine) -> None:
    answer = client.post("/v1/edit", json={"id": 3, "edits": "cat -> dog", "backend": "copy"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["results"][0]["image"]


def test_an_indexed_image_that_is_no_more_what_it_was_is_not_edited(
    client: TestClient, studio: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(studio.engine().embeddings, "root", tmp_path)
    answer = client.post("/v1/edit", json={"id": 3, "edits": "cat -> dog", "backend": "copy"})
    assert answer.status_code == 404
    assert "not what was indexed" in answer.json()["title"]
    assert str(tmp_path) not in answer.text


def test_a_drawing_with_masks_as_files(client: TestClient) -> None:
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    files = {"segments.dog": ("dog.png", encoded(mask))}
    fields = {"text": "a dog on a beach", "settings": '{"steps": 2}', "backend": "multidiffusion"}
    answer = client.post("/v1/draw", files=files, data=fields)
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["extras"]["layout"]["masks"]) == 1
    inline = {**fields, "settings": {"steps": 2}, "segments": {"dog": base64.b64encode(encoded(mask)).decode()}}
    again = client.post("/v1/draw", json=inline)
    assert again.json()["results"][0]["image"] == answer.json()["results"][0]["image"]


def test_bad_drawings_are_problems(client: TestClient) -> None:
    assert client.post("/v1/draw", json={}).status_code == 422
    answer = client.post("/v1/draw", json={"text": "a dog", "backend": "retrieve"})
    assert answer.status_code == 422
    answer = client.post("/v1/draw", json={"text": "a dog", "segments": {"dog": "!"}})
    assert (answer.status_code, answer.json()["title"]) == (400, "segments.dog is no base64")
    answer = client.post("/v1/edit", json={"id": 1, "edits": "a -> b", "backend": "copy", "settings": {"steps": 1}})
    assert "no such setting; got 'steps'" in answer.json()["detail"]


def test_without_an_index_pictures_are_edited_all_the_same(tiny_folder: Path, one_thread: Any) -> None:
    with closing(Service((), ServiceOptions(model=ModelOptions(str(tiny_folder), device="cpu")))) as service:
        client = TestClient(create_app(service, page=False))
        made = client.post("/v1/edit", files={"image": ("x.png", RED)}, data={"edits": "+ snow", "backend": "copy"})
        assert made.status_code == 200, made.text
        assert client.post("/v1/search", json={"text": "red"}).status_code == 404
        assert client.post("/v1/edit", json={"id": 1, "edits": "+ snow", "backend": "copy"}).status_code == 404


class Slow:
    """A backend that works until it is cancelled or released."""

    def __init__(self) -> None:
        self.running, self.release, self.cancelled = threading.Event(), threading.Event(), threading.Event()

    def answer(self, name: Any, query: Any, backend: Any, on_step: Any, cancel: Any, settings: Any = None) -> Answer:
        self.running.set()
        while not self.release.wait(0.01):
            if cancel():
                self.cancelled.set()
                raise Cancelled("cancelled")
        return Answer((), "slow")


@pytest.fixture
def slow(studio: Service, monkeypatch: pytest.MonkeyPatch) -> Slow:
    made = Slow()
    monkeypatch.setattr(studio, "answer", made.answer)
    return made


def test_a_full_queue_says_when_to_come_back(client: TestClient, studio: Service, slow: Slow) -> None:
    asked = {"id": 3, "edits": "cat -> dog", "backend": "copy"}
    answers: list[Any] = []

    def ask() -> None:
        answers.append(client.post("/v1/edit", json=asked))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    threads[0].start()
    assert slow.running.wait(20)
    threads[1].start()
    while not studio.jobs._queue:
        time.sleep(0.01)
    refused = client.post("/v1/edit", json=asked)
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert "too many jobs are waiting" in refused.json()["detail"]
    slow.release.set()
    for thread in threads:
        thread.join(20)
    assert [answer.status_code for answer in answers] == [200, 200]


def test_work_for_a_coroutine_that_is_given_up_is_cancelled(studio: Service, slow: Slow) -> None:
    async def give_up() -> None:
        task = asyncio.ensure_future(studio.answered(None, Query(image=3, edits="a -> b"), "copy"))
        await asyncio.to_thread(slow.running.wait, 20)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    asyncio.run(give_up())
    assert slow.cancelled.wait(20)


def test_work_ends_when_its_client_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        async def is_disconnected(self) -> bool:
            return True

    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.append(True)

    with pytest.raises(Cancelled, match="the client has gone away"):
        asyncio.run(while_connected(Gone(), work()))  # type: ignore[arg-type]
    assert ended == [True]


def test_work_of_a_client_that_stays_is_its_own_result() -> None:
    class There:
        async def is_disconnected(self) -> bool:
            return False

    async def work() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(while_connected(There(), work())) == 7  # type: ignore[arg-type]
