"""The routes: what they answer, in which form they take a question, and what they say of a bad one."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import COLOURS, ColourEncoder, blotches, encoded, plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simat.engine import Engine
from simat.errors import StorageError
from simat.server.service import Service

RED = encoded(plain("red"))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def paths(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [result["path"] for result in answer.json()["results"]]


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == status
    return told


def until_ready(api: Any) -> Any:
    """The answer of a server that has loaded what it needs."""
    answer = api.get("/readyz")
    while answer.status_code == 503 and answer.json()["state"] in {"loading", "not started"}:
        time.sleep(0.01)
        answer = api.get("/readyz")
    return answer


def test_search_finds_words(api: Any, colours: Engine) -> None:
    answer = api.post("/v1/search", json={"text": "blue", "k": 3}).json()
    expected = colours.search("blue", k=3)
    assert [r["id"] for r in answer["results"]] == [r.id for r in expected]
    np.testing.assert_allclose([r["score"] for r in answer["results"]], [r.score for r in expected], atol=1e-5)
    assert answer["results"][0]["path"] == "blue.png"
    assert answer["backend"] == "retrieve"
    assert set(answer["timings"]) == {"compose", "search"}


def test_paths_are_relative_and_addresses_lead_to_the_pictures(api: Any, colour_photos: Path) -> None:
    (first,) = api.post("/v1/search", json={"text": "blue", "k": 1}).json()["results"]
    assert str(colour_photos) not in json.dumps(first)
    assert api.get(first["url"]).content == (colour_photos / first["path"]).read_bytes()
    assert api.get(first["thumbnail"]).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize("form", [False, True])
def test_search_by_an_image_leaves_that_image_out(api: Any, form: bool) -> None:
    if form:
        answer = api.post("/v1/search", files={"image": ("x.png", RED)}, data={"k": "2"})
    else:
        answer = api.post("/v1/search", json={"image": base64.b64encode(RED).decode(), "k": 2})
    assert "red.png" not in paths(answer)


def test_an_image_is_named_in_four_ways_with_one_meaning(api: Any, colours: Engine) -> None:
    red = next(r.id for r in colours.search("red", k=1))
    vector = colours.encoder.encode_images([plain("red")])[0].tolist()
    data_url = f"data:image/png;base64,{base64.b64encode(RED).decode()}"
    asked = [{"image": data_url}, {"id": red}, {"vector": vector, "k": 3}]
    found = [paths(api.post("/v1/search", json={"k": 2, **one})) for one in asked]
    found[2].remove("red.png")  # a vector is nobody's picture
    assert found[0] == found[1] == found[2]


def test_words_and_an_image_need_a_composer(api: Any) -> None:
    told = problem(api.post("/v1/search", json={"text": "blue", "id": 0}), 422)
    assert "name a composer" in told["remedy"]
    assert len(paths(api.post("/v1/search", json={"text": "blue", "id": 0, "composer": "weighted", "k": 2}))) == 2


def test_edit_as_curl_sends_it(api: Any) -> None:
    answer = api.post("/v1/edit", files={"image": ("dog.jpg", RED)}, data={"edit": "red -> blue", "k": "1"})
    assert paths(answer) == ["blue.png"]


def test_edit_takes_scale_and_composer(api: Any, colours: Engine) -> None:
    asked = {"id": 3, "edits": "red -> green, + snow", "scale": 0.4, "composer": "slerp", "k": 4, "text": "snow"}
    expected = colours.edit(3, "red -> green, + snow", scale=0.4, k=4)
    plain_delta = {name: value for name, value in asked.items() if name not in {"composer", "text"}}
    assert [r["id"] for r in api.post("/v1/edit", json=plain_delta).json()["results"]] == [r.id for r in expected]
    assert len(paths(api.post("/v1/edit", json=asked))) == 4


BAD = [
    ({}, 422, "search for words or for an image; got neither"),
    ({"text": ""}, 422, "neither"),
    ({"text": "x" * 5000}, 422, "text: string should have at most"),
    ({"text": "red", "k": 0}, 422, "k: input should be greater than or equal to 1"),
    ({"text": "red", "k": 10**9}, 422, "k: input should be less than or equal to 10000"),
    ({"text": "red", "k": 500}, 422, "k is more than the 24 images of the index"),
    ({"text": "red", "scale": "nan"}, 422, "scale: input should be a finite number"),
    ({"text": "red", "colour": 1}, 422, "colour: extra inputs are not permitted"),
    ({"text": "red", "index": "elsewhere"}, 404, "no such index; got 'elsewhere'; there are: index"),
    ({"text": "red", "where": "path ="}, 422, "the filter does not parse"),
    ({"text": "red", "where": "x" * 20_001}, 422, "where: string should have at most"),
    ({"text": "red", "composer": "magic"}, 422, "no such composer; got magic"),
    ({"id": 24}, 422, "no image with this id; got 24; ids run from 0 to 23"),
    ({"id": -1}, 422, "id: input should be greater than or equal to 0"),
    ({"id": 2**80}, 422, "id"),
    ({"id": 1, "image": "aaaa"}, 400, "the image is given several times; got id, image"),
    ({"image": "€"}, 400, "image is no base64"),
    ({"image": "aaaa"}, 422, "not an image in a format we read"),
    ({"image": base64.b64encode(RED[:60]).decode()}, 422, "corrupt or truncated image"),
    ({"vector": [1.0, 2.0]}, 422, "the index holds 49-d vectors"),
    ({"vector": [0.0] * 49}, 422, "query vector 0 has no direction"),
    ({"vector": [1e300] * 49}, 422, "query vector 0 has no direction"),
]


@pytest.mark.parametrize(("asked", "status", "said"), BAD, ids=[str(case[0])[:30] for case in BAD])
def test_bad_searches_are_problems(api: Any, asked: dict[str, Any], status: int, said: str) -> None:
    told = problem(api.post("/v1/search", json=asked), status)
    assert said in told["detail"]
    assert told["title"]
    assert told["type"].startswith("urn:simat:")


def test_bad_edits_are_problems(api: Any) -> None:
    assert "this is no edit" in problem(api.post("/v1/edit", json={"id": 1, "edits": "dog to cat"}), 422)["detail"]
    assert "needs an image" in problem(api.post("/v1/edit", json={"edits": "red -> blue"}), 422)["detail"]
    assert "needs edits" in problem(api.post("/v1/edit", json={"id": 1}), 422)["detail"]
    told = problem(api.post("/v1/edit", json={"id": 1, "edits": "red -> blue", "backend": "magic"}), 422)
    assert "no such backend; got 'magic'; there are: classifier_guidance, copy" in told["detail"]
    told = problem(api.post("/v1/edit", json={"id": 1, "edits": "red -> blue", "settings": {"steps": 3}}), 422)
    assert "takes no settings" in told["detail"]
    told = problem(api.post("/v1/edit", json={"id": 1, "edits": "a -> b", "mask": base64.b64encode(RED).decode()}), 422)
    assert "would ignore mask" in told["detail"]


BODIES = [
    (b"{", "application/json", 400, "the body is no JSON"),
    (b"[1]", "application/json", 400, "the body is no JSON object; got list"),
    (b"\xff\xfe", "application/json", 400, "the body is no JSON"),
    (b'{"text": "red"', "application/json; charset=utf-8", 400, "the body is no JSON"),
    (b"text=red", "application/x-www-form-urlencoded", 415, "the body is JSON or a multipart form"),
    (b"x", "multipart/form-data", 400, "the form cannot be read"),
    (b"x", "multipart/form-data; boundary=y", 400, "the form cannot be read"),
    (b"--y\r\n\r\nx\r\n--y--\r\n", "multipart/form-data; boundary=y", 400, "the form cannot be read"),
    (b'--y\r\nContent-Disposition: form-data; name="text"\r\n\r\nred', "multipart/form-data; boundary=y", 200, ""),
]


@pytest.mark.parametrize(("body", "kind", "status", "said"), BODIES, ids=[str(case[:2])[:40] for case in BODIES])
def test_bodies_that_cannot_be_read(api: Any, body: bytes, kind: str, status: int, said: str) -> None:
    answer = api.post("/v1/search", content=body, headers={"content-type": kind})
    if status == 200:  # a form that ends in the middle holds no field at all
        assert "neither" in problem(answer, 422)["detail"]
    else:
        assert said in problem(answer, status)["detail"]


@given(JSON_VALUES, st.sampled_from(["/v1/search", "/v1/edit", "/v1/encode", "/v1/draw"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_json_at_all_breaks_a_route(api: Any, value: Any, route: str) -> None:
    assert 400 <= api.post(route, content=json.dumps(value)).status_code < 500


PARTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.binary(max_size=12)
FIELDS = sorted({"index", "text", "image", "id", "vector", "composer", "scale", "k", "include_self", "where"})


@given(st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=120)
def test_no_value_of_a_field_breaks_a_search(api: Any, fields: dict[str, Any]) -> None:
    assert api.post("/v1/search", json=fields).status_code in {200, 400, 404, 422}


@given(
    st.dictionaries(
        st.sampled_from(FIELDS),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.binary(max_size=12),
        max_size=4,
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_no_value_of_a_form_breaks_a_search(api: Any, fields: dict[str, Any]) -> None:
    parts = {
        name: ("f", v) if isinstance(v, bytes) else (None, v.encode(errors="replace")) for name, v in fields.items()
    }
    assert api.post("/v1/search", files=parts or {"text": (None, "red")}).status_code in {200, 400, 404, 422}


def test_encode_gives_the_encoders_vectors(api: Any, colours: Engine) -> None:
    answer = api.post("/v1/encode", json={"texts": [*COLOURS], "images": [base64.b64encode(RED).decode()]}).json()
    np.testing.assert_allclose(answer["texts"], colours.encode_texts([*COLOURS]), atol=1e-6)
    np.testing.assert_allclose(answer["images"], ColourEncoder().encode_images([plain("red")]), atol=1e-6)
    assert answer["space"]["dim"] == ColourEncoder().space.dim
    assert answer["index"] == "index"


def test_encode_takes_files(api: Any) -> None:
    files = [("images", ("a.png", encoded(blotches(n)))) for n in range(3)]
    answer = api.post("/v1/encode", files=files, data={"texts": "a red dog"}).json()
    expected = ColourEncoder().encode_images([blotches(n) for n in range(3)])
    np.testing.assert_allclose(answer["images"], expected, atol=1e-6)
    assert len(answer["texts"]) == 1


def test_encode_needs_something(api: Any) -> None:
    assert "nothing to encode" in problem(api.post("/v1/encode", json={}), 422)["detail"]
    told = problem(api.post("/v1/encode", json={"texts": ["x"] * 1000}), 422)
    assert "texts: value should have at most 256 items" in told["detail"]


def test_indices_tell_what_the_server_can_do(api: Any, colours: Engine) -> None:
    told = api.get("/v1/indices").json()
    (index,) = told["indices"]
    assert (index["name"], index["images"], index["words"]) == ("index", len(colours), True)
    assert (index["exact"], index["changed"]) == (True, False)
    assert index["space"]["fingerprint"] == colours.space.fingerprint
    assert index == api.get("/v1/indices/index").json()
    backends = {backend["name"]: backend for backend in told["backends"]}
    assert not backends["retrieve"]["makes_pictures"]
    assert backends["diffedit"]["settings"]["steps"] > 0
    assert "edits" in backends["diffedit"]["requires"] + backends["diffedit"]["optional"]
    assert any(one["name"] == "delta" and "thesis" in one["about"] for one in told["composers"])


def test_an_index_is_reloaded_on_request(api: Any, service: Service) -> None:
    before = service.engine()
    assert api.post("/v1/indices/index/reload").json()["images"] == len(before)
    assert service.engine() is not before
    assert paths(api.post("/v1/search", json={"text": "red", "k": 1})) == ["red.png"]
    problem(api.post("/v1/indices/elsewhere/reload"), 404)


def test_health_and_metrics(api: Any) -> None:
    assert api.get("/healthz").json()["status"] == "ok"
    assert until_ready(api).json() == {"ready": True, "state": "ready"}
    api.post("/v1/search", json={"text": "red"})
    api.get("/v1/images/10000")
    api.get("/no/such/thing")
    lines = api.get("/metrics").text.splitlines()
    assert 'simat_requests_total{method="POST",route="/v1/search",status="200"} 1.0' in lines
    assert 'simat_requests_total{method="GET",route="/v1/images/{id}",status="404"} 1.0' in lines
    assert 'simat_requests_total{method="GET",route="other",status="404"} 1.0' in lines
    assert 'simat_index_images{index="index"} 24.0' in lines


def test_a_server_that_cannot_load_is_not_ready(api: Any, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    until_ready(api)
    monkeypatch.setattr(service, "_state", "the weights are gone")
    answer = api.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "state": "the weights are gone"})


def test_the_folders_of_the_server_are_not_told(api: Any, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: Any) -> Any:
        raise StorageError("no index here", got="/srv/secret", remedy="look into /srv/secret")

    monkeypatch.setattr(service, "reload", gone)
    answer = api.post("/v1/indices/index/reload")
    assert problem(answer, 503)["detail"] == "no index here"
    assert "secret" not in answer.text


def test_an_unexpected_error_is_told_without_its_inside(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi.testclient import TestClient

    from simat.server.app import create_app

    def broken(queries: Any) -> Any:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(service.place().queries, "_work", broken)
    with TestClient(create_app(service, page=False), raise_server_exceptions=False) as client:
        answer = client.post("/v1/search", json={"text": "red"})
    assert "secret" not in answer.text
    assert problem(answer, 500)["request"]


def test_the_document_describes_the_routes_with_examples(api: Any) -> None:
    document = api.get("/openapi.json").json()
    for route in ("/v1/search", "/v1/edit", "/v1/draw", "/v1/encode"):
        told = document["paths"][route]["post"]
        assert set(told["requestBody"]["content"]) == {"application/json", "multipart/form-data"}
        assert told["requestBody"]["content"]["application/json"]["schema"]["examples"]
        assert "422" in told["responses"]
    docs = api.get("/docs").text
    assert "http://" not in docs
    assert "https://" not in docs
