"""The clip-retrieval protocol: what its clients send is answered as they expect, and nothing they send breaks it."""

from __future__ import annotations

import base64
import io
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import bomb
from fastapi import FastAPI
from fastapi.testclient import TestClient
from helpers import COLOURS, DIM, ColourEncoder, blotches, encoded, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from living import noise, vector_index
from PIL import Image
from prometheus_client import generate_latest

import simat
from indexing.remove import remove_images
from simat.errors import QueryError, SimatError
from simat.server import clip_retrieval, columns, guard, problems
from simat.server.knn import KnnRequest, fields_of
from simat.server.options import ServiceOptions
from simat.server.security import Security
from simat.server.service import Service

NULLS: dict[str, Any] = dict.fromkeys(["text", "image", "image_url", "embedding_input"])
DEFAULTS = {  # what the published client sends
    **NULLS,
    "deduplicate": True,
    "use_safety_model": True,
    "use_violence_detector": True,
    "indice_name": "index",
    "use_mclip": False,
    "aesthetic_score": 9,
    "aesthetic_weight": 0.5,
    "modality": "image",
    "num_images": 40,
    "num_result_ids": 40,
}
FRONT = "http://localhost:1235"  # where the front end's own server puts it
LEAST = {"modality": "image", "num_images": 5}


def app_of(service: Service) -> FastAPI:
    app = FastAPI()
    problems.install(app)
    app.include_router(clip_retrieval.router(service))
    guard.install(app, Security(), service.options.upload_bytes)
    return app


@contextmanager
def talking_to(service: Service) -> Iterator[TestClient]:
    with TestClient(app_of(service), "http://127.0.0.1") as client:
        yield client
    service.close()


@pytest.fixture(scope="module")
def engine(colour_index: Path) -> simat.Engine:
    return simat.open(colour_index, ColourEncoder())


@pytest.fixture(scope="module")
def client(engine: simat.Engine) -> Iterator[TestClient]:
    with talking_to(Service([engine])) as client:
        yield client


def ask(client: TestClient, path: str = "/knn-service", **fields: Any) -> Any:
    """Post as the published client does: JSON that does not say so."""
    answer = client.post(path, content=json.dumps(fields))
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(client: TestClient, content: str | bytes, path: str = "/knn-service") -> tuple[int, str]:
    answer = client.post(path, content=content, headers={"Origin": FRONT})
    assert answer.headers["access-control-allow-origin"] == FRONT
    assert answer.headers["content-type"] == problems.MEDIA_TYPE
    return answer.status_code, answer.json()["detail"]


def ids(answer: list[dict[str, Any]]) -> list[int]:
    return [image["id"] for image in answer]


# what is found


@given(words=st.sampled_from([*COLOURS, "a dog", "ça 🐕"]), count=st.integers(1, 30))
def test_knn_finds_what_the_engine_finds(client: TestClient, engine: simat.Engine, words: str, count: int) -> None:
    expected = engine.search(words, k=min(count, len(engine)))
    answer = ask(client, **{**LEAST, "text": words, "num_images": count})
    assert ids(answer) == [result.id for result in expected]
    assert [image["similarity"] for image in answer] == pytest.approx([r.score for r in expected], abs=1e-6)


