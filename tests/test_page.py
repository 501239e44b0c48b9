"""The page: forms, links, layouts, what is shown, and what Gradio may serve."""

from __future__ import annotations

import base64
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from helpers import ColourEncoder, blotches, encoded, plain
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

pytest.importorskip("gradio")

from fastapi import FastAPI
from fastapi.testclient import TestClient

import simat
from simat.edits import Edit
from simat.errors import Busy, Cancelled, ImageError, QueryError, SimatError, TooLarge
from simat.server.options import ServiceOptions
from simat.server.page import cards, mount_page
from simat.server.page.asking import Asking
from simat.server.page.columns import Column, Home, columns_html
from simat.server.page.forms import SENTENCE, DrawForm, EditForm, Form, SearchForm, filled, values
from simat.server.page.guard import names_file
from simat.server.page.layouts import SIDE, example_layout, read_cells, read_layout, write_cells
from simat.server.page.links import from_link, to_link
from simat.server.page.pictures import from_data_url, png_url, read_picker, shown_url
from simat.server.page.running import Runs, done, followed
from simat.server.service import Service
from simat.types import Answer, Result, Step

LIMIT = 2**20
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


class Tags(HTMLParser):
    """Elements and attributes of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


class Queue:
    """Does one thing after another, in a thread of its own."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def submit(self, work: Callable[..., Answer], name: str) -> Any:
        job = SimpleNamespace(name=name, state="waiting", cancel=self.cancelled.set)

        def run() -> None:
            job.state = "running"
            try:
                work(lambda step: None, self.cancelled.is_set)
            except Exception as error:
                job.error = error

        threading.Thread(target=run, daemon=True).start()
        return job


@pytest.fixture
def service(colour_index: Path) -> Iterator[Service]:
    """The colour index behind a service."""
    made = Service([simat.open(colour_index, ColourEncoder())], ServiceOptions(upload_bytes=LIMIT, window=0.0))
    yield made
    made.close()


@pytest.fixture
def asking(service: Service) -> Asking:
    """What the page asks with."""
    return Asking(service, Queue())


@pytest.fixture(scope="module")
def client(colour_index: Path) -> Iterator[TestClient]:
    """An application with the page."""
    app, options = FastAPI(), ServiceOptions(upload_bytes=LIMIT, window=0.0)
    mount_page(app, Service([simat.open(colour_index, ColourEncoder())], options), Queue())
    with TestClient(app) as opened:
        yield opened


# -- pictures -------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_data_urls_give_back_the_bytes(data: bytes) -> None:
    assert from_data_url("data:image/png;base64," + base64.b64encode(data).decode(), LIMIT) == data


def test_picker_takes_an_id_a_picture_or_nothing() -> None:
    picture = blotches(1)
    read = read_picker({"data": png_url(picture), "name": HOSTILE, "id": None}, LIMIT)
    assert read is not None and not isinstance(read, int) and read.tobytes() == picture.tobytes()
    assert read_picker({"id": 7, "data": "ignored"}, LIMIT) == 7
    assert read_picker(None, LIMIT) is None and read_picker({}, LIMIT) is None and read_picker("text", LIMIT) is None


@pytest.mark.parametrize("value", [{"id": True}, {"id": "7"}, {"data": 7}, {"data": "https://example.org/a.png"},
                                   {"data": "file:///etc/passwd"}, {"path": "/etc/passwd"}])  # fmt: skip
def test_picker_refuses_what_is_no_picture(value: Any) -> None:
    with pytest.raises(ImageError, match="a file or an image of the index"):
        read_picker(value, LIMIT)


def test_picker_refuses_damaged_and_great_files() -> None:
    with pytest.raises(ImageError, match="damaged on its way"):
        read_picker({"data": "data:image/png;base64,a-b"}, LIMIT)
    with pytest.raises(ImageError, match="not an image in a format we read"):
        read_picker({"data": "data:image/png;base64,aGVsbG8="}, LIMIT)
    with pytest.raises(TooLarge, match="may have 1 MiB; got 2 MiB"):
        read_picker({"data": "data:image/png;base64," + "A" * (3 * LIMIT)}, LIMIT)


