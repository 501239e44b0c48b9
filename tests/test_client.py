"""A server asked through the client answers, and refuses, as the engine behind it does."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from helpers import COLOURS, DIM, ColourEncoder, blotches, plain
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from talking import listening

import simat
from simat.client import questions
from simat.client.answers import answer_of
from simat.client.channel import error_of
from simat.edits import Edit
from simat.errors import (
    Busy,
    Cancelled,
    Denied,
    FetchError,
    ImageError,
    NotFound,
    QueryError,
    SimatError,
    StorageError,
    TooLarge,
)
from simat.images import decode, mask_of
from simat.server.app import create_app
from simat.server.security import Security
from simat.server.service import Service
from simat.types import Answer, Query, Step

TOKEN = "a token that nobody would guess"
PLAIN = st.sampled_from([*COLOURS])


@pytest.fixture(scope="module")
def engine(colour_index: Path) -> simat.Engine:
    return simat.open(colour_index, ColourEncoder())


@pytest.fixture(scope="module")
def url(engine: simat.Engine) -> Iterator[str]:
    service = Service([engine])
    with listening(create_app(service, Security(), page=False)) as port:
        yield f"http://127.0.0.1:{port}"
    service.close()


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[simat.Client]:
    with simat.connect(url) as client:
        yield client


def same(remote: Answer, local: Answer, root: Path) -> bool:
    """Whether two answers hold the same results, the remote one's paths below the root."""
    assert [r.id for r in remote] == [r.id for r in local]
    assert [r.score for r in remote] == pytest.approx([r.score for r in local], abs=2e-6)
    assert [root / r.path for r in remote] == [r.path for r in local]
    assert [r.caption for r in remote] == [r.caption for r in local]
    assert remote.backend == local.backend
    assert remote.timings.keys() == local.timings.keys()
    return True


# the same answers


@settings(max_examples=15)
@given(words=PLAIN | st.just("a dog, ça 🐕"), k=st.none() | st.integers(1, 23))
def test_search_for_words_answers_as_the_engine(
    client: simat.Client, engine: simat.Engine, words: str, k: int | None
) -> None:
    assert same(client.search(words, k=k), engine.search(words, k=k), engine.embeddings.root)


@settings(max_examples=15)
@given(st.integers(0, 22), PLAIN, PLAIN, st.floats(-2, 2), st.booleans(), st.sampled_from(["delta", "slerp", "text"]))
def test_edits_answer_as_the_engine(
    client: simat.Client, engine: simat.Engine, id: int, a: str, b: str, scale: float, itself: bool, composer: str
) -> None:
    asked: dict[str, Any] = {"scale": abs(scale) % 1 if composer == "slerp" else scale, "k": 5, "include_self": itself}
    asked["composer"] = composer
    edits = f"{a} -> {b}"
    assert same(client.edit(id, edits, **asked), engine.edit(id, edits, **asked), engine.embeddings.root)


def forms(engine: simat.Engine, tmp_path: Path) -> dict[str, Any]:
    """One picture that is in the index, in every form that an engine takes."""
    path = engine.embeddings.root / "blotch_03.png"
    return {"path": path, "text": str(path), "picture": Image.open(path), "array": np.asarray(Image.open(path))}


@pytest.mark.parametrize("form", ["path", "text", "picture", "array"])
def test_pictures_of_every_form_find_their_neighbours_and_not_themselves(
    client: simat.Client, engine: simat.Engine, tmp_path: Path, form: str
) -> None:
    image = forms(engine, tmp_path)[form]
    remote, local = client.search(image=image, k=4), engine.search(image=image, k=4)
    assert same(remote, local, engine.embeddings.root)
    assert "blotch_03.png" not in {result.path.name for result in remote}


def test_words_and_an_image_answer_as_the_engine(client: simat.Client, engine: simat.Engine) -> None:
    asked: dict[str, Any] = {"image": 3, "composer": "weighted", "scale": 0.5, "k": 6}
    assert same(client.search("red", **asked), engine.search("red", **asked), engine.embeddings.root)


def test_edits_as_objects_answer_as_their_text(client: simat.Client, engine: simat.Engine) -> None:
    edits = [Edit("red", "blue"), Edit(None, "green"), Edit("white", None)]
    assert same(client.edit(0, edits, k=5), engine.edit(0, edits, k=5), engine.embeddings.root)


