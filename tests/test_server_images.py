"""Pictures over HTTP: byte by byte what was indexed, or nothing at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from helpers import ColourEncoder, colour_pictures, save_pictures
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import simat
from simat.engine import Engine
from simat.server.app import create_app
from simat.server.service import Service


@pytest.fixture
def own(build: Callable[..., Path], tmp_path: Path) -> Engine:
    """An index whose photos a test may spoil."""
    save_pictures(tmp_path / "photos", colour_pictures())
    return simat.open(build(tmp_path / "photos", ColourEncoder()), ColourEncoder())


@pytest.fixture
def client(own: Engine) -> Iterator[TestClient]:
    with closing(Service([own])) as service:
        yield TestClient(create_app(service, page=False))


def id_of(engine: Engine, name: str) -> int:
    return next(i for i in range(len(engine)) if row(engine, i).path == name)


def row(engine: Engine, id: int) -> Any:
    import numpy as np

    return engine.embeddings.rows(np.array([id]))[0]


def test_a_file_is_sent_as_it_is(api: Any, colours: Engine) -> None:
    for id in range(3):
        answer = api.get(f"/v1/images/{id}", params={"index": "index"})
        assert answer.content == colours.embeddings.resolve(row(colours, id)).read_bytes()
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["etag"] == f'"{row(colours, id).sha256}"'
        assert "no-cache" in answer.headers["cache-control"]


def test_what_the_client_has_is_not_sent_again(api: Any) -> None:
    for address in ("/v1/images/3", "/v1/images/3/thumbnail"):
        tag = api.get(address).headers["etag"]
        for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
            answer = api.get(address, headers={"If-None-Match": known})
            assert (answer.status_code, answer.content) == (304, b"")
        assert api.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


@given(st.integers(0, 4000) | st.none(), st.integers(0, 4000) | st.none())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_ranges_are_slices(api: Any, first: int | None, last: int | None) -> None:
    whole = api.get("/v1/images/3").content
    asked = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    answer = api.get("/v1/images/3", headers={"Range": asked})
    if first is None and last is None:
        assert (answer.status_code, answer.content) == (200, whole)
        return
    if first is None:
        expected = whole[-last:] if last else b""
    else:
        expected = whole[first:] if last is None else whole[first : last + 1]
    if not expected:
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(whole)}")
        return
    start = len(whole) - len(expected) if first is None else first
    assert answer.status_code == 206
    assert answer.content == expected
    assert answer.headers["content-range"] == f"bytes {start}-{start + len(expected) - 1}/{len(whole)}"


def test_a_range_of_what_has_changed_is_the_whole(api: Any) -> None:
    whole = api.get("/v1/images/3")
    part = {"Range": "bytes=0-3"}
    assert api.get("/v1/images/3", headers={**part, "If-Range": whole.headers["etag"]}).content == whole.content[:4]
    assert api.get("/v1/images/3", headers={**part, "If-Range": '"other"'}).content == whole.content
    assert api.get("/v1/images/3", headers={"Range": "bytes=0-1,4-5"}).content == whole.content
    assert api.get("/v1/images/3", headers={"Range": "lines=1-2"}).content == whole.content


@pytest.mark.parametrize("size", [128, 256, 512])
def test_thumbnails_are_small_and_keep_their_shape(api: Any, colours: Engine, size: int) -> None:
    answer = api.get("/v1/images/3/thumbnail", params={"size": size})
    picture = Image.open(io.BytesIO(answer.content))
    assert picture.format == "JPEG"
    assert max(picture.size) <= size
    assert picture.width / picture.height == pytest.approx(row(colours, 3).width / row(colours, 3).height, rel=0.05)


def test_thumbnails_of_another_size_are_refused(api: Any) -> None:
    assert api.get("/v1/images/3/thumbnail", params={"size": 100_000}).status_code == 404


@pytest.mark.parametrize("path", ["24", "9223372036854775807"])
def test_ids_that_are_not_there(api: Any, path: str) -> None:
    answer = api.get(f"/v1/images/{path}")
    assert answer.status_code == 404
    assert "ids run from 0 to 23" in answer.json()["remedy"]


@pytest.mark.parametrize("path", ["-1", "x", "9223372036854775808", "1.5", "..%2f..%2fetc%2fpasswd", "%00", "3/.."])
def test_no_other_path_leads_to_a_file(api: Any, path: str) -> None:
    assert api.get(f"/v1/images/{path}").status_code in {400, 404, 422}


def test_a_file_that_was_replaced_is_not_given_out(client: TestClient, own: Engine, tmp_path: Path) -> None:
    id = id_of(own, "red.png")
    (tmp_path / "photos" / "red.png").write_bytes(b"a secret")
    for address in (f"/v1/images/{id}", f"/v1/images/{id}/thumbnail"):
        answer = client.get(address)
        assert answer.status_code == 404
        assert "not what was indexed; got red.png" in answer.json()["detail"]


def test_a_file_that_is_gone_or_a_link_elsewhere(client: TestClient, own: Engine, tmp_path: Path) -> None:
    id = id_of(own, "blue.png")
    path = tmp_path / "photos" / "blue.png"
    path.unlink()
    assert client.get(f"/v1/images/{id}").status_code == 404
    path.symlink_to("/etc/hostname")
    assert client.get(f"/v1/images/{id}").status_code == 404


def test_a_path_that_leaves_the_root_is_not_followed(tmp_path: Path) -> None:
    import hashlib

    from simat.errors import NotFound
    from simat.server import pictures

    (tmp_path / "root").mkdir()
    (tmp_path / "outside.png").write_bytes(b"secret")
    sha256 = hashlib.sha256(b"secret").hexdigest()
    for path in ("../outside.png", str(tmp_path / "outside.png")):
        with pytest.raises(NotFound, match="not what was indexed"):
            pictures._indexed(tmp_path / "root" / path, path, sha256)
    assert pictures._indexed(tmp_path / "outside.png", "outside.png", sha256) == b"secret"


def test_heads_have_no_body(api: Any) -> None:
    answer = api.head("/v1/images/3")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