def test_pictures_for_looking_at_are_small_and_left_as_they_were() -> None:
    from PIL import Image

    picture = plain("red", (3000, 1500))
    head, _, text = shown_url(picture).partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(text))).size == (1024, 512) and picture.size == (3000, 1500)


# -- layouts --------------------------------------------------------------------------------------------------------


@given(arrays(np.uint8, (SIDE, SIDE), elements=st.integers(0, 6)))
def test_cells_give_back_what_was_painted(cells: np.ndarray) -> None:
    assert (read_cells(write_cells(cells)) == cells).all()


def test_cells_are_runs_in_base_36() -> None:
    rows, columns = np.mgrid[0:SIDE, 0:SIDE]
    assert write_cells(((rows == 0) & (columns < 3)).astype(np.uint8)) == "3Bcn1A"
    assert not read_cells("").any()


@pytest.mark.parametrize(
    ("text", "message"),
    [("zzzzB", "not complete"), ("cn3A", "not complete"), ("cn4A1B", "not complete"), ("cn4A", None),
     ("cn4Z", "cannot be read"), ("<b>", "cannot"), ("cn4", "cannot be read"), ("1A" * 70_000, "cannot be read")],
)  # fmt: skip
def test_cells_refuse_what_is_no_layout(text: str, message: str | None) -> None:
    if message is None:
        assert not read_cells(text).any()
        return
    with pytest.raises(QueryError, match=message):
        read_cells(text)


def test_layout_gives_masks_apart_by_their_words() -> None:
    masks = read_layout(example_layout())
    assert [*masks] == ["dog", "beach"]
    assert all(mask.shape == (SIDE, SIDE) and set(np.unique(mask)) == {0, 1} for mask in masks.values())
    assert (masks["dog"] + masks["beach"]).max() == 1
    unused = {**example_layout(), "words": ["dog", "beach", "unused"]}
    assert [*read_layout(unused)] == ["dog", "beach"]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"words": ["dog", " "]}, "has no name"), ({"words": ["dog", "dog"]}, "the same name; got 'dog'"),
     ({"words": []}, "nothing is painted"), ({"words": "dog"}, "nothing is painted"), ({"cells": ""}, "nothing is")],
)  # fmt: skip
def test_layout_says_what_is_missing(change: dict[str, Any], message: str) -> None:
    with pytest.raises(QueryError, match=message):
        read_layout({**example_layout(), **change})


def test_layout_refuses_what_is_none_at_all() -> None:
    for value in (None, 7, "dog", []):
        with pytest.raises(QueryError, match="nothing is painted"):
            read_layout(value)


# -- forms and links ------------------------------------------------------------------------------------------------


def test_search_form_chooses_the_composer_from_what_is_given() -> None:
    words, picture, both = SearchForm(words=" dog "), SearchForm(), SearchForm(words="dog", composer="slerp", scale=2.0)
    assert (words.query(None, 99).composer, words.query(None, 99).text) == ("text", "dog")
    assert (picture.query(3, 99).composer, picture.query(3, 99).image, picture.query(3, 5).k) == ("image", 3, 5)
    assert (both.query(3, 99).composer, both.query(3, 99).scale) == ("slerp", 2.0)
    with pytest.raises(QueryError, match="nothing to search for yet; type some words"):
        SearchForm(words="  ").query(None, 99)


def test_edit_form_speaks_to_each_backend_in_its_own_fields() -> None:
    form = EditForm(
        source="dog", target="cat", more="+ snow", shows="a dog", scale=1.5, strength=0.7, seed=3, samples=2
    )
    found, made = form.query("retrieve", 4, 9), form.query("diffedit", 4, 9)
    assert found.edits == made.edits == (Edit("dog", "cat"), Edit(None, "snow"))
    assert (found.scale, found.k, found.reference, found.seed) == (1.5, 9, None, None)
    assert (made.reference, made.strength, made.seed, made.samples, made.scale, made.k) == (
        "a dog",
        0.7,
        3,
        2,
        1.0,
        None,
    )
    assert form.query("encode", 4, 9).samples is None  # which takes none
    assert EditForm(target="snow").query("retrieve", 4, 9).edits == (Edit(None, "snow"),)


def test_edit_form_takes_a_sentence_for_the_words() -> None:
    form = EditForm(mode=SENTENCE, sentence="a cat", source="dog", target="horse")
    assert (form.query("retrieve", 4, 9).text, form.query("retrieve", 4, 9).composer) == ("a cat", "weighted")
    assert replace(form, composer="basic").query("retrieve", 4, 9).composer == "basic"
    described = replace(form, shows="a dog")
    assert described.query("retrieve", 4, 9).edits == (Edit("a dog", "a cat"),)
    made = described.query("flexit", 4, 9)
    assert (made.text, made.reference, made.edits) == ("a cat", "a dog", ())


@pytest.mark.parametrize(
    ("form", "source", "message"),
    [(EditForm(target="cat"), None, "no picture to edit yet"), (EditForm(), 1, "nothing to change yet"),
     (EditForm(mode=SENTENCE), 1, "no sentence yet"), (EditForm(more="dog cat"), 1, "this is no edit")],
)  # fmt: skip
def test_edit_form_says_what_is_missing(form: EditForm, source: int | None, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        form.query("retrieve", source, 9)


def test_draw_form_names_its_segments_where_there_is_no_text() -> None:
    layout = read_layout(example_layout())
    assert DrawForm().query("zestguide", layout).text == "dog, beach"
    query = DrawForm(text="a dog on the beach", seed=0, samples=3).query("zestguide", layout)
    assert (query.text, query.seed, query.samples) == ("a dog on the beach", 0, 3)


def test_filled_form_keeps_its_defaults_where_nothing_is_sent() -> None:
    form = filled(SearchForm, [None, None, {"id": 1}, None, 2.0, None, None])
    assert form == SearchForm(picture={"id": 1}, scale=2.0)


TEXT = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)
IDS = st.none() | st.builds(lambda n: {"id": n}, st.integers(0, 10**12))
NAMES = st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters=","), min_size=1), min_size=1)
FORMS: st.SearchStrategy[Form] = st.one_of(
    st.builds(SearchForm, st.none() | TEXT.filter(bool), TEXT, IDS, TEXT.filter(bool), st.floats(-9, 9, width=16),
              st.integers(0, 99), TEXT),
    st.builds(EditForm, picture=IDS, mode=st.sampled_from(["Words", SENTENCE]), source=TEXT, target=TEXT, more=TEXT,
              sentence=TEXT, shows=TEXT, backends=st.sampled_from([("flexit",), ("retrieve", "sdedit")]),
              strength=st.none() | st.just(0.5), seed=st.none() | st.integers(0, 2**59), samples=st.integers(1, 4)),
    st.builds(DrawForm, TEXT, st.builds(lambda words: {"words": words, "cells": example_layout()["cells"]}, NAMES)),
)  # fmt: skip


@given(FORMS)
def test_links_tell_the_whole_form(form: Form) -> None:
    read = from_link(dict(parse_qsl(to_link(form), keep_blank_values=True)))
    assert read is not None and type(read) is type(form)
    for each in fields(form):
        ours, theirs = getattr(form, each.name), getattr(read, each.name)
        assert theirs == (pytest.approx(ours, rel=1e-5) if isinstance(ours, float) else ours), each.name


def test_links_are_short_and_leave_out_what_was_uploaded() -> None:
    form = EditForm(picture={"data": "data:image/png;base64,AAAA"}, source="dog", target="cat", scale=1.0)
    assert to_link(form) == "tab=edit&from=dog&to=cat"
    assert to_link(SearchForm(words="a dog", picture={"id": 0})) == "tab=search&q=a+dog&id=0"
    assert len(to_link(DrawForm(layout=example_layout()))) < 1000


@given(st.dictionaries(st.sampled_from(["tab", "id", "k", "scale", "seed", "by", "segments", "cells", "q"]), TEXT))
def test_links_of_strangers_break_nothing(params: dict[str, str]) -> None:
    form = from_link(params)
    assert (form is None) == (params.get("tab") not in {"search", "edit", "draw"})


def test_links_with_numbers_that_are_none_keep_the_default() -> None:
    form = from_link({"tab": "search", "k": "²", "scale": "nan", "id": "1e9", "q": "dog"})
    assert form == SearchForm(words="dog")


def test_values_are_what_the_parts_of_the_page_take() -> None:
    assert values(EditForm(backends=("flexit", "diffedit")))[8] == ["flexit", "diffedit"]


# -- what is shown --------------------------------------------------------------------------------------------------


def test_cards_tell_score_and_path_relative_to_the_root() -> None:
    results = [Result(0.5, 7, Path("/photos/a/b.png"), "a dog"), Result(0.25, 8, Path("/photos/c d.png"))]
    html = cards.cards(results, "my photos", Path("/photos"), "like")
    tags = Tags(html)
    assert [image["src"] for image in tags.of("img")] == [
        "v1/images/7/thumbnail?index=my%20photos", "v1/images/8/thumbnail?index=my%20photos"
    ]  # fmt: skip
    assert [link["download"] for link in tags.of("a")] == ["b.png", "c d.png"]
    picks = [button for button in tags.of("button") if button.get("class") == "pick"]
    assert [(pick["data-act"], pick["data-id"], pick["data-caption"]) for pick in picks] == [
        ("like", "7", "a dog"), ("like", "8", "")
    ]  # fmt: skip
    assert "0.500" in tags.text and "/photos" not in html and 'title="a/b.png"' in html


def test_cards_columns_and_problems_escape_what_others_wrote() -> None:
    result = Result(0.5, 7, Path(f"/photos/{HOSTILE}.png"), HOSTILE)
    home = Home(HOSTILE, Path("/photos"))
    error = SimatError(HOSTILE, got=HOSTILE, remedy=HOSTILE)
    made = Answer((Result(0.0, image=plain("red"), caption=HOSTILE),), HOSTILE, {}, {"segments": (HOSTILE,)})
    shown = [
        cards.cards([result], HOSTILE, Path("/photos"), "edit"),
        cards.problem(error),
        cards.note(HOSTILE, HOSTILE),
        cards.summary(Answer((), "retrieve"), 3, HOSTILE),
        cards.chips(HOSTILE, [(HOSTILE, HOSTILE, HOSTILE, {HOSTILE: HOSTILE})]),
        columns_html([Column(HOSTILE, "failed", error=error), Column(HOSTILE, "done", answer=made)], home),
        columns_html([Column(HOSTILE, "running", Step(HOSTILE, 1, 2))], None),
    ]
    for html in shown:
        tags = Tags(html)
        assert not tags.of("script"), html
        assert all("onerror" not in attributes for _, attributes in tags.tags), html
        assert all((image["src"] or "").startswith(("v1/", "data:image/")) for image in tags.of("img")), html


def test_column_tells_how_far_it_is() -> None:
    column = Column("diffedit")
    assert "waiting" in Tags(columns_html([column], None)).text
    column.state, column.step = "running", Step("invert", 3, 20, plain("blue"))
    tags = Tags(columns_html([column], None))
    assert "going back to noise · 3 of 20" in tags.text
    assert (tags.of("progress")[0]["value"], tags.of("progress")[0]["max"]) == ("3", "20")
    assert tags.of("img")[0]["class"] == "preview"
    column.state = "cancelled"
    tags = Tags(columns_html([column], None))
    assert "cancelled" in tags.text and not tags.of("progress") and not tags.of("img")


def test_column_shows_the_result_where_it_was_edited_and_what_was_before() -> None:
    mask = np.zeros((1, 8, 8), bool)
    mask[0, :4] = True
    answer = Answer(
        (Result(0.0, image=plain("red"), caption="cat"),),
        "diffedit",
        {"total": 2.5},
        {"mask": mask, "input": plain("blue")},
    )
    tags = Tags(columns_html([Column("diffedit", "done", answer=answer)], None))
    assert [image["class"] for image in tags.of("img")] == ["made", "where", "before"]
    radios = tags.of("input")
    assert [radio["value"] for radio in radios] == ["made", "where", "before"] and "checked" in radios[0]
    assert "2.5 s" in tags.text
    everywhere = replace(answer, extras={**answer.extras, "mask": np.ones((1, 8, 8), bool)})
    kinds = [
        image["class"] for image in Tags(columns_html([Column("flexit", "done", answer=everywhere)], None)).of("img")
    ]
    assert kinds == ["made", "before"]