def test_vectors_answer_as_the_engine(client: simat.Client, engine: simat.Engine) -> None:
    vector = engine.embeddings.vectors(np.array([7]))[0] * 3
    query = Query(vector=vector, composer="image", k=4)
    assert same(client.answer(query), engine.answer(query), engine.embeddings.root)


def test_encoding_gives_the_vectors_of_the_engine(client: simat.Client, engine: simat.Engine) -> None:
    texts, images = ["red", "a dog"], [plain("green"), np.asarray(blotches(1)), blotches(2)]
    pictures = [Image.fromarray(i) if isinstance(i, np.ndarray) else i for i in images]
    assert np.allclose(client.encode_texts(texts), engine.encode_texts(texts), atol=1e-6)
    assert np.allclose(client.encode_images(images), engine.encoder.encode_images(pictures), atol=1e-6)
    assert client.encode_texts([]).shape == client.encode_images([]).shape == (0, DIM)


def test_client_tells_what_the_server_holds(client: simat.Client, engine: simat.Engine, url: str) -> None:
    assert len(client) == len(engine)
    assert client.space == engine.space
    assert client.indices() == ["index"]
    assert "retrieve" in client.backends()
    with simat.connect(f"{url}/", index="index") as named:
        assert len(named) == len(engine)
        assert same(named.search("red", k=3), engine.search("red", k=3), engine.embeddings.root)


def test_pictures_of_results_are_fetched(client: simat.Client, engine: simat.Engine) -> None:
    found = client.search("red", k=1)[0]
    assert found.image is None
    original = decode((engine.embeddings.root / found.path).read_bytes())
    assert client.open(found).tobytes() == client.open(found.id).tobytes() == original.tobytes()
    assert max(client.thumbnail(found, 128).size) <= 128


def test_progress_of_a_search_is_one_step(client: simat.Client, engine: simat.Engine) -> None:
    remote: list[Step] = []
    local: list[Step] = []
    client.answer(Query(text="red", composer="text"), on_step=remote.append)
    engine.answer(Query(text="red", composer="text"), on_step=local.append)
    assert remote == local


# the same errors


@pytest.mark.parametrize(
    "ask",
    [
        lambda asked: asked.search(),
        lambda asked: asked.search("red", image=1),
        lambda asked: asked.search("red", k=99),
        lambda asked: asked.search(image=999),
        lambda asked: asked.edit(0, "no arrow"),
        lambda asked: asked.edit(0, "red -> blue", composer="alchemy"),
        lambda asked: asked.edit(0, "red -> blue", scale=float("inf")),
        lambda asked: asked.answer(Query(image=0, edits="red -> blue", where="x > 1")),
        lambda asked: asked.answer(Query(text="red"), "nonsense"),
        lambda asked: asked.answer(Query(text="red", composer="text"), settings={"steps": 3}),
        lambda asked: asked.search(image="/nowhere/at/all.png"),
    ],
)
def test_refusals_are_those_of_the_engine(
    client: simat.Client, engine: simat.Engine, ask: Callable[[Any], Any]
) -> None:
    with pytest.raises(SimatError) as local:
        ask(engine)
    with pytest.raises(SimatError) as remote:
        ask(client)
    assert issubclass(remote.type, local.type) or issubclass(local.type, remote.type)


def test_an_unknown_index_is_told_with_those_there_are(url: str) -> None:
    with simat.connect(url, index="elsewhere") as client:
        for ask in (lambda: client.search("red"), lambda: len(client), lambda: client.encode_texts(["x"])):
            with pytest.raises(NotFound):
                ask()
        with pytest.raises(NotFound, match=r"no such index; got 'elsewhere'; there are: index"):
            client.search("red")