def test_knn_answers_the_published_clients_fourteen_fields(client: TestClient, engine: simat.Engine) -> None:
    answer = ask(client, **{**DEFAULTS, "text": "red"})
    assert answer[0]["image_path"] == "red.png"
    assert answer[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert {type(image["id"]) for image in answer} == {int}


def test_knn_takes_any_content_type_and_none(client: TestClient) -> None:
    body = json.dumps({**LEAST, "text": "red"})
    for kind in ("application/json", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded", "image/png", ""):
        assert client.post("/knn-service", content=body, headers={"Content-Type": kind}).json()[0]["id"] >= 0


@pytest.mark.parametrize("empty", ["", None, []])
def test_knn_takes_empty_for_missing(client: TestClient, empty: Any) -> None:
    optional = ("image", "image_url", "embedding_input", "num_result_ids", "indice_name", "deduplicate", "use_mclip")
    aesthetic = {"aesthetic_score": empty, "aesthetic_weight": empty}
    given_empty = ask(client, **LEAST, **dict.fromkeys(optional, empty), **aesthetic, text="red")
    assert given_empty == ask(client, **LEAST, text="red")


def test_knn_goes_by_text_then_image_then_address_then_vector(client: TestClient) -> None:
    vector = ColourEncoder().encode_images([plain("blue")])[0].tolist()
    picture = base64.b64encode(encoded(plain("green"))).decode()
    all_ways = {"text": "red", "image": picture, "image_url": "https://nowhere.test/a.png", "embedding_input": vector}
    assert ask(client, **LEAST, **all_ways)[0]["image_path"] == "red.png"
    assert ask(client, **LEAST, **{**all_ways, "text": ""})[0]["image_path"] == "green.png"
    assert refusal(client, json.dumps({**LEAST, **all_ways, "text": "", "image": None}))[0] == 403
    assert ask(client, **LEAST, embedding_input=vector)[0]["image_path"] == "blue.png"


@settings(max_examples=10)
@given(st.integers(0, 22), st.floats(0.01, 100))
def test_knn_of_a_vector_goes_by_its_direction(
    client: TestClient, engine: simat.Engine, id: int, length: float
) -> None:
    vector = engine.embeddings.vectors(np.array([id]))[0]
    answer = ask(client, **LEAST, embedding_input=(length * vector).tolist())
    assert answer[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert answer[0]["id"] == engine.search(image=id, k=1, include_self=True)[0].id


def test_knn_leaves_out_near_duplicates(client: TestClient, engine: simat.Engine) -> None:
    every = {"modality": "image", "num_images": len(engine), "text": "purple"}
    with_copies, without = ids(ask(client, **every)), ids(ask(client, **every, deduplicate=True))
    vectors = engine.embeddings.vectors(np.array(with_copies))
    near = vectors @ vectors.T > 0.94
    assert len(with_copies) == len(engine) > len(without)
    assert without == [id for place, id in enumerate(with_copies) if not near[place, :place].any()]  # no chains here
    assert not (near & ~np.eye(len(near), dtype=bool))[np.ix_(*[[with_copies.index(id) for id in without]] * 2)].any()


def test_knn_tells_columns_of_the_first_images_only(client: TestClient) -> None:
    answer = ask(client, text="red", modality="image", num_images=3, num_result_ids=9)
    assert [image.keys() - {"image"} for image in answer] == [{"id", "similarity", "image_path"}] * 3 + [
        {"id", "similarity"}
    ] * 6


@pytest.mark.parametrize("results", [10**9, "3000", len(COLOURS) + 100])
def test_knn_gives_what_there_is(client: TestClient, engine: simat.Engine, results: Any) -> None:
    answer = ask(client, text="red", modality="image", num_images=2, num_result_ids=results)
    assert sorted(ids(answer)) == [*range(len(engine))]


def test_knn_of_no_images_is_an_empty_list(client: TestClient) -> None:
    assert ask(client, text="red", modality="image", num_images=0) == []


def test_knn_passes_over_models_that_are_not_here(client: TestClient) -> None:
    expected = ask(client, **LEAST, text="red")
    for score, weight in ((9, 0.5), ("3", "0.1"), ("pretty", "very"), ([], {})):
        aesthetic = {"aesthetic_score": score, "aesthetic_weight": weight}
        others = {"use_mclip": True, "use_safety_model": True, "use_violence_detector": True}
        assert ask(client, **LEAST, text="red", **aesthetic, **others) == expected


def test_knn_of_many_at_once_is_that_of_one_by_one(client: TestClient) -> None:
    questions = [{"text": text, "num_images": n} for n, text in enumerate([*COLOURS, "dog", "cat", "a house"] * 3, 1)]
    with ThreadPoolExecutor(len(questions)) as pool:
        together = list(pool.map(lambda fields: ask(client, **{**LEAST, **fields}), questions))
    for fields, answer in zip(questions, together, strict=True):
        alone = ask(client, **{**LEAST, **fields})
        assert ids(answer) == ids(alone)
        assert [i["similarity"] for i in answer] == pytest.approx([i["similarity"] for i in alone], abs=1e-6)


def test_knn_asks_the_index_that_is_named(build: Callable[..., Path], tmp_path: Path, engine: simat.Engine) -> None:
    plain("green").save(tmp_path / "leaf.png")
    other = simat.open(build(tmp_path, ColourEncoder()).rename(tmp_path / "leaves"), ColourEncoder())
    with talking_to(Service([engine, other])) as client:
        assert client.get("/indices-list").json() == ["index", "leaves"]
        assert [image["image_path"] for image in ask(client, **LEAST, text="red", indice_name="leaves")] == ["leaf.png"]
        assert ask(client, **LEAST, text="red")[0]["image_path"] == "red.png"
        assert ask(client, "/metadata", ids=[0], indice_name="leaves")[0]["metadata"]["image_path"] == "leaf.png"


def test_knn_meets_an_index_that_was_opened_anew(build: Callable[..., Path], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    plain("green").save(photos / "a.png")
    service = Service([simat.open(build(photos, ColourEncoder()), ColourEncoder())])
    with talking_to(service) as client:
        assert len(ask(client, **LEAST, text="red")) == 1
        plain("red").save(photos / "b.png")
        folder = service.engine().folder
        shutil.rmtree(folder)
        shutil.copytree(build(photos, ColourEncoder()), folder)
        service.reload()
        assert [image["image_path"] for image in ask(client, **LEAST, text="red")] == ["b.png", "a.png"]


# columns


def test_columns_hold_the_picture_as_jpeg(client: TestClient) -> None:
    told = ask(client, **LEAST, text="red")[0]
    picture = Image.open(io.BytesIO(base64.b64decode(told["image"])))
    assert (picture.format, picture.size) == ("JPEG", (32, 32))
    assert np.abs(np.asarray(picture).astype(int) - COLOURS["red"]).max() < 12


def told_of(build: Callable[..., Path], photos: Path, change: Callable[[Path], Any] | None = None) -> bytes | None:
    """The JPEG that is told of the only picture of a folder, after it is indexed and then changed."""
    engine = simat.open(build(photos, ColourEncoder()), ColourEncoder())
    if change is not None:
        change(next(photos.iterdir()))
    told = columns.columns(engine, [0])[0].get("image")
    return None if told is None else base64.b64decode(told)


def test_columns_hold_a_small_jpeg_byte_by_byte(build: Callable[..., Path], tmp_path: Path) -> None:
    blotches(0).save(tmp_path / "a.jpg", quality=90)
    assert told_of(build, tmp_path) == (tmp_path / "a.jpg").read_bytes()


def test_columns_hold_a_large_jpeg_smaller(build: Callable[..., Path], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=95)
    assert (tmp_path / "a.jpg").stat().st_size > columns.SMALL
    assert Image.open(io.BytesIO(told_of(build, tmp_path) or b"")).size == (512, 384)


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16", "CMYK"])
def test_columns_hold_pictures_of_any_mode(build: Callable[..., Path], tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("L", (40, 30), 200).convert("I;16" if mode == "I;16" else "RGB").convert(mode).save(path)
    told = Image.open(io.BytesIO(told_of(build, tmp_path) or b""))
    assert (told.format, told.mode, told.size) == ("JPEG", "RGB", (40, 30))


@pytest.mark.parametrize(
    "change", [Path.unlink, lambda path: blotches(1).save(path), lambda path: path.write_text("root:x")]
)
def test_columns_hold_no_picture_that_was_not_indexed(
    build: Callable[..., Path], tmp_path: Path, change: Callable[[Path], Any]
) -> None:
    blotches(0).save(tmp_path / "a.jpg")
    assert told_of(build, tmp_path, change) is None


def test_columns_hold_pictures_up_to_a_limit(engine: simat.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "MOST_BYTES", 1000)
    told = columns.columns(engine, [*range(len(engine))])
    held = ["image" in image for image in told]
    assert held == sorted(held, reverse=True)
    assert 0 < sum(held) < len(held)


def test_columns_hold_captions_where_there_are_some(engine: simat.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = engine.embeddings.rows(np.array([0, 1]))
    rows[0] = type(rows[0])(rows[0].path, rows[0].sha256, 1, 1, "a dog")
    monkeypatch.setattr(engine.embeddings, "rows", lambda ids: rows)
    first, second = columns.columns(engine, [0, 1])
    assert first["caption"] == "a dog"
    assert "caption" not in second


# the other routes


def test_metadata_tells_columns_by_id(client: TestClient, engine: simat.Engine) -> None:
    answer = ask(client, "/metadata", ids=[3, 0, 3], indice_name="index")
    paths = [row.path for row in engine.embeddings.rows(np.array([3, 0, 3]))]
    assert ids(answer) == [3, 0, 3]
    assert [image["metadata"]["image_path"] for image in answer] == paths


def test_nothing_is_told_of_removed_images(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(20))
    remove_images(index, ids=np.array([5]))
    engine = simat.open(index)
    assert [told["image_path"] for told in columns.columns(engine, [4, 6])] == ["4.png", "6.png"]
    with pytest.raises(QueryError, match="the image with this id was removed; got 5"):
        columns.columns(engine, [4, 5])


@pytest.mark.parametrize("nothing", [{"ids": []}, {"ids": None}, {}])
def test_metadata_of_nothing_is_an_empty_list(client: TestClient, nothing: dict[str, Any]) -> None:
    assert ask(client, "/metadata", **nothing) == []


def test_indices_and_config_are_told(client: TestClient) -> None:
    assert client.get("/indices-list").json() == ["index"]
    config = client.get("/config.json", headers={"Host": "localhost:8000"}).json()
    assert config == {"defaultBackend": "http://localhost:8000/", "defaultIndex": "", "urlColumn": "url"}


@pytest.mark.parametrize("path", sorted(guard.FOREIGN))
def test_routes_answer_under_two_slashes_and_to_the_front_end(client: TestClient, path: str) -> None:
    method = "GET" if path in {"/indices-list", "/config.json"} else "POST"
    body = json.dumps({**LEAST, "text": "red", "ids": [0]}) if method == "POST" else None
    origin = {"Origin": FRONT}
    once, twice = (
        client.request(method, f"http://127.0.0.1{p}", content=body, headers=origin) for p in (path, f"/{path}")
    )
    asked = {**origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
    preflight = client.options(f"http://127.0.0.1/{path}", headers=asked)
    assert once.status_code == twice.status_code == 200
    assert once.json() == twice.json()
    assert preflight.status_code == 204
    assert method in preflight.headers["access-control-allow-methods"]
    assert {r.headers["access-control-allow-origin"] for r in (once, twice, preflight)} == {FRONT}


# bad input

PICTURE = base64.b64encode(b"GIF89a nonsense").decode()


@pytest.mark.parametrize(
    ("fields", "status", "told"),
    [
        ({}, 422, "nothing to look for"),
        ({"text": 7}, 422, "text must be a text; got int"),
        ({"text": "x" * 2001}, 422, "the text is longer than 2000 characters"),
        ({"text": "red", "num_images": None}, 422, "num_images must be a number of images"),
        ({"text": "red", "num_images": -1}, 422, "num_images must be a number of images; got -1"),
        ({"text": "red", "num_images": "many"}, 422, "num_images must be a number of images; got 'many'"),
        ({"text": "red", "num_images": True}, 422, "num_images must be a number of images; got True"),
        ({"text": "red", "num_result_ids": 1.5}, 422, "num_result_ids must be a number of images; got 1.5"),
        ({"text": "red", "num_result_ids": [[[1]]]}, 422, "num_result_ids must be .* got a list of list"),
        ({"text": "red", "modality": "text"}, 422, "this index holds images; got modality 'text'"),
        ({"text": "red", "indice_name": "laion5B"}, 404, "no such index; got 'laion5B'; there are: index"),
        ({"text": "red", "indice_name": ["index"]}, 422, "indice_name must be a text; got list"),
        ({"image": "no base64!"}, 400, "image is no base64"),
        ({"image": PICTURE}, 422, "image"),
        ({"image": base64.b64encode(bomb()).decode()}, 422, "megapixels"),
        ({"image_url": "file:///etc/passwd"}, 403, "not a URL"),
        ({"image_url": "https://example.com/dog.jpg"}, 403, "this server does not fetch from there"),
        ({"embedding_input": [1.0, 2.0]}, 422, f"the index holds {DIM}-d vectors; got 2 numbers"),
        ({"embedding_input": [0.0] * DIM}, 422, "vector 0 has no direction"),
        ({"embedding_input": [10**400] + [0] * (DIM - 1)}, 422, "embedding_input holds a number that is too great"),
        ({"embedding_input": [[1.0] * DIM]}, 422, "embedding_input must be a flat list of numbers; got a list of list"),
        ({"embedding_input": "x"}, 422, "embedding_input must be a flat list of numbers; got 'x'"),
        ({"embedding_input": {"a": 1}}, 422, "embedding_input must be a flat list of numbers; got dict"),
    ],
)
def test_knn_refuses_with_a_reason(client: TestClient, fields: dict[str, Any], status: int, told: str) -> None:
    code, detail = refusal(client, json.dumps({**LEAST, **fields}))
    assert code == status, detail
    with pytest.raises(ValueError, match=told):
        raise ValueError(detail)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"NaN"])
@pytest.mark.parametrize("path", ["/knn-service", "/metadata"])
def test_posts_refuse_what_is_no_json_object(client: TestClient, path: str, body: bytes) -> None:
    status, detail = refusal(client, body, path)
    assert status == 400
    assert detail.startswith("the body is no JSON")


@pytest.mark.parametrize(("number", "length"), [("NaN", "nan"), ("Infinity", "inf"), ("-Infinity", "inf")])
def test_knn_refuses_vectors_that_are_not_finite(client: TestClient, number: str, length: str) -> None:
    vector = f"[{', '.join([number] + ['0.5'] * (DIM - 1))}]"
    body = f'{{"modality": "image", "num_images": 3, "embedding_input": {vector}}}'
    assert refusal(client, body) == (422, f"vector 0 has no direction; got length {length}")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["0"], "ids must be a list of whole numbers; got a list of str"),
        ([True], "got a list of bool"),
        ([-1], "ids must be a list of whole numbers"),
        ([2**70], "ids must be a list of whole numbers"),
        ("1", "ids must be a list of whole numbers; got '1'"),
        ([0] * 10_001, "more than 10000 ids"),
        ([999], "no image with this id; got 999; ids run from 0 to"),
    ],
)
def test_metadata_refuses_with_a_reason(client: TestClient, wrong: Any, told: str) -> None:
    status, detail = refusal(client, json.dumps({"ids": wrong}), "/metadata")
    assert status in {404, 422}
    assert told in detail


def test_posts_refuse_bodies_over_the_limit(engine: simat.Engine) -> None:
    with talking_to(Service([engine], ServiceOptions(upload_bytes=1000))) as client:
        body = json.dumps({**LEAST, "text": "red", "image": "x" * 3_000_000})
        assert refusal(client, body)[0] == 413


def test_knn_fetches_from_allowed_hosts(engine: simat.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def fetch(*limits: Any) -> bytes:
        asked.append(limits)
        return encoded(plain("yellow"))

    monkeypatch.setattr(clip_retrieval, "fetch", fetch)
    with talking_to(Service([engine], ServiceOptions(fetch=("example.com",)))) as client:
        answer = ask(client, **LEAST, image_url="https://example.com/sun.png")
    assert answer[0]["image_path"] == "yellow.png"
    assert asked == [("https://example.com/sun.png", ("example.com",), 20 * 2**20, clip_retrieval.FETCH_SECONDS)]


def test_knn_finds_nothing_where_finding_is_not_allowed(engine: simat.Engine) -> None:
    with talking_to(Service([engine], ServiceOptions(backends=("diffedit",)))) as client:
        status, detail = refusal(client, json.dumps({**LEAST, "text": "red"}))
    assert (status, detail) == (422, "no such backend; got 'retrieve'; there are: diffedit")


def test_knn_batches_are_counted(engine: simat.Engine) -> None:
    service = Service([engine])
    with talking_to(service) as client:
        before = generate_latest(service.metrics.registry).decode()
        ask(client, **LEAST, text="red")
        after = generate_latest(service.metrics.registry).decode()
    assert "simat_batch_queries_count 0.0" in before
    assert "simat_batch_queries_count 1.0" in after


def test_knn_tells_a_words_only_failure_to_those_who_sent_words(
    engine: simat.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_words(texts: list[str]) -> None:
        raise SimatError("the encoder of this index reads no words")

    with talking_to(Service([engine])) as client, ThreadPoolExecutor(8) as pool:
        monkeypatch.setattr(engine, "encode_texts", no_words)
        picture = base64.b64encode(encoded(plain("red"))).decode()
        bodies = [json.dumps({**LEAST, "text": "red"}), json.dumps({**LEAST, "image": picture})] * 8
        answers = list(pool.map(lambda body: client.post("/knn-service", content=body), bodies))
    assert [answer.status_code for answer in answers] == [400, 200] * 8
    assert {answer.json()[0]["image_path"] for answer in answers[1::2]} == {"red.png"}


@given(st.dictionaries(st.sampled_from([*DEFAULTS, "other"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2), max_leaves=5,
)))  # fmt: skip
def test_requests_of_any_fields_are_read_or_refused(fields: dict[str, Any]) -> None:
    try:
        read = KnnRequest.of(fields_of(json.dumps(fields).encode()))
    except SimatError:
        return
    assert sum(value is not None for value in (read.text, read.image, read.image_url, read.vector)) == 1
    assert 0 <= read.told <= 10_000
    assert 0 <= read.results <= 10_000
