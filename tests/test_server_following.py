"""A server that follows: a changed index is taken up, a damaged one is not, and the log has a line."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import contents, here
from living import ONE, noise, vector_index

import simat.cli.serve
from indexing.compact import compact_index
from indexing.remove import remove_images
from simat.errors import SimatError
from simat.server.following import Follower
from simat.server.options import ServiceOptions
from simat.server.service import Service
from simat.types import Query


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return vector_index(tmp_path / "index", noise(40))


@pytest.fixture
def service(index: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Service]:
    caplog.set_level(logging.INFO, "simat")
    with closing(Service([index])) as service:
        yield service


@pytest.fixture
def follower(service: Service) -> Follower:
    return Follower(service, 0.0)


def nearest(service: Service) -> int | None:
    return service.answer(None, Query(vector=noise(1)[0], composer="image", k=1)).results[0].id


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "simat"]


def test_a_new_generation_is_taken_up_and_told_once(
    index: Path, service: Service, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    gone = nearest(service)
    remove_images(index, ids=np.array([gone]))
    assert nearest(service) == gone
    follower.look()
    assert nearest(service) != gone
    assert len(service.engine()) == 39
    compact_index(index, ONE)
    for _ in range(3):
        follower.look()
    assert len(service.engine().embeddings) == 39
    assert told(caplog) == ["index: generation 1, 39 images", "index: generation 2, 39 images"]


def test_an_index_that_stays_is_neither_opened_nor_read(
    service: Service, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = service.engine()
    follower.look()

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(type(before), "changed", never)
    monkeypatch.setattr(Service, "reload", never)
    follower.look()
    assert service.engine() is before


def test_a_damaged_index_leaves_the_old_generation_and_one_line(
    index: Path, service: Service, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    before, answer = contents(index), nearest(service)
    remove_images(index, ids=np.array([answer]))
    after = contents(index)
    (index / "removed-00001.bits").write_bytes(b"not")
    for _ in range(5):
        follower.look()
    assert nearest(service) == answer
    (line,) = told(caplog)
    assert line.startswith("index: the generation that is open goes on answering: removed-00001.bits was truncated")
    (index / "manifest.json").unlink()
    for _ in range(5):
        follower.look()
    assert len(told(caplog)) == 2
    for name in ("removed-00001.bits", "manifest.json"):
        (index / name).write_bytes(after[name])
    follower.look()
    assert nearest(service) != answer
    assert told(caplog)[2:] == ["index: generation 1, 39 images"]
    (index / "manifest.json").write_bytes(before["manifest.json"])
    follower.look()
    assert nearest(service) == answer


def test_looks_at_what_stays_damaged_become_rarer(
    index: Path, service: Service, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    (index / "manifest.json").write_text("{")
    tried, reload = [], service.reload
    monkeypatch.setattr(service, "reload", lambda name: [tried.append(look), reload(name)])
    for look in range(64):  # noqa: B007
        follower.look()
    assert tried == [0, 1, 3, 7, 15, 31, 47, 63]


def test_an_unexpected_error_is_logged_and_the_next_look_comes(
    index: Path, service: Service, follower: Follower, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_images(index, ids=np.array([1]))

    def fails(_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(service, "reload", fails)
        follower.look()
    assert told(caplog) == ["index: cannot be followed"]
    follower.look()
    assert len(service.engine()) == 39


def test_an_application_follows_until_it_ends(index: Path) -> None:
    from fastapi.testclient import TestClient

    from simat.server.app import create_app

    service = Service([index], ServiceOptions(follow=0.02))
    with TestClient(create_app(service, page=False)) as client:
        assert client.get("/v1/indices/index").json()["images"] == 40
        remove_images(index, ids=np.array([3]))
        end = time.monotonic() + 30
        while client.get("/v1/indices/index").json()["images"] != 39:
            assert time.monotonic() < end
            time.sleep(0.02)
    engine = service.engine()
    remove_images(index, ids=np.array([4]))
    time.sleep(0.2)
    assert service.engine() is engine


def test_nothing_is_followed_unless_asked_for(index: Path, service: Service) -> None:
    follower = Follower(service, service.options.follow)
    follower.start()
    assert not follower._thread.is_alive()
    follower.close()


def test_the_command_takes_seconds(index: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    given: list[ServiceOptions] = []
    monkeypatch.setattr(simat.cli.serve, "_run", lambda _, options, *rest: given.append(options))
    monkeypatch.setattr("simat.server.logs.configure", lambda *_: None)
    for words in ([], ["--follow", "2.5"]):
        assert here(capsys, "serve", index, "--port", "0", *words).code == 0
    assert [options.follow for options in given] == [0.0, 2.5]
    with pytest.raises(SimatError, match=r"follow must not be negative; got -1\.0"):
        ServiceOptions(follow=-1.0)
