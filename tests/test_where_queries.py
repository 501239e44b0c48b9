"""Questions with a filter: in Python, on the command line, over HTTP, through the client and on the page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from building import colour_plugin, here, plugged_in
from helpers import ColourEncoder, plain
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from talking import listening

import simat
import simat.backends.ranking
from simat.engine import Engine
from simat.errors import QueryError
from simat.opened import Opened
from simat.server.app import create_app
from simat.server.page.asking import Asking
from simat.server.page.forms import SearchForm
from simat.server.page.links import from_link, to_link
from simat.server.security import Security
from simat.server.service import Service
from simat.types import Answer, Query

IMAGES = 24
BLOTCHES = "path like 'blotch%' and width > height"


def files(answer: Answer) -> list[str]:
    return [Path(str(result.path)).name for result in answer]


def kept(answer: Answer, passes: Callable[[str], bool], k: int) -> list[tuple[int | None, float]]:
    """The first k of a whole ranking whose names pass."""
    found = [r for r in answer if passes(Path(str(r.path)).name)]
    return [(r.id, pytest.approx(r.score, abs=1e-5)) for r in found[:k]]


def ranked(answer: Answer) -> list[tuple[int | None, float]]:
    return [(r.id, r.score) for r in answer]


ASKED = [
    Query(text="red", composer="text"),
    Query(image=3, composer="image"),
    Query(image=plain("red"), edits="red -> blue"),
    Query(image=3, text="green", composer="weighted"),
    Query(image=3, text="green", composer="product"),
    Query(image=3, text="green", composer="basic"),
]


@pytest.mark.parametrize("query", ASKED, ids=lambda query: query.composer)
@pytest.mark.parametrize("k", [1, 5, 20])
def test_filtered_answer_is_the_whole_ranking_without_the_others(colours: Engine, query: Query, k: int) -> None:
    whole = colours.answer(replace(query, k=IMAGES))
    answer = colours.answer(replace(query, k=k, where=BLOTCHES))
    assert ranked(answer) == kept(whole, lambda name: name.startswith("blotch"), k)
    assert len(answer) == min(k, 12 - (query.image == 3 and files(whole).count("blotch_03.png") == 0))


def test_fused_answer_among_many_is_that_of_looking_at_all(colours: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    query = Query(image=3, text="green", composer="product", k=3, where="id >= 2")
    whole = colours.answer(query)
    for limit, name in ((0, "SCANNED"), (1, "CANDIDATES")):
        monkeypatch.setattr(simat.backends.ranking, name, limit)
    answer = colours.answer(query)
    assert ranked(answer) == [(i, pytest.approx(score, abs=1e-6)) for i, score in ranked(whole)]


@given(st.lists(st.integers(0, IMAGES - 1), min_size=1, max_size=IMAGES, unique=True), st.integers(1, IMAGES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
def test_any_selected_rows_are_ranked_as_among_all(colours: Engine, ids: list[int], k: int) -> None:
    answer = colours.search("blue", k=k, where=f"id in ({', '.join(map(str, ids))})")
    assert [r.id for r in answer] == [r.id for r in colours.search("blue", k=IMAGES) if r.id in ids][:k]


def test_fewer_answers_where_fewer_pass_and_none_where_none_does(colours: Engine) -> None:
    assert sorted(files(colours.search("red", k=IMAGES, where="path in ('red.png', 'blue.png')"))) == [
        "blue.png",
        "red.png",
    ]
    assert len(colours.search("red", where="false")) == 0
    with pytest.raises(QueryError, match="k is more than the 24 images"):
        colours.search("red", k=IMAGES + 1, where="true")


def test_query_image_is_left_out_of_what_passes_as_before(colours: Engine) -> None:
    (red,) = colours.search("red", k=1, where="path = 'red.png'")
    assert len(colours.search(image=red.id, where="path = 'red.png'")) == 0
    assert files(colours.search(image=red.id, where="path = 'red.png'", include_self=True)) == ["red.png"]
    assert "red.png" not in files(colours.edit(plain("red"), "red -> blue", where="path not like 'blue%'"))


def test_filter_has_a_timing_of_its_own_where_there_is_one(colours: Engine) -> None:
    assert set(colours.search("red", where="id > 3").timings) == {"filter", "compose", "search"}
    assert set(colours.search("red").timings) == {"compose", "search"}


def test_queries_of_one_filter_share_its_selection(colours: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    select = Opened.selected
    monkeypatch.setattr(Opened, "selected", lambda self, where: asked.append(where) or select(self, where))
    queries = [
        Query(text=text, composer="text", k=2, where=w) for text in ("red", "blue") for w in (BLOTCHES, "id < 9", None)
    ]
    together = colours.answer_many(queries)
    assert asked == [BLOTCHES, "id < 9"]
    for query, answer in zip(queries, together, strict=True):
        assert isinstance(answer, Answer)
        assert ranked(answer) == [(i, pytest.approx(s, abs=1e-6)) for i, s in ranked(colours.answer(query))]


def test_error_of_a_filter_is_its_own_querys(colours: Engine) -> None:
    good, bad = Query(text="red", composer="text"), Query(text="red", composer="text", where="colour = 'red'")
    first, second, third = colours.answer_many([good, bad, good])
    assert isinstance(first, Answer) and isinstance(third, Answer)
    assert "no such column; got colour; there are: id, path, sha256, width, height, caption" in str(second)


@pytest.mark.parametrize("composer", ["text", "product"])
def test_removed_images_pass_no_filter(colour_index: Path, tmp_path: Path, composer: str) -> None:
    from indexing.remove import remove_images

    index = tmp_path / "index"
    shutil.copytree(colour_index, index)
    remove_images(index, where="path like 'blotch_0%'")
    left = simat.open(index, ColourEncoder())
    image = None if composer == "text" else plain("green")
    query = Query(text="red", image=image, composer=composer, k=len(left))
    whole = left.answer(query)
    assert len(whole) == len(left) - (image is not None) and not any(
        name.startswith("blotch_0") for name in files(whole)
    )
    assert sorted(files(left.answer(replace(query, where=BLOTCHES)))) == ["blotch_10.png", "blotch_11.png"]


# -- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, colour_photos: Path) -> Iterator[Path]:
    from indexing.build import build_index
    from indexing.config import BuildConfig, Machine
    from simat.encoders import load_encoder

    place = tmp_path_factory.mktemp("where")
    with plugged_in(colour_plugin(place / "site")):
        config = BuildConfig(str(colour_photos), encoder="colours")
        build_index(place / "index", config, Machine(workers=1), encoder=load_encoder("colours"))
        yield place / "index"


def test_search_and_edit_take_a_filter(index: Path, colour_photos: Path, capsys: Any) -> None:
    document = here(capsys, "search", index, "red", "--where", BLOTCHES, "-k", "3", "--json").json
    assert document["where"] == BLOTCHES and len(document["results"]) == 3
    assert all(Path(result["path"]).name.startswith("blotch") for result in document["results"])
    photo = colour_photos / "red.png"
    document = here(capsys, "edit", index, photo, "red -> blue", "--where", "path like '%blue%'", "--json").json
    assert document["where"] == "path like '%blue%'"
    assert all("blue" in Path(result["path"]).name for result in document["results"]) and document["results"]


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("width >", "the filter does not parse"),
        ("id in (select id from read_parquet('*'))", "may not hold a sub-query"),
        ("true; copy (select 1) to 'stolen'", "holds a semicolon"),
        ("wide > 1", "no such column; got wide; there are: id, path"),
        ("", "the filter is empty"),
    ],
)
def test_commands_refuse_what_is_no_filter_in_one_line(index: Path, capsys: Any, where: str, said: str) -> None:
    ran = here(capsys, "search", index, "red", "--where", where)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err and ran.err.count("\n") == 1 and ran.err.startswith("error: ")


def test_info_lists_the_columns_that_a_filter_may_name(index: Path, capsys: Any) -> None:
    columns = {"id": "int64", "path": "string", "sha256": "string", "width": "int32", "height": "int32"}
    assert here(capsys, "index", "info", index, "--columns", "--json").json["columns"] == {
        **columns,
        "caption": "string",
    }
    assert "columns" not in here(capsys, "index", "info", index, "--json").json
    assert "width int32, height int32" in here(capsys, "index", "info", index, "--columns").out


# -- the server -----------------------------------------------------------------------------------------------------


def form(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields as those of a multipart form."""
    return {name: (None, str(value)) for name, value in fields.items()}