def test_a_damaged_picture_is_an_image_error(client: simat.Client, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    with pytest.raises(ImageError):
        client.search(image=tmp_path / "x.jpg")


def test_a_picture_that_is_gone_is_not_found(client: simat.Client) -> None:
    with pytest.raises(NotFound, match="no image with this id; got 999"):
        client.open(999)
    with pytest.raises(NotFound, match="no thumbnails of this size"):
        client.thumbnail(0, 100_000)


def test_a_cancelled_search_asks_nothing(client: simat.Client) -> None:
    with pytest.raises(Cancelled, match="cancelled"):
        client.answer(Query(text="red", composer="text"), cancel=lambda: True)


def test_edits_that_cannot_be_written_are_refused(client: simat.Client) -> None:
    with pytest.raises(QueryError, match="these edits cannot be written; got 'a, b -> c'"):
        client.edit(0, [Edit("a, b", "c")])


def test_a_token_opens_the_door(engine: simat.Engine) -> None:
    with listening(create_app(Service([engine]), Security(TOKEN), page=False)) as port:
        address = f"http://127.0.0.1:{port}"
        with simat.connect(address, TOKEN) as known:
            assert len(known) == len(engine)
        for token in (None, "another token of that length"):
            with simat.connect(address, token) as stranger, pytest.raises(Denied, match="token"):
                stranger.search("red")


def test_no_server_is_told_with_its_address() -> None:
    with simat.connect("http://127.0.0.1:9") as client, pytest.raises(FetchError, match=r"no answer: .*127\.0\.0\.1:9"):
        client.search("red")


@pytest.mark.parametrize("wrong", ["localhost:8000", "", "ftp://x", "http://a b:x"])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(QueryError, match="not the address of a server"):
        simat.connect(wrong)


def problem(status: int, kind: str = "about:blank", **headers: str) -> SimatError:
    told = {"type": kind, "title": "what", "got": "got", "remedy": "remedy", "status": status}
    return error_of(httpx.Response(status, headers=headers, json=told))


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (422, "urn:simat:ImageError", ImageError),
        (409, "urn:simat:Cancelled", Cancelled),
        (503, "urn:simat:ModelError", simat.errors.ModelError),
        (400, "urn:simat:BadBody", QueryError),
        (413, "urn:simat:TooLarge", TooLarge),
        (404, "about:blank", NotFound),
        (503, "about:blank", StorageError),
        (500, "urn:simat:SimatError", SimatError),
        (500, "urn:simat:annotations", SimatError),
        (418, "urn:else:QueryError", QueryError),
    ],
)
def test_problems_become_the_errors_they_were(status: int, kind: str, expected: type[SimatError]) -> None:
    error = problem(status, kind)
    assert type(error) is expected
    assert str(error) == "what; got got; remedy"


def test_busy_says_when_to_come_back() -> None:
    error = problem(429, "urn:simat:Busy", **{"Retry-After": "17"})
    assert isinstance(error, Busy)
    assert error.retry_after == 17


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"[1]", b"\xff"])
def test_answers_of_strangers_become_errors(body: bytes) -> None:
    request = httpx.Request("GET", "http://proxy.test/v1/search")
    error = error_of(httpx.Response(502, content=body, request=request))
    assert type(error) is SimatError
    assert str(error) == "the server answered with status 502; got http://proxy.test/v1/search"


@pytest.mark.parametrize("document", [{}, {"results": [{}]}, {"results": 7}, {"results": [], "backend": "x"}])
def test_documents_that_are_no_answer_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(FetchError, match="what the server sent is no answer"):
        answer_of(document)


# what is sent


@settings(max_examples=20)
@given(st.integers(0, 99), st.integers(1, 9), st.integers(1, 9))
def test_masks_arrive_to_the_255th_part(seed: int, height: int, width: int) -> None:
    values = np.random.default_rng(seed).random((height, width))
    sent = questions.mask(values)
    assert np.abs(mask_of(decode(base64.b64decode(sent))) - values).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("values", [np.zeros(3), np.full((2, 2), 2.0), np.full((2, 2), np.nan), np.full((2, 2), -0.1)])
def test_what_is_no_mask_is_refused(values: np.ndarray) -> None:
    with pytest.raises(QueryError, match="a mask has two dimensions, and values in"):
        questions.fields_of(Query(image=0, edits="a -> b", mask=values))


def test_only_what_differs_from_the_defaults_is_sent() -> None:
    assert questions.fields_of(Query(text="red")) == {"text": "red"}
    drawn = Query(text="red", layout={"a dog": np.ones((2, 2), bool)}, seed=0)
    assert questions.kind_of(drawn) == "draw"
    assert questions.fields_of(drawn).keys() == {"text", "segments", "seed"}
