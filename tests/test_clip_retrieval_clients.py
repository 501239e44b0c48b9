"""The published client and the published front end of clip-retrieval, unchanged, against our server."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest
from building import save_blotches
from clip_retrieval_wheel import client_module, unpacked
from helpers import COLOURS, ColourEncoder, plain
from talking import listening

import simat
from simat.server.app import create_app
from simat.server.security import Security
from simat.server.service import Service

CHROMIUM = Path("/usr/bin/chromium")
FRONT = "document.querySelector('clip-front')"
MANY = 60  # more than the front end takes with the first answer
OFFLINE = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published package."""
    return unpacked(tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def engine(build: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> simat.Engine:
    """An index of plain pictures and of many more."""
    photos = save_blotches(tmp_path_factory.mktemp("photos"), MANY)
    for colour in COLOURS:
        plain(colour).save(photos / f"{colour}.png")
    return simat.open(build(photos, ColourEncoder()), ColourEncoder())


@pytest.fixture(scope="module")
def url(engine: simat.Engine) -> Iterator[str]:
    """Our server."""
    service = Service([engine])
    with listening(create_app(service, Security(), page=False)) as port:
        yield f"http://127.0.0.1:{port}"
    service.close()


# the client


@pytest.fixture(scope="module")
def published(package: Path) -> ModuleType:
    return client_module(package)


def test_client_finds_by_words(published: ModuleType, url: str) -> None:
    client = published.ClipClient(url=f"{url}/knn-service", indice_name="index")
    answer = client.query(text="red")
    assert answer[0]["image_path"] == "red.png"
    assert answer[0]["similarity"] == pytest.approx(1, abs=1e-3)
    assert len(answer) <= 40
    assert all({"id", "similarity", "image_path", "image"} == image.keys() for image in answer)


def test_client_finds_by_a_file(published: ModuleType, url: str, tmp_path: Path) -> None:
    plain("green", (200, 100)).save(tmp_path / "leaf.jpg")
    client = published.ClipClient(url=f"{url}/knn-service", indice_name="index", num_images=3)
    answer = client.query(image=str(tmp_path / "leaf.jpg"))
    assert answer[0]["image_path"] == "green.png"


def test_client_finds_by_a_vector(published: ModuleType, url: str, engine: simat.Engine) -> None:
    client = published.ClipClient(url=f"{url}//knn-service", indice_name="index", num_images=2, deduplicate=False)
    answer = client.query(embedding_input=engine.encode_texts(["blue"])[0].tolist())
    assert [image["id"] for image in answer] == [result.id for result in engine.search("blue", k=2)]


def test_client_is_told_why_an_address_is_not_fetched(published: ModuleType, url: str) -> None:
    client = published.ClipClient(url=f"{url}/knn-service", indice_name="index")
    answer = client.query(image="https://example.com/dog.jpg")
    assert answer["title"] == "this server does not fetch from there"


# the front end


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium here")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=OFFLINE)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A page, and under ``asked`` what it asked for: (path, what was sent)."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.asked, page.errors = [], []
    page.on("request", lambda request: page.asked.append((urlsplit(request.url).path, request.post_data)))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.set_default_timeout(15_000)
    yield page
    page.close()


def front_beside(page: Any, package: Path) -> None:
    """Answer the front end's own files from the package, and leave everything else to the server."""
    build = package / "front" / "build"

    def answer(route: Any) -> None:
        path = urlsplit(route.request.url).path
        file = build / (path.lstrip("/") or "index.html")
        if file.is_file() and file.name != "config.json":
            route.fulfill(path=file)
        else:
            route.continue_()

    page.route("**/*", answer)


def shown(page: Any) -> list[str]:
    """Where the pictures on the page come from."""
    sources: list[str] = page.eval_on_selector_all("clip-front img.pic", "pictures => pictures.map(p => p.src)")
    return sources


def search(page: Any, words: str) -> None:
    page.fill("clip-front #searchBar", words)
    page.press("clip-front #searchBar", "Enter")
    page.wait_for_selector("clip-front img.pic")


def all_loaded(page: Any) -> bool:
    return bool(page.eval_on_selector_all("clip-front img.pic", "all => all.every(p => p.naturalWidth > 0)"))


def test_front_end_at_the_servers_own_address(page: Any, package: Path, url: str) -> None:
    front_beside(page, package)
    page.goto(f"{url}/")
    page.wait_for_selector("clip-front select option", state="attached")
    assert page.input_value("clip-front #filter input") == f"{url}/"
    search(page, "red")
    paths = [path for path, _ in page.asked]
    assert {"/config.json", "//indices-list", "//knn-service"} <= set(paths)
    page.wait_for_function(f"{FRONT}.images.filter(i => i.image).length > 40")
    assert "//metadata" in [path for path, _ in page.asked]
    assert page.evaluate(f"{FRONT}.images[0].image_path") == "red.png"
    page.wait_for_function(
        "[...document.querySelector('clip-front').shadowRoot.querySelectorAll('img.pic')].length > 40"
    )
    assert all_loaded(page)
    assert not page.errors


def test_front_end_searches_for_one_of_its_pictures(page: Any, package: Path, url: str) -> None:
    front_beside(page, package)
    page.goto(f"{url}/")
    page.wait_for_selector("clip-front select option", state="attached")
    search(page, "blue")
    with page.expect_response("**/knn-service") as answered:
        page.eval_on_selector("clip-front .subImageSearch", "icon => icon.click()")
    assert answered.value.json()[0]["image_path"] == "blue.png"
    assert not page.errors


def test_front_end_from_another_origin(page: Any, package: Path, url: str) -> None:
    handler = functools.partial(_Quiet, directory=str(package / "front" / "build"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files:
        threading.Thread(target=files.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{files.server_port}/?back={url}&query=green&index=index")
        page.wait_for_selector("clip-front img.pic")
        assert page.evaluate(f"{FRONT}.images[0].image_path") == "green.png"
        assert all_loaded(page)
        files.shutdown()
    assert not page.errors


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass
