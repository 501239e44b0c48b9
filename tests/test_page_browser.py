"""The page in a real browser, over a real server: search, edit, draw, cancel, on a screen and on a phone.

Screenshots go to the folder that ``SIMAT_SCREENSHOTS`` names, where it names one.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from building import colour_environment, colour_plugin, start
from helpers import encoded, plain

pytest.importorskip("gradio")
sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
WIDE, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
PATIENCE = 60_000  # milliseconds, on a machine with much else to do
BUSY = '[data-state="running"], [data-state="waiting"]'


@dataclass
class Seen:
    """What a browser met beside the page itself."""

    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def site(colour_index: Path, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the colour index and the tiny diffusion model."""
    plugin = colour_plugin(tmp_path_factory.mktemp("plugin"))
    options = ["--port", "0", "--model", str(tiny_folder), "--device", "cpu", "--dtype", "float32"]
    alone = {"OMP_NUM_THREADS": "1"}  # tiny networks beside other work: a second thread costs more than it brings
    with start("serve", colour_index, *options, extra={**colour_environment(plugin), **alone}) as process:
        assert process.stdout is not None and process.stderr is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would stop the server
        lines = iter(process.stdout.readline, b"")
        address = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line.decode())))
        yield f"{address}/"
        process.send_signal(signal.SIGINT)
        try:
            process.wait(30)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture
def seen() -> Seen:
    """Filled by :func:`opened`."""
    return Seen()


