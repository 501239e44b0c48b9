"""The whole application under attack: what a stranger may send is answered, and nothing of it stays."""

from __future__ import annotations

import base64
import gc
import json
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from building import bomb
from helpers import encoded, plain
from talking import head, listening, talk, tell

from simat.engine import Engine
from simat.server.app import create_app
from simat.server.batching import Batcher
from simat.server.options import ServiceOptions
from simat.server.security import Security
from simat.server.service import Service

TOKEN = "the-token-of-the-tests"
UPLOAD = 2**20
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def engine(colour_index: Path) -> Engine:
    from helpers import ColourEncoder

    import simat

    return simat.open(colour_index, ColourEncoder())


@pytest.fixture(scope="module")
def service(engine: Engine) -> Iterator[Service]:
    made = Service([engine], ServiceOptions(upload_bytes=UPLOAD, pixels=10**6, fetch=("pictures.test",)))
    yield made
    made.close()


@pytest.fixture(scope="module")
def port(service: Service) -> Iterator[int]:
    with listening(create_app(service, Security.of("0.0.0.0", TOKEN), page=False)) as port:
        yield port


@pytest.fixture(scope="module")
def client(port: int) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        yield client


def refused(answer: httpx.Response, *statuses: int) -> str:
    """The title of the problem; fails for any other status."""
    assert answer.status_code in statuses, (answer.status_code, answer.text[:300])
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["title"])


def test_damaged_uploads_are_answered(client: httpx.Client, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from benchmarks.fuzz import uploads

    make, statuses = uploads(seed=1), set()
    for number in range(40):
        upload = make(number)
        answer = client.post(upload.path, content=upload.body, headers={"Content-Type": upload.kind})
        statuses.add(answer.status_code)
        assert answer.status_code in {200, 400, 413, 415, 422}, (number, answer.text[:300])
    assert statuses >= {200, 400, 422}
    gc.collect()
    assert service.decoder._room._filled == 0


@pytest.mark.parametrize("chunked", [False, True])
def test_a_giant_body_is_not_read(port: int, chunked: bool) -> None:
    length: dict[str, object] = {"Transfer_Encoding": "chunked"} if chunked else {"Content_Length": 2**30}
    start = head("/v1/search", "POST", Authorization=f"Bearer {TOKEN}", Content_Type="application/json", **length)
    part = b"10000\r\n" + b"x" * 2**16 + b"\r\n" if chunked else b"x" * 2**16
    sent = []

    def parts() -> Iterator[bytes]:
        yield start
        for number in range(2**14):
            sent.append(number)
            yield part

    answer = tell(port, parts())
    assert len(sent) < 2**13
    assert not answer or b" 413 " in answer[:20]


def test_an_upload_a_little_too_great_is_told_so(client: httpx.Client) -> None:
    for size in (3 * UPLOAD, 20 * UPLOAD):
        answer = client.post("/v1/search", files={"image": b"x" * size})
        assert "larger" in refused(answer, 413) or "over" in answer.json()["title"]


def test_bombs_do_not_go_off(client: httpx.Client) -> None:
    for data in (bomb(6000, 6000), bomb(1001, 1000)):
        assert "megapixels" in refused(client.post("/v1/search", files={"image": data}), 422)
        text = base64.b64encode(data).decode()
        assert "megapixels" in refused(client.post("/knn-service", json=knn(image=text)), 422)
        assert "megapixels" in refused(client.post("/v1/encode", json={"images": [text]}), 422)
        drawing = {"text": "a dog", "segments": {"dog": text}}
        assert "megapixels" in refused(client.post("/v1/draw", json=drawing), 422)


def knn(**fields: Any) -> dict[str, Any]:
    return {"modality": "image", "num_images": 3, **fields}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("lists", b'{"text":' + b"[" * 10**5 + b"]" * 10**5 + b"}"),
        ("objects", b'{"text":' * 10**5 + b"1" + b"}" * 10**5),
        ("digits", b'{"id":' + b"9" * 10**5 + b"}"),
        ("fraction", b'{"scale":1e' + b"9" * 10**4 + b"}"),
        ("NaN", b'{"vector":[NaN]}'),
        ("half a surrogate", b'{"text":"\\ud800"}'),
        ("no text", b"\xff\xfe"),
        ("two documents", b"{}{}"),
        ("a list", b"[]"),
        ("many fields", json.dumps({f"f{n}": n for n in range(20_000)}).encode()),
    ],
)
def test_json_that_hurts_is_refused_quickly(client: httpx.Client, name: str, body: bytes) -> None:
    begun = time.monotonic()
    for path in ("/v1/search", "/v1/edit", "/v1/encode", "/v1/jobs"):
        refused(client.post(path, content=body, headers=JSON), 400, 422)
    assert client.post("/knn-service", content=body).status_code in {200, 400, 422}
    assert time.monotonic() - begun < 30