def paths(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [result["path"] for result in answer.json()["results"]]


def test_server_takes_filters_in_searches_edits_forms_and_jobs(api: Any, colours: Engine) -> None:
    expected = files(colours.search("red", k=3, where=BLOTCHES))
    fields = {"text": "red", "k": 3, "where": BLOTCHES}
    assert [Path(path).name for path in paths(api.post("/v1/search", json=fields))] == expected
    assert [Path(path).name for path in paths(api.post("/v1/search", files=form(fields)))] == expected
    edit = {"id": 0, "edits": "red -> blue", "k": 3, "where": BLOTCHES}
    found = [Path(path).name for path in paths(api.post("/v1/edit", json=edit))]
    assert found == files(colours.edit(0, "red -> blue", k=3, where=BLOTCHES))
    job = api.post("/v1/jobs", json={"kind": "search", **fields}).json()
    while (told := api.get(job["url"]).json())["state"] in {"waiting", "running"}:
        pass
    assert [Path(result["path"]).name for result in told["answer"]["results"]] == expected


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("width > ", "the filter does not parse"),
        ("getenv('HOME') = 'x'", "may not use this function; got getenv"),
        ("wide = 1", "no such column; got wide"),
    ],
)
@pytest.mark.parametrize("route", ["/v1/search", "/v1/edit"])
def test_server_refuses_what_is_no_filter(api: Any, route: str, where: str, said: str) -> None:
    asked = {"text": "red"} if route == "/v1/search" else {"id": 0, "edits": "red -> blue"}
    answer = api.post(route, json={**asked, "where": where})
    assert answer.status_code == 422 and said in answer.json()["detail"]