@pytest.fixture
def opened(browser: Any, site: str, seen: Seen) -> Iterator[Callable[..., Any]]:
    """``opened(size, query, dark)``: the page, ready; nothing it does may leave the server or fail in the console."""
    contexts = []

    def open_page(size: dict[str, int] = WIDE, query: str = "", dark: bool = False) -> Any:
        phone = size["width"] < 500
        context = browser.new_context(
            viewport=size, color_scheme="dark" if dark else "light", is_mobile=phone, has_touch=phone
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda r: None if r.url.startswith((site, "data:", "blob:")) else seen.outside.append(r.url))
        page.on("pageerror", lambda error: seen.errors.append(str(error)))
        page.on("console", lambda m: seen.errors.append(m.text) if m.type == "error" else None)
        page.goto(site + query)
        page.wait_for_selector("#search-words textarea, #search-words input", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not seen.outside and not seen.errors


def shoot(page: Any, name: str) -> None:
    """Keep a picture of the page, where somebody wants to look at it."""
    folder = os.environ.get("SIMAT_SCREENSHOTS")
    if folder:
        page.wait_for_timeout(400)
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def write(page: Any, field: str, text: str) -> None:
    page.fill(f"#{field} textarea, #{field} input", text)


def names(page: Any, out: str) -> list[str]:
    """The files of the results, in their order."""
    return [link.get_attribute("download") for link in page.locator(f"#{out} .card a").all()]


def settled(page: Any, out: str) -> list[str]:
    """The states of all columns, once nothing changes any more."""
    page.wait_for_function(f"""() => document.querySelector('#{out} .column') &&
        !document.querySelector('#{out} .column:is({BUSY})')""")
    return [column.get_attribute("data-state") for column in page.locator(f"#{out} .column").all()]


def test_search_by_words_then_by_a_result_then_back(opened: Callable[..., Any]) -> None:
    page = opened()
    shoot(page, "search-empty")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    page.keyboard.type("red")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-out .summary")
    assert names(page, "search-out")[0] == "red.png" and "q=red" in page.url
    shoot(page, "search")
    page.locator("#search-out .pick").nth(1).focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-out .summary >> text=Pictures like this one")
    assert "q=" not in page.url and re.search(r"id=\d+", page.url)
    page.go_back()
    page.wait_for_selector("#search-out .summary >> text=red")
    assert names(page, "search-out")[0] == "red.png"
    assert page.input_value("#search-words textarea, #search-words input") == "red"


def test_search_by_an_uploaded_picture(opened: Callable[..., Any], tmp_path: Path) -> None:
    page, photo = opened(), tmp_path / "mine.png"
    photo.write_bytes(encoded(plain("green", (40, 40))))
    page.set_input_files("#search-picture input[type=file]", photo)
    page.wait_for_selector("#search-picture figure >> text=mine.png")
    page.click("#search-go")
    page.wait_for_selector("#search-out .summary")
    assert names(page, "search-out")[0] == "green.png" and "id=" not in page.url
    page.click("#search-picture .clear")
    page.click("#search-go")
    page.wait_for_selector("#search-out [role=alert] >> text=Nothing to search for yet")


def test_edit_finds_and_makes_side_by_side(opened: Callable[..., Any]) -> None:
    page = opened()
    write(page, "search-words", "red")
    page.click("#search-go")
    page.wait_for_selector("#search-out .summary")
    page.locator("#search-out .card").first.locator('[data-act="edit"]').click()
    page.wait_for_selector("#edit-picture figure >> text=red.png")
    write(page, "edit-source", "red")
    write(page, "edit-target", "blue")
    page.get_by_label("DiffEdit", exact=True).check()
    page.get_by_label("SDEdit", exact=True).check()
    page.click("#edit-go")
    page.wait_for_selector("#edit-out .column progress")
    shoot(page, "edit-running")
    assert settled(page, "edit-out") == ["done", "done", "done"]
    assert names(page, "edit-out")[0] == "blue.png"
    for part in ("from=red", "to=blue", "by=retrieve%2Cdiffedit%2Csdedit"):
        assert part in page.url
    made = page.locator('#edit-out [data-backend="sdedit"]')
    assert made.locator("img.made").is_visible() and not made.locator("img.before").is_visible()
    made.locator(".switch >> text=Before").click()
    assert made.locator("img.before").is_visible() and not made.locator("img.made").is_visible()
    with page.expect_download() as download:
        made.locator("a[download]").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    shoot(page, "edit")


def test_draw_where_it_is_painted_and_share_it(opened: Callable[..., Any]) -> None:
    page = opened()
    page.click("#tab-draw-button")
    page.click("#draw-layout .wipe")
    page.wait_for_selector("#draw-layout .hint")
    for number, words in enumerate(("dog", "snow")):
        page.locator("#draw-layout .names input").nth(number).fill(words)
    write(page, "draw-text", "a dog in the snow")
    board = page.locator("#draw-layout canvas").bounding_box()
    across = [(0.25, 0.3), (0.6, 0.35)]
    page.locator("#draw-layout .dot").first.click()
    page.mouse.move(board["x"] + across[0][0] * board["width"], board["y"] + across[0][1] * board["height"])
    page.mouse.down()
    page.mouse.move(board["x"] + across[1][0] * board["width"], board["y"] + across[1][1] * board["height"], steps=6)
    page.mouse.up()
    page.locator("#draw-layout canvas").focus()
    for key in ("2", *["ArrowDown"] * 9, "Space"):
        page.keyboard.press(key)
    page.click("#draw-go")
    assert settled(page, "draw-out") == ["done"]
    page.locator("#draw-out .switch >> text=Layout").click()
    assert page.locator("#draw-out img.layout").is_visible()
    shoot(page, "draw")
    cells = re.search(r"cells=(\w+)", page.url)
    assert cells and {"A", "B", "C"} <= set(re.findall("[A-Z]", cells[1])) and "segments=dog%2Csnow" in page.url
    again = opened(
        query=page.url.partition("?")[0].replace(page.url.partition("?")[0], "?") + page.url.partition("?")[2]
    )
    again.wait_for_selector("#draw-out >> text=Press the button")
    assert [field.input_value() for field in again.locator("#draw-layout .names input").all()] == ["dog", "snow"]
    again.click("#draw-layout .undo")
    again.click("#draw-go")
    again.wait_for_selector(f"#draw-out .column:is({BUSY}), #draw-out .column")
    assert settled(again, "draw-out") == ["done"] and cells[0] in again.url


def test_cancel_ends_what_is_under_way(opened: Callable[..., Any]) -> None:
    page = opened(
        query="?tab=draw&text=a+dog+in+the+snow&segments=dog&cells=4vyA8k0B&samples=4".replace("4vyA8k0B", "6bkA6bkB")
    )
    page.wait_for_selector("#draw-out >> text=Press the button")
    assert not page.locator("#draw-cancel").is_visible()
    page.click("#draw-go")
    page.wait_for_selector('#draw-out .column:is([data-state="running"], [data-state="waiting"])')
    page.click("#draw-cancel")
    assert settled(page, "draw-out") == ["cancelled"]
    assert not page.locator("#draw-cancel").is_visible()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_phone_shows_everything_within_its_width(opened: Callable[..., Any], dark: bool) -> None:
    page, kind = opened(PHONE, dark=dark), "dark" if dark else "light"
    write(page, "search-words", "red")
    page.click("#search-go")
    page.wait_for_selector("#search-out .summary")
    shoot(page, f"phone-search-{kind}")
    for tab in ("edit", "draw", "search"):
        page.click(f"#tab-{tab}-button")
        page.wait_for_selector(f"#{tab}-go")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        shoot(page, f"phone-{tab}-{kind}")
    ink = "getComputedStyle(document.querySelector('h1')).color"
    before = page.evaluate(ink)
    assert (sum(map(int, re.findall(r"\d+", before)[:3])) > 384) == dark
    page.click('[data-act="theme"]')
    assert page.evaluate(ink) != before


def test_links_of_strangers_show_an_error_and_run_no_script(opened: Callable[..., Any], seen: Seen) -> None:
    page = opened(query="?tab=edit&id=999&from=%3Cimg+src%3Dx+onerror%3Dalert(1)%3E&to=blue")
    page.wait_for_selector("#edit-out [role=alert] >> text=No image with this id")
    page.wait_for_timeout(300)
    assert page.locator("img[onerror]").count() == 0
    seen.errors[:] = [error for error in seen.errors if "404" not in error]  # of the thumbnail that is not there