def part(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (name, more, value)


FORMS = {
    "nothing": b"",
    "no end": part(b"text", b"red"),
    "no part": b"--b--",
    "another boundary": part(b"text", b"red").replace(b"--b", b"--c") + b"--c--",
    "no name": b"--b\r\nContent-Disposition: form-data\r\n\r\nred\r\n--b--",
    "no disposition": b"--b\r\nX: y\r\n\r\nred\r\n--b--",
    "many parts": b"".join(part(b"f%d" % n, b"x") for n in range(5000)) + b"--b--",
    "many files": b"".join(part(b"image", b"x", b'; filename="a"') for _ in range(500)) + b"--b--",
    "twice": part(b"text", b"red") * 2 + b"--b--",
    "two images": part(b"image", encoded(plain("red")), b'; filename="a"') * 2 + b"--b--",
    "long name": part(b"n" * 10**6, b"x") + b"--b--",
    "long header": b"--b\r\nX: " + b"y" * 10**6 + b"\r\n\r\nx\r\n--b--",
    "many headers": b"--b\r\n" + b"X: y\r\n" * 10**5 + b"\r\nx\r\n--b--",
    "almost boundaries": part(b"image", b"\r\n--" * 10**5, b'; filename="a"') + b"--b--",
    "a path": part(b"image", b"x", b'; filename="../../../etc/passwd"') + b"--b--",
    "a text as image": part(b"image", b"/etc/passwd") + b"--b--",
    "no UTF-8": part(b"text", b"\xff\xfe\xfd") + part(b"k", b"\xff") + b"--b--",
    "deep settings": part(b"edits", b"a -> b") + part(b"settings", b"[" * 10**5) + b"--b--",
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_that_are_none_are_refused(client: httpx.Client, name: str) -> None:
    for path in ("/v1/search", "/v1/edit", "/v1/jobs"):
        refused(client.post(path, content=FORMS[name], headers=FORM), 400, 413, 422)


@pytest.mark.parametrize(
    "kind",
    [
        *("multipart/form-data", "multipart/form-data; boundary=", f"multipart/form-data; boundary={'b' * 9000}"),
        *("multipart/mixed; boundary=b", "application/x-www-form-urlencoded", "image/png", "text/html", "x", ""),
    ],
)
def test_other_media_types_are_refused(client: httpx.Client, kind: str) -> None:
    body = part(b"text", b"red") + b"--b--"
    refused(client.post("/v1/search", content=body, headers={"Content-Type": kind}), 400, 415)


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/images/..%2f..%2fetc%2fpasswd", "/v1/images/%2e%2e/indices", "/v1/images/1%2f..%2f2", "/v1/images/%00"),
        *("/v1/images/-1", "/v1/images/99999", "/v1/images/" + "9" * 5000, "/v1/images/1e3", "/v1/images/١"),
        *("/v1/images/1?index=..%2f..", "/v1/images/1?index=%2fetc", "/v1/images/1/thumbnail?size=-1"),
        *("/v1/indices/..%2f..%2fetc", "/etc/passwd", "//etc/passwd", "/static/..%5c..%5csecret", "/.git/config"),
    ],
)
def test_paths_lead_to_no_other_file(client: httpx.Client, path: str) -> None:
    refused(client.get(str(client.base_url).rstrip("/") + path), 400, 404, 422)


@pytest.mark.parametrize(
    "bytes_asked", ["9" * 5000 + "-", "0-" + "9" * 5000, "-" + "9" * 5000, "٣-", "-", "1-0", "a-b"]
)
def test_ranges_that_are_none_do_no_harm(client: httpx.Client, bytes_asked: str) -> None:
    headers = {"Range": f"bytes={bytes_asked}".encode()}
    answer = client.get("/v1/images/1", headers=headers)  # type: ignore[arg-type]
    assert answer.status_code in {200, 416}