def test_empty_filter_of_a_form_is_none(api: Any) -> None:
    assert paths(api.post("/v1/search", files=form({"text": "red", "k": 2, "where": ""}))) == paths(
        api.post("/v1/search", json={"text": "red", "k": 2})
    )


def test_filter_is_looked_up_before_its_query_joins_the_others(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    select, submit = Opened.selected, service.submit
    monkeypatch.setattr(Opened, "selected", lambda self, where: order.append("filter") or select(self, where))
    monkeypatch.setattr(service, "submit", lambda *given: order.append("submit") or submit(*given))
    answer = service.answer(None, Query(text="red", composer="text", k=2, where=BLOTCHES))
    assert len(answer) == 2 and order[:2] == ["filter", "submit"]


def test_client_asks_with_filters_as_the_engine_does(colour_index: Path) -> None:
    engine = simat.open(colour_index, ColourEncoder())
    service = Service([engine])
    with (
        listening(create_app(service, Security(), page=False)) as port,
        simat.connect(f"http://127.0.0.1:{port}") as client,
    ):
        for ask in (
            lambda asked: asked.search("red", k=4, where=BLOTCHES),
            lambda asked: asked.edit(0, "red -> blue", k=4, where="path like '%blue%'"),
            lambda asked: asked.search("red", where="false"),
        ):
            assert [r.id for r in ask(client)] == [r.id for r in ask(engine)]
        with pytest.raises(QueryError, match="a sub-query"):
            client.search("red", where="id in (select 1)")
    service.close()


# -- the page -------------------------------------------------------------------------------------------------------


def test_page_searches_with_a_filter_and_keeps_it_in_its_link(service: Service) -> None:
    asking = Asking(service, service.jobs)
    form = SearchForm(words="red", count=3, where=f" {BLOTCHES} ")
    *_, (html, link) = asking.search(form)
    assert html.count('download="blotch') == 3 and link is not None
    assert from_link(dict(_pairs(link))) == form and "where" not in to_link(SearchForm(words="red"))
    *_, (html, link) = asking.search(SearchForm(words="red", where="1; 2"))
    assert "semicolon" in html and link is None


def _pairs(link: str) -> list[tuple[str, str]]:
    from urllib.parse import parse_qsl

    return parse_qsl(link)


def test_schema_of_the_server_offers_the_filter(api: Any) -> None:
    document = json.dumps(api.get("/openapi.json").json()["paths"]["/v1/search"])
    assert "Only images for which this condition on the metadata is true" in document
    assert "where" in json.loads(document)["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]
