"""The service: several indices, queries of several threads, an index that changes while it answers."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import save_blotches
from helpers import ColourEncoder, blotches, colour_pictures, encoded, plain, save_pictures

import simat
from simat.engine import Engine
from simat.errors import Busy, NotFound, QueryError, SimatError, StorageError
from simat.server.options import ServiceOptions
from simat.server.service import Service
from simat.types import Answer, Query


def text(words: str, k: int = 1) -> Query:
    return Query(text=words, k=k, composer="text")


@pytest.fixture
def blotchy(build: Callable[..., Path], tmp_path: Path) -> Engine:
    return simat.open(build(save_blotches(tmp_path / "blotches", 5), ColourEncoder()), ColourEncoder())


@pytest.fixture
def two(colours: Engine, blotchy: Engine) -> Iterator[Service]:
    with closing(Service([colours, blotchy])) as service:
        yield service


def test_the_first_index_answers_where_none_is_named(two: Service, colours: Engine, blotchy: Engine) -> None:
    first, second = two.names
    assert two.engine() is two.engine(first) is colours
    assert two.engine(second) is blotchy
    assert first != second
    assert two.answer(None, text("red"))[0].path.name == "red.png"
    assert two.answer(second, text("red", 5))[0].path.parent.name == "blotches"


def test_an_unknown_index_is_refused_with_the_known_ones(two: Service) -> None:
    with pytest.raises(NotFound, match=f"no such index; got 'nowhere'; there are: {', '.join(two.names)}"):
        two.engine("nowhere")


def test_without_an_index_nothing_is_found() -> None:
    with closing(Service()) as service:
        assert service.names == ()
        assert service.name_of(None, needed=False) is None
        with pytest.raises(NotFound, match="this server has no index; start it with one"):
            service.answer(None, text("red"))


def test_queries_of_many_threads_get_the_answers_of_one(two: Service, colours: Engine) -> None:
    words = [*["red", "green", "blue", "yellow", "purple", "white", "snow"]] * 6
    expected = {word: [r.path for r in colours.search(word, k=4)] for word in set(words)}
    found: dict[int, Any] = {}

    def ask(number: int) -> None:
        found[number] = [r.path for r in two.answer(None, text(words[number], 4))]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(words))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [found[number] for number in range(len(words))] == [expected[word] for word in words]


def test_errors_of_a_query_are_its_own(two: Service) -> None:
    good, bad = two.submit(None, text("red")), two.submit(None, text("red", 10**9))
    assert isinstance(good.result(10), Answer)
    with pytest.raises(QueryError, match="k is more than the 24 images"):
        bad.result(10)


def test_backends_that_are_not_allowed_are_refused(colours: Engine) -> None:
    with closing(Service([colours], ServiceOptions(backends=("retrieve",)))) as service:
        assert service.backends == ("retrieve",)
        with pytest.raises(QueryError, match="no such backend; got 'diffedit'; there are: retrieve"):
            service.answer(None, Query(image=0, edits="red -> blue"), "diffedit")
    other = closing(Service([colours], ServiceOptions(backends=("diffedit",))))
    with other as service, pytest.raises(QueryError, match="got 'retrieve'; there are: diffedit"):
        service.submit(None, text("red"))


def test_warming_loads_what_queries_need(two: Service) -> None:
    assert two.state() == "not started"
    two.warm()
    assert two.state() == "ready"


def test_makers_begin_when_warming_has_ended(two: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, go, order = threading.Event(), threading.Event(), []
    encode = two.engine().encode_texts

    def slow(texts: list[str]) -> np.ndarray:
        inside.set()
        assert go.wait(30)
        order.append("warm")
        return encode(texts)

    monkeypatch.setattr(two.engine(), "encode_texts", slow)
    monkeypatch.setattr(two.engine(), "answer", lambda *given: order.append("made") or Answer((), "diffedit"))
    warming = threading.Thread(target=two.warm)
    making = threading.Thread(target=two.answer, args=(None, text("red"), "diffedit"))
    warming.start()
    assert inside.wait(30)
    making.start()
    making.join(0.3)
    assert making.is_alive()
    go.set()
    warming.join()
    making.join()
    assert order == ["warm", "made"]


def test_what_cannot_be_loaded_is_told(two: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(texts: list[str]) -> np.ndarray:
        raise SimatError("the weights are gone")

    monkeypatch.setattr(two.engine(), "encode_texts", broken)
    two.warm()
    assert two.state() == "the weights are gone"


def test_a_closed_service_takes_nothing(colours: Engine) -> None:
    service = Service([colours])
    service.close()
    with pytest.raises(Busy, match="shutting down"):
        service.submit(None, text("red"))


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(SimatError, match="batch must be at least 1; got 0"):
        ServiceOptions(batch=0)
    with pytest.raises(SimatError, match="window must not be negative; got nan"):
        ServiceOptions(window=float("nan"))


class Changing:
    """A folder with an index that another build replaces."""

    def __init__(self, build: Callable[..., Path], folder: Path) -> None:
        self._build, self.photos, self.index = build, folder / "photos", folder / "index"
        save_pictures(self.photos, colour_pictures())
        self.replace()

    def replace(self) -> None:
        """Put the index of what is in the photos now where the old one was."""
        fresh = self._build(self.photos, ColourEncoder())
        if self.index.exists():
            shutil.rmtree(self.index)
        shutil.move(fresh, self.index)

    def engine(self) -> Engine:
        return simat.open(self.index, ColourEncoder())


@pytest.fixture
def changing(build: Callable[..., Path], tmp_path: Path) -> Changing:
    return Changing(build, tmp_path)


def test_a_replaced_index_answers_as_before_until_it_is_reloaded(changing: Changing) -> None:
    with closing(Service([changing.engine()])) as service:
        before = service.answer(None, text("white", 5))
        (changing.photos / "white.png").unlink()
        (changing.photos / "snow.png").write_bytes(encoded(plain("white", (40, 40))))
        changing.replace()
        assert service.engine().changed()
        assert service.answer(None, text("white", 5)).results == before.results
        assert service.reload("index") is service.engine()
        assert not service.engine().changed()
        assert service.answer(None, text("white"))[0].path.name == "snow.png"


def test_an_index_that_is_not_whole_is_not_reloaded(changing: Changing) -> None:
    with closing(Service([changing.engine()])) as service:
        (changing.index / "manifest.json").write_text("{")
        with pytest.raises(StorageError, match="the manifest is damaged"):
            service.reload("index")
        assert service.engine().changed()
        assert service.answer(None, text("red"))[0].path.name == "red.png"


def test_queries_under_way_end_on_the_old_index(changing: Changing) -> None:
    with closing(Service([changing.engine()])) as service:
        stop, failed = threading.Event(), []

        def ask() -> None:
            while not stop.is_set():
                try:
                    assert service.answer(None, text("red"))[0].path.name == "red.png"
                except Exception as error:
                    failed.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            service.reload("index")
        stop.set()
        for thread in threads:
            thread.join(30)
        assert failed == []


def test_parts_that_were_never_opened_are_not_read_from_another_build(changing: Changing) -> None:
    engine = changing.engine()  # without a service nothing holds the parts
    (changing.photos / "more.png").write_bytes(encoded(blotches(77)))
    changing.replace()
    with pytest.raises(StorageError, match=r"the index has changed on disk; got .*parquet; open it again"):
        engine.embeddings.rows(np.array([0]))