def test_column_of_a_drawing_shows_its_layout_and_how_well_it_was_kept() -> None:
    extras = {
        "layout": np.eye(2, dtype=np.float32)[:, None].repeat(2, 1), "segments": ("dog", "sea"),
        "iou": np.array([[[0.1, 0.2]], [[0.75, 0.5]]]),
    }  # fmt: skip
    answer = Answer((Result(0.0, image=plain("red"), caption="dog, sea"),), "zestguide", {}, extras)
    tags = Tags(columns_html([Column("zestguide", "done", answer=answer)], None))
    assert [image["class"] for image in tags.of("img")] == ["made", "layout"]
    assert "dog 0.75 · sea 0.50" in tags.text


# -- at work --------------------------------------------------------------------------------------------------------


def test_followed_work_shows_every_state_and_its_end() -> None:
    column, go, seen = Column("diffedit"), threading.Event(), []

    def work(on_step: Any, cancel: Any) -> Answer:
        on_step(Step("decode", 1, 2))
        assert go.wait(10)
        return Answer((), "diffedit")

    for _ in followed({"diffedit": (column, work)}, Queue(), threading.Event()):
        seen.append((column.state, column.step and column.step.step))
        if column.step:
            go.set()
    assert seen[-1] == ("done", 1) and ("running", 1) in seen and column.answer is not None


def test_followed_work_stops_when_it_is_cancelled() -> None:
    column, stop, queue = Column("flexit"), threading.Event(), Queue()

    def work(on_step: Any, cancel: Callable[[], bool]) -> Answer:
        while not cancel():
            on_step(Step("optimise", 1, 99))
            time.sleep(0.01)
        raise Cancelled("cancelled")

    for _ in followed({"flexit": (column, work)}, queue, stop):
        if column.step:
            stop.set()
    assert column.state == "cancelled" and column.answer is None


def test_followed_work_is_cancelled_where_nobody_listens() -> None:
    ended, queue = threading.Event(), Queue()

    def work(on_step: Any, cancel: Callable[[], bool]) -> Answer:
        while not cancel():
            time.sleep(0.01)
        ended.set()
        raise Cancelled("cancelled")

    watching = followed({"flexit": (Column("flexit"), work)}, queue, threading.Event())
    next(watching)
    watching.close()  # type: ignore[attr-defined]
    assert ended.wait(10) and queue.cancelled.is_set()


def test_followed_work_tells_errors_but_not_the_inside_of_the_server() -> None:
    def refused(on_step: Any, cancel: Any) -> Answer:
        raise QueryError("the model does not know a word", got="'xyzzy'")

    def broken(on_step: Any, cancel: Any) -> Answer:
        raise RuntimeError("secret path /srv/models")

    columns = [Column("a"), Column("b")]
    works = {"a": (columns[0], refused), "b": (columns[1], broken)}
    for _ in followed(works, Queue(), threading.Event()):
        pass
    html = columns_html(columns, None)
    assert "The model does not know a word" in html and "xyzzy" in html
    assert "Something went wrong on the server" in html and "secret" not in html


def test_followed_work_that_never_began_is_cancelled_where_it_waits() -> None:
    class Closed:
        def submit(self, work: Any, name: str) -> Any:
            job = SimpleNamespace(state="waiting")
            job.cancel = lambda: setattr(job, "state", "cancelled")
            return job

    column, stop = Column("flexit"), threading.Event()
    for _ in followed({"flexit": (column, lambda on_step, cancel: Answer((), ""))}, Closed(), stop):
        stop.set()
    assert column.state == "cancelled"


def test_followed_work_that_finds_no_room_says_so() -> None:
    class Full:
        def submit(self, work: Any, name: str) -> Any:
            raise Busy("too much is waiting", remedy="try again in a minute")

    column = Column("flexit")
    for _ in followed({"flexit": (column, lambda on_step, cancel: Answer((), ""))}, Full(), threading.Event()):
        pass
    assert column.state == "failed" and "try again in a minute" in str(column.error)


def test_runs_end_the_one_before_and_forget_their_own() -> None:
    runs = Runs()
    first = runs.begin("edit me")
    second = runs.begin("edit me")
    assert first.is_set() and not second.is_set() and len(runs) == 1
    runs.end("edit me", first)
    assert len(runs) == 1 and runs.cancel("edit me") and second.is_set()
    assert not runs.cancel("edit me") and len(runs) == 0


