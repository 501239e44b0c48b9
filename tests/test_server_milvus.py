"""A server over indices that live in Milvus: asked, changed, followed, and left alone by Milvus."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from building import here
from helpers import PixelColourEncoder
from living import photos_and_index
from milvuses import listening
from starlette.testclient import TestClient

from indexing.remove import remove_images
from simat.server.app import create_app
from simat.server.following import Follower
from simat.server.service import Service

pytest.importorskip("pymilvus")
from simat.milvus.address import Address
from simat.milvus.push import push_index


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return photos_and_index(tmp_path, 20)[1]


@pytest.fixture
def address(index: Path, tmp_path: Path) -> Iterator[str]:
    """Of the pushed index."""
    with listening(tmp_path / "served.db") as port:
        address = f"milvus://127.0.0.1:{port}/pictures"
        push_index(index, Address.parse(address))
        yield address


@pytest.fixture
def service(address: str) -> Iterator[Service]:
    with closing(Service([address])) as service:
        service.engine().encoder = PixelColourEncoder()
        yield service


def test_the_routes_answer_as_from_the_folder(service: Service, index: Path) -> None:
    with closing(Service([index])) as folder:
        folder.engine().encoder = PixelColourEncoder()
        found, wanted = (TestClient(create_app(one, page=False), "http://localhost") for one in (service, folder))
        asked = {"text": "red", "k": 5, "where": "width >= 1", "composer": "text"}
        mine, theirs = (client.post("/v1/search", json=asked).json()["results"] for client in (found, wanted))
        assert [hit["id"] for hit in mine] == [hit["id"] for hit in theirs]
        edit = {"id": 3, "edits": "red -> blue", "k": 4}
        mine, theirs = (client.post("/v1/edit", json=edit).json()["results"] for client in (found, wanted))
        assert [hit["path"] for hit in mine] == [hit["path"] for hit in theirs]
        for path in ("/v1/images/3", "/v1/images/3/thumbnail"):
            picture = found.get(path)
            assert (picture.status_code, picture.content) == (200, wanted.get(path).content)


def test_a_collection_that_is_pushed_anew_is_followed(
    service: Service, index: Path, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "simat")
    follower, before = Follower(service, 0.0), service.engine()
    follower.look()
    assert service.engine() is before
    remove_images(index, ids=np.array([3, 4]))
    push_index(index, Address.parse(address), replace=True)
    follower.look()
    assert len(service.engine()) == 18
    assert service.engine().encoder is before.encoder
    assert [record.getMessage() for record in caplog.records if record.name == "simat"] == [
        "pictures: generation 0, 18 images"
    ]


def test_where_milvus_is_gone_the_open_index_stays(
    index: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(tmp_path / "leaving.db") as port:
        push_index(index, Address.parse(f"milvus://127.0.0.1:{port}/pictures"))
        service = Service([f"milvus://127.0.0.1:{port}/pictures"])
    with closing(service):
        before, follower = service.engine(), Follower(service, 0.0)
        for _ in range(3):
            follower.look()
        assert service.engine() is before
        (line,) = (record.getMessage() for record in caplog.records if record.name == "simat")
        assert line.startswith("pictures: the generation that is open goes on answering: no Milvus answers")


def test_serve_says_in_one_line_that_no_milvus_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    ran = here(capsys, "serve", "milvus://127.0.0.1:9/pictures", "--port", "0")
    assert ran.code == 2
    assert ran.err.startswith("error: no Milvus answers; got 127.0.0.1:9")