@pytest.mark.parametrize(
    "url",
    [
        *("file:///etc/passwd", "http://pictures.test/a.png", "ftp://pictures.test/", "gopher://pictures.test:70/"),
        *("https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/latest/meta-data/", "https://2130706433/"),
        *("https://pictures.test@evil.test/", "https://evil.test#pictures.test", "https://pictures.test.evil.test/"),
        *("https://pictures.test:22/", "//pictures.test/", "https:pictures.test", "https://pictures.test\\@evil.test/"),
    ],
)
def test_addresses_that_may_not_be_fetched_are_refused(client: httpx.Client, url: str) -> None:
    refused(client.post("/knn-service", json=knn(image_url=url)), 403)


@pytest.mark.parametrize(
    "fields",
    [
        *({"text": "red", "k": 10**9}, {"text": "red", "k": 0}, {"text": "red", "k": -1}, {"id": 10**6}, {"id": 2**63}),
        *({"vector": [0.0] * 49}, {"vector": [1e308] * 49}, {"vector": [1.0]}, {"vector": []}, {"vector": [[1.0]]}),
        *(
            {"text": "red", "index": "nowhere"},
            {"text": ""},
            {"text": "x" * 10**5},
            {"text": "red", "where": "1 = (select 1)"},
        ),
        *({"text": "red", "path": "/etc/passwd"}, {"image": "/etc/passwd"}, {"image": "file:///etc/passwd"}),
    ],
)
def test_questions_out_of_range_are_refused(client: httpx.Client, fields: dict[str, Any]) -> None:
    refused(client.post("/v1/search", json=fields), 400, 404, 422)


RAW = {
    "length and chunks": b"POST /v1/search HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "two lengths": b"POST /v1/search HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
    "a negative length": b"POST /v1/search HTTP/1.1\r\nContent-Length: -5\r\n",
    "no path": b"CONNECT evil.test:80 HTTP/1.1\r\n",
    "no method": b"BREW /v1/search HTTP/1.1\r\n",
    "no version": b"GET /v1/indices HTTP/9.9\r\n",
    "two lines in one": b"GET /v1/indices\x00 HTTP/1.1\r\n",
    "a star": b"OPTIONS * HTTP/1.1\r\n",
    "another server": b"GET http://evil.test/etc/passwd HTTP/1.1\r\n",
    "a wrong cookie": b"GET /v1/indices HTTP/1.1\r\nCookie: simat=\xff\xfe\r\nAuthorization: Basic \xff\r\n",
}


@pytest.mark.parametrize("name", RAW)
def test_requests_that_are_hardly_any_are_answered(port: int, name: str) -> None:
    common = b"Host: localhost\r\nConnection: close\r\n"
    token = b"" if name == "a wrong cookie" else f"Authorization: Bearer {TOKEN}\r\n".encode()
    answer = talk(port, RAW[name] + common + token + b"\r\n12345")
    assert answer[9:12] in {b"400", b"401", b"404", b"405"}, answer[:200]


def test_nothing_is_told_without_the_token(port: int) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as stranger:
        document = stranger.get("/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
        paths = [path.replace("{id}", "1").replace("{name}", "x") for path in document["paths"]]
        assert len(paths) > 10
        for path in {*paths, "/docs", "/openapi.json", "/", "/metrics"} - {"/healthz", "/readyz"}:
            for method in ("GET", "POST", "DELETE", "HEAD", "PUT"):
                assert stranger.request(method, path).status_code == 401, (method, path)


def test_a_batch_is_let_go_of_once_it_is_answered() -> None:
    class Picture:
        pass

    batcher: Batcher[Picture, int] = Batcher(lambda pictures: [1] * len(pictures), 0.0)
    picture = Picture()
    seen: Callable[[], Picture | None] = weakref.ref(picture)
    assert batcher.submit(picture).result(5) == 1
    del picture
    for _ in range(100):
        gc.collect()
        if seen() is None:
            break
        time.sleep(0.01)
    assert seen() is None
    batcher.close()


def test_the_server_lives_after_all_that(client: httpx.Client) -> None:
    picture = base64.b64encode(encoded(plain("red"))).decode()
    answer = client.post("/v1/search", json={"image": picture, "k": 1, "include_self": True})
    assert answer.json()["results"][0]["path"] == "red.png"