def test_short_work_keeps_its_error() -> None:
    column = Column("retrieve")
    done(column, lambda: (_ for _ in ()).throw(QueryError("k is too great")))
    assert column.state == "failed" and str(column.error) == "k is too great"


# -- asking ---------------------------------------------------------------------------------------------------------


def test_search_shows_places_then_results_and_the_link(asking: Asking) -> None:
    (waiting, none), (html, link) = asking.search(SearchForm(words="red", count=3))
    assert none is None and waiting.count("ghost") == 3 and link == "tab=search&q=red&k=3"
    assert "3 of 24 pictures" in html and Tags(html).of("a")[0]["download"] == "red.png"


def test_search_by_an_upload_and_by_an_id_leaves_the_picture_out(asking: Asking) -> None:
    _, (html, link) = asking.search(SearchForm(picture={"data": "data:image/png;base64," + _base64(plain("blue"))}))
    assert "blue.png" not in _files(html) and link == "tab=search"
    number = Tags(asking.starts(None, "search")).of("button")[0]["data-id"]
    _, (html, link) = asking.search(SearchForm(picture={"id": int(number or "")}))
    assert f'data-id="{number}"' not in html and link == f"tab=search&id={number}"


@pytest.mark.parametrize(
    ("form", "message"),
    [(SearchForm(), "Nothing to search for yet"), (SearchForm(index="other", words="red"), "No such index"),
     (SearchForm(picture={"id": 10**6}), "No image with this id"), (SearchForm(picture={"data": "x"}), "A picture is"),
     (SearchForm(words="red", picture={"id": 0}, composer="delta"), "needs edits")],
)  # fmt: skip
def test_search_says_what_is_wrong(asking: Asking, form: SearchForm, message: str) -> None:
    *_, (html, link) = asking.search(form)
    assert message in html and 'role="alert"' in html and link is None


def test_edit_finds_what_the_words_ask_for(asking: Asking) -> None:
    number = _id_of(asking, "red.png")
    shown = [*asking.edit(EditForm(picture={"id": number}, source="red", target="blue"), "me")]
    assert 'data-state="waiting"' in shown[0][0]
    assert _files(shown[-1][0])[0] == "blue.png" and 'data-state="done"' in shown[-1][0]
    assert [link for _, link in shown if link] == [f"tab=edit&id={number}&from=red&to=blue"]
    assert len(asking.runs) == 0


