"""A server over an index that changes: the old generation goes on answering, whole, until the new one is opened."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from building import save_blotches
from helpers import ColourEncoder
from living import ONE, built, noise, vector_index

import simat
import simat.embeddings
from indexing.add import add_images
from indexing.compact import compact_index
from indexing.duplicates import remove_duplicates
from indexing.remove import remove_images
from simat.engine import Engine
from simat.errors import NotFound, QueryError
from simat.server.pictures import original, row_of
from simat.server.service import Service
from simat.types import Query


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return vector_index(tmp_path / "index", noise(120), factory="IVF4,SQ8")


@pytest.fixture
def service(index: Path) -> Iterator[Service]:
    with closing(Service([index])) as service:
        yield service


def told(service: Service, query: Query) -> list[tuple[int | None, str, float]]:
    return [(one.id, str(one.path), one.score) for one in service.answer(None, query)]


def test_the_served_generation_stays_whole_while_the_index_changes(index: Path, service: Service) -> None:
    queries = [Query(vector=vector, composer="image", k=20) for vector in noise(6, seed=1)]
    queries += [Query(image=id, composer="image", k=9) for id in (0, 57, 113)]
    before = [told(service, query) for query in queries]
    stop, wrong = threading.Event(), []

    def ask() -> None:
        while not stop.wait(0.005):
            wrong.extend(i for i, query in enumerate(queries) if told(service, query) != before[i])

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    for event in range(3):
        remove_images(index, ids=np.array([5 + event, 20 + event]))
        compact_index(index, ONE)
    stop.set()
    for thread in asking:
        thread.join()
    assert not wrong
    engine = service.engine()
    assert engine.changed()
    assert (len(engine), len(service.reload())) == (120, 114)
    assert not service.engine().changed()
    assert [told(service, query) for query in queries] != before


def test_removed_images_are_not_found_and_not_shown(tmp_path: Path) -> None:
    index, query = vector_index(tmp_path / "flat", noise(40)), Query(image=7, composer="image", k=5)
    with closing(Service([index])) as service:
        near = [one.id for one in service.answer(None, query)]
        gone = near[0]
        remove_images(index, ids=np.array([gone]))
        engine = service.reload()
        assert [one.id for one in service.answer(None, query)][:4] == near[1:]
        with pytest.raises(QueryError, match=f"the image with this id was removed; got {gone}"):
            service.answer(None, Query(image=gone, composer="image"))
        with pytest.raises(NotFound, match="the image with this id was removed"):
            row_of(engine, gone)
        assert row_of(engine, near[1]).path == f"{near[1]}.png"
        with pytest.raises(QueryError, match="k is more than the 39 images"):
            service.answer(None, Query(image=7, composer="image", k=40))


def test_all_images_that_are_left_are_found_and_no_other(index: Path) -> None:
    remove_images(index, ids=np.arange(1, 120, 2))
    engine: Engine = simat.open(index)
    answer = engine.search(image=0, k=60, include_self=True)
    assert sorted(one.id for one in answer) == [*range(0, 120, 2)]
    assert [one.id for one in engine.search(image=0, k=60)] == [one.id for one in answer if one.id != 0]


def test_pictures_from_another_folder_are_shown_from_there(tmp_path: Path) -> None:
    index = built(tmp_path / "index", save_blotches(tmp_path / "photos", 6))
    more = save_blotches(tmp_path / "more", 2, first=40)
    (more / "again.png").write_bytes((tmp_path / "photos" / "0001.png").read_bytes())
    add_images(index, str(more), ONE, encoder=ColourEncoder())
    engine = simat.open(index, ColourEncoder())
    row = row_of(engine, 7)
    assert row.path == "@2/0041.png"
    assert original(engine.embeddings, row).data == (more / "0041.png").read_bytes()
    (found,) = engine.search(image=more / "0041.png", k=1, include_self=True)
    assert found.path == more / "0041.png"
    _, removed = remove_duplicates(index, 2.0)
    assert removed.count == 1
    assert len(simat.open(index, ColourEncoder())) == 8


def test_a_generation_of_more_parts_than_are_kept_open_goes_on_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simat.embeddings, "OPEN_PARTS", 2)
    index = vector_index(tmp_path / "index", noise(120))
    with closing(Service([index])) as service:
        engine, ids = service.engine(), np.arange(120)
        before = engine.embeddings.vectors(ids)
        remove_images(index, ids=np.arange(0, 120, 2))
        compact_index(index, ONE)
        assert engine.changed()
        assert [row.path for row in engine.rows(ids)] == [f"{id}.png" for id in ids]
        assert np.array_equal(engine.embeddings.vectors(ids), before)
        assert engine.selected("path like '%7.png'").count == 12


def test_a_reload_lets_go_of_the_old_generation(index: Path, service: Service) -> None:
    told(service, Query(image=7, composer="image", k=5, where="width = 4"))
    threads = threading.active_count()
    old = [weakref.ref(part) for part in (service.engine(), service.engine().embeddings, service.engine().searcher)]
    for generation in range(3):
        remove_images(index, ids=np.array([generation]))
        service.reload()
        told(service, Query(image=7, composer="image", k=5, where="width = 4"))
    assert [part() for part in old] == [None, None, None]
    assert threading.active_count() <= threads