def test_edit_shows_found_pictures_before_made_ones(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = asking.service.answer

    def slow(
        name: str | None, query: Any, backend: str = "retrieve", on_step: Any = None, cancel: Any = None
    ) -> Answer:
        if backend == "retrieve":
            return answer(name, query)
        on_step(Step("decode", 1, 2))
        return Answer((Result(0.0, image=plain("green"), caption="made"),), backend, {"total": 0.1})

    monkeypatch.setattr(asking.service, "answer", slow)
    form = EditForm(picture={"id": 0}, source="red", target="blue", backends=("diffedit", "retrieve"))
    states = [re.findall(r'data-state="(\w+)"', html) for html, _ in asking.edit(form, "me")]
    assert states[0] == ["waiting", "waiting"] and states[1][0] == "done" and states[-1] == ["done", "done"]


def test_edit_that_nobody_can_answer_says_why_once(asking: Asking) -> None:
    *_, (html, _) = asking.edit(EditForm(picture={"id": 0}, backends=("retrieve", "diffedit")), "me")
    assert html.count("There is nothing to change yet") == 1 and "column" not in html
    *_, (html, _) = asking.edit(EditForm(picture={"id": 0}, target="cat", backends=()), "me")
    assert "No method is chosen" in html


def test_cancel_stops_the_run_of_one_visitor(asking: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(name: Any, query: Any, backend: str, on_step: Any, cancel: Callable[[], bool]) -> Answer:
        on_step(Step("decode", 1, 2))
        while not cancel():
            time.sleep(0.01)
        raise Cancelled("cancelled")

    monkeypatch.setattr(asking.service, "answer", endless)
    form, states = DrawForm(text="a dog on the beach", layout=example_layout()), []
    for html, _ in asking.draw(form, "me"):
        states += re.findall(r'data-state="(\w+)"', html)
        if states[-1:] == ["running"] and len(asking.runs):
            assert not asking.cancel("draw", "somebody else") and not asking.cancel("edit", "me")
            assert asking.cancel("draw", "me")
    assert states[-1] == "cancelled" and len(asking.runs) == 0


def test_restored_links_find_but_make_nothing(asking: Asking) -> None:
    html, _ = asking.restored(
        EditForm(picture={"id": 0}, source="red", target="blue", backends=("diffedit", "retrieve"))
    )
    assert re.findall(r'data-backend="(\w+)"', html) == ["retrieve"]
    assert "Press the button" in asking.restored(DrawForm(layout=example_layout()))[0]
    assert "No such index" in asking.restored(EditForm(index="other", picture={"id": 0}, target="cat"))[0]


def test_page_without_an_index_offers_to_make(tmp_path: Path) -> None:
    asking = Asking(Service([], ServiceOptions(backends=("retrieve", "diffedit", "zestguide"))), Queue())
    assert asking.offered("edit") == ("diffedit",) and asking.offered("draw") == ("zestguide",)
    assert "No index is open" in asking.starts(None, "search")
    *_, (html, _) = asking.search(SearchForm(words="red"))
    assert "This server has no index" in html


# -- what Gradio may serve ------------------------------------------------------------------------------------------


def test_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    html = client.get("/").text
    loads = [tag for tag, attributes in Tags(html).tags if (attributes.get("src") or "").startswith(("http", "//"))]
    links = [link["href"] or "" for link in Tags(html).of("link")]
    assert not loads and not [link for link in links if link.startswith(("http", "//"))]
    assert "fonts.googleapis.com" not in html + client.get("/theme.css").text
    assert '"analytics_enabled":false' in html.replace(" ", "")


@pytest.mark.parametrize(
    "path",
    ["gradio_api/file=/etc/passwd", "gradio_api/file/etc/passwd", "gradio_api/file=https://example.org/a.png", "file=x",
     "gradio_api/proxy=https://example.org", "gradio_api/stream/a/b/c/playlist.m3u8", "gradio_api/queue/status",
     "monitoring", "monitoring/summary", "gradio_api/runs", "gradio_api/vibe-code/", "gradio_api/openapi.json",
     "assets/..%2f..%2f..%2fetc/passwd", "static/%2e%2e/%2e%2e/package.json", "gradio_api/deep_link", "nowhere"],
)  # fmt: skip
def test_page_gives_out_no_files(client: TestClient, path: str) -> None:
    assert client.get(f"/{path}").status_code == 404


@pytest.mark.parametrize(
    "path",
    ["upload", "component_server", "run/predict", "api/predict", "call/edited", "process_recording", "vibe-edit",
     "stream/x", "run-history/connect"],
)  # fmt: skip
def test_page_takes_no_files(client: TestClient, path: str) -> None:
    answer = client.post(f"/gradio_api/{path}", files={"files": ("a.png", encoded(plain("red")))})
    assert answer.status_code == 404


def test_page_takes_questions_that_name_no_file(client: TestClient) -> None:
    file = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}
    ask = {"data": [file], "fn_index": 0, "session_hash": "x"}
    assert client.post("/gradio_api/queue/join", json=ask).status_code == 400
    escaped = b'{"data": [{"path": "https://example.org", "meta": {"_type": "gradio.\\u0046ileData"}}], "fn_index": 0}'
    assert client.post("/gradio_api/queue/join", content=escaped).status_code == 400
    assert client.post("/gradio_api/queue/join", content=b"{").status_code == 400
    assert client.post("/gradio_api/queue/join", content=b"1" * (3 * LIMIT)).status_code == 413
    assert not names_file({"data": ["gradio.FileData", {"meta": None, "type": ["gradio.FileData"]}]})


def _base64(picture: Any) -> str:
    return base64.b64encode(encoded(picture)).decode()


def _files(html: str) -> list[str]:
    return [str(link["download"]) for link in Tags(html).of("a")]


def _id_of(asking: Asking, name: str) -> int:
    embeddings = asking.service.engine().embeddings
    rows = embeddings.rows(np.arange(len(embeddings)))
    return next(number for number, row in enumerate(rows) if row.path == name)
