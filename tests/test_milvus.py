"""An index in Milvus answers as the one in the folder does; whatever is wrong there is one line within seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import Recorder, colour_plugin, here, plugged_in
from columned import table_set
from helpers import ColourEncoder, PixelColourEncoder, colour_pictures, save_pictures, unit_noise
from hypothesis import given
from hypothesis import strategies as st
from living import ONE
from milvuses import Noted, listening, locked_up, mute, plain_index

import simat
from indexing.build import build_index, complete
from indexing.config import BuildConfig, Machine
from simat.embeddings import EmbeddingSet
from simat.errors import QueryError, SpaceMismatchError, StorageError
from simat.manifest import read_index_manifest, write_manifest
from simat.opened import Opened, open_index
from simat.progress import Silent
from simat.selection import Selection
from simat.tombstones import write_removed
from simat.types import Hits, Query

pytest.importorskip("pymilvus")
from simat.milvus import push as pushing
from simat.milvus import search as searching
from simat.milvus.address import Address, is_address
from simat.milvus.connection import Connection
from simat.milvus.fields import LONGEST, VECTOR, batches, collection_schema
from simat.milvus.opening import MilvusOpened, open_milvus
from simat.milvus.push import push_index
from simat.milvus.search import FEW, HITS, MOST, MilvusSearch, MilvusSelection

ROWS, DIM = 900, 24


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    save_pictures(folder, colour_pictures())
    return folder


@pytest.fixture(scope="module")
def index(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "index"
    config = BuildConfig(str(photos), encoder="colours", part_size=10)
    build_index(folder, config, Machine(workers=1), encoder=PixelColourEncoder())
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a Milvus that listens, without a collection."""
    with listening(tmp_path_factory.mktemp("server") / "served.db") as port:
        yield f"milvus://127.0.0.1:{port}/"


@pytest.fixture(scope="module")
def pictures(index: Path, server: str) -> str:
    """The address of the pushed pictures."""
    assert push_index(index, Address.parse(server + "pictures")).rows == 23
    return server + "pictures"


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingSet:
    folder = tmp_path_factory.mktemp("noise") / "index"
    columns = {"width": [i % 100 for i in range(ROWS)]}
    embeddings = table_set(folder / "embeddings", columns, part_size=400, vectors=unit_noise(3, ROWS, DIM))
    complete(folder, BuildConfig("/nowhere", part_size=400, factory="Flat"), ONE, Silent())
    return embeddings


@pytest.fixture(scope="module")
def in_folder(noise: EmbeddingSet) -> Opened:
    """The index that was pushed, where it was."""
    return open_index(noise.folder.parent)


@pytest.fixture(scope="module")
def flat(noise: EmbeddingSet, server: str) -> MilvusOpened:
    push_index(noise.folder.parent, Address.parse(server + "flat"), "FLAT")
    return open_milvus(Address.parse(server + "flat"))


@pytest.fixture(scope="module")
def opened(noise: EmbeddingSet, server: str) -> MilvusOpened:
    address = Address.parse(server + "noise")
    push_index(noise.folder.parent, address, "HNSW", {"M": 16, "efConstruction": 100}, {"ef": 100})
    return open_milvus(address)


QUERIES = {
    "words": Query(text="red", composer="text", k=9),
    "image": Query(image=3, composer="image", k=30),
    "edit": Query(image=0, edits="red -> blue", k=5),
    "including itself": Query(image=5, composer="image", k=4, include_self=True),
    "filter": Query(text="green", composer="text", k=20, where="path like 'blotch%' and id not in (2, 3)"),
    "filter that nothing passes": Query(text="green", composer="text", k=3, where="width > 1000"),
    "fusion": Query(image=4, text="blue", composer="product", k=6),
    "filtered fusion": Query(image=4, text="blue", composer="product", k=6, where="width = 32"),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_answers_are_those_of_the_index_in_the_folder(index: Path, pictures: str, query: Query) -> None:
    folder, milvus = (simat.open(place, encoder=PixelColourEncoder()) for place in (index, pictures))
    expected, found = (
        folder.answer(replace(query, k=min(query.k or 10, 23))),
        milvus.answer(replace(query, k=min(query.k or 10, 23))),
    )
    assert [(r.id, r.path, r.caption) for r in found] == [(r.id, r.path, r.caption) for r in expected]
    assert [r.score for r in found] == pytest.approx([r.score for r in expected], abs=1e-5)
    assert len(milvus) == len(folder) == 23


def test_a_question_for_too_many_spoils_no_other(pictures: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "MOST", 5)
    engine = simat.open(pictures, encoder=PixelColourEncoder())
    few, many, both = (Query(text="red", composer="text", k=k) for k in (3, 9, 4))
    answers = engine.answer_many([few, many, both])
    assert [str(answer) if isinstance(answer, QueryError) else len(answer) for answer in answers] == [
        *(3, "Milvus finds 1 to 5 images at a time; got 9", 4)
    ]


def test_metadata_and_vectors_are_those_of_the_embedding_set(noise: EmbeddingSet, opened: MilvusOpened) -> None:
    ids = np.array([899, 0, 400, 401, 0])
    assert opened.embeddings.rows(ids) == noise.rows(ids)
    assert np.array_equal(opened.embeddings.vectors(ids), noise.vectors(ids))
    assert np.array_equal(
        np.concatenate([*opened.embeddings.blocks(10, ROWS)]), np.concatenate([*noise.blocks(10, ROWS)])
    )
    assert [*opened.captions()] == [*noise.captions()]
    assert opened.embeddings.resolve(noise.rows(ids)[0]) == noise.resolve(noise.rows(ids)[0])


FILTERS = [None, "width < 50", "width = 7", "width in (7, 8) or id < 5", "width > 100"]


def nearest(opened: Opened | MilvusOpened, where: str | None) -> Hits:
    """The ten nearest of each of forty queries."""
    return opened.searcher.search(unit_noise(9, 40, DIM), 10, None if where is None else opened.selected(where))


@pytest.mark.parametrize("where", FILTERS)
def test_recall_and_filters_of_a_graph_are_those_of_faiss(
    in_folder: Opened, opened: MilvusOpened, where: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "FEW", 64)  # beyond, the graph is searched
    exact, hits = nearest(in_folder, where).ids, nearest(opened, where).ids
    assert np.mean([np.isin(one, other).mean() for one, other in zip(exact, hits, strict=True)]) >= 0.98
    assert ((hits >= 0) == (exact >= 0)).all()
    if where is not None:
        assert {*hits.ravel().tolist()} <= {-1, *in_folder.selected(where).ids().tolist()}


@pytest.mark.parametrize("where", FILTERS)
@pytest.mark.parametrize("few", [16, 1024])
def test_hits_of_an_exact_index_are_those_of_faiss(
    in_folder: Opened, flat: MilvusOpened, where: str | None, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "FEW", few)
    exact, hits = nearest(in_folder, where), nearest(flat, where)
    assert np.array_equal(hits.ids, exact.ids)
    np.testing.assert_allclose(hits.scores, exact.scores, atol=1e-6)


def test_a_filter_is_a_selection_like_any_other(in_folder: Opened, opened: MilvusOpened) -> None:
    ours, theirs = opened.selected("width < 50"), in_folder.selected("width < 50")
    assert (ours.rows, ours.count, ours == theirs) == (ROWS, ROWS // 2, True)
    assert np.array_equal(ours.ids(), theirs.ids())
    assert (149 in ours, 150 in ours) == (True, False)
    assert ~ours == ~theirs
    assert ours & Selection.of_ids(np.array([1, 60]), ROWS) == Selection.of_ids(np.array([1]), ROWS)


@given(k=st.integers(1, MOST), queries=st.integers(1, 400), dim=st.sampled_from([24, 384, 4096]), count=st.integers(1))
def test_no_call_asks_for_more_than_a_server_gives(k: int, queries: int, dim: int, count: int) -> None:
    rows, noted = max(k, min(count, 10**6)), Noted()
    MilvusSearch(noted, rows, dim, {}).search(np.zeros((queries, dim), np.float32), k)
    few = Selection.of_ids(np.arange(min(rows, FEW)), rows)
    MilvusSearch(noted, rows, dim, {}).search(np.zeros((1, dim), np.float32), 1, few)
    assert max(noted.hits) <= max(HITS, k)
    assert max(noted.rows_asked) <= MOST
    assert max(noted.rows_asked) * dim * 4 <= 32 * 2**20


def test_rows_one_by_one_select_as_well(opened: MilvusOpened) -> None:
    queries = unit_noise(9, 3, DIM)
    few = Selection.of_ids(np.array([5, 17, 400]), ROWS)
    assert {*opened.searcher.search(queries, 3, few).ids.ravel().tolist()} == {5, 17, 400}
    rest = opened.searcher.search(queries, 5, ~few).ids
    assert not np.isin(rest, [5, 17, 400]).any()
    assert (opened.searcher.search(queries, 5, Selection.none(ROWS)).ids == -1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: o.searcher.search(unit_noise(0, 1, DIM), 0), "Milvus finds 1 to 16,384 images at a time; got 0"),
        (lambda o: o.searcher.search(unit_noise(0, 1, 3), 1), "the index holds 24-d vectors; got a 3-d query"),
        (lambda o: o.searcher.search(unit_noise(0, 1, DIM), 1, Selection.every(3)), "has 900 rows; got a selection am"),
        (lambda o: o.rows(np.array([900])), "no image with this id; got 900; ids run from 0 to 899"),
        (lambda o: o.embeddings.vectors(np.array([-1])), "no image with this id; got -1"),
        (lambda o: o.searcher.search(unit_noise(0, 1, DIM), 1, MilvusSelection("id < 5", 3, o.connection)), "900 rows"),
    ],
)
def test_what_there_is_not_is_refused(opened: MilvusOpened, call: Any, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        call(opened)


def test_a_push_that_was_interrupted_goes_on(noise: EmbeddingSet, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ends(Exception):
        pass

    class Interrupting(Recorder):
        def advance(self, count: int) -> None:
            super().advance(count)
            if self.advanced["push"] >= 300:
                raise Ends

    monkeypatch.setattr(pushing, "TOGETHER", 100)
    address = Address.parse(server + "interrupted")
    with pytest.raises(Ends):
        push_index(noise.folder.parent, address, progress=Interrupting.new())
    with pytest.raises(StorageError, match="the collection is half pushed; got 300 of 900 images; run the same"):
        open_milvus(address)
    Connection(address).write([{**row_like(300), "id": 300}])  # as if it had been killed in the middle of a batch
    done = push_index(noise.folder.parent, address)
    assert (done.rows, done.kept) == (ROWS, 300)
    ids = np.arange(ROWS)
    assert open_milvus(address).embeddings.rows(ids) == noise.rows(ids)


def row_like(id: int) -> dict[str, Any]:
    zeros = {"vector": np.zeros(DIM, np.float32), "width": 0, "height": 0, "path": "?", "sha256": "?"}
    return {"id": id, "caption": None, "path_bytes": None, **zeros}


def test_an_image_that_was_lost_is_told_as_such(noise: EmbeddingSet, server: str) -> None:
    push_index(noise.folder.parent, Address.parse(server + "losing"))
    opened = open_milvus(Address.parse(server + "losing"))
    client_of(server).delete("losing", ids=[7])
    with pytest.raises(StorageError, match="the collection has lost an image; got 7; push the index again"):
        opened.rows(np.array([6, 7]))
    with pytest.raises(StorageError, match="the collection has lost rows; got 899 of 900 from id 0"):
        [*opened.captions()]


def test_removed_images_are_not_pushed(noise: EmbeddingSet, server: str, tmp_path: Path) -> None:
    manifest = read_index_manifest(noise.folder.parent)
    gone = Selection.of_ids(np.array([0, 5, 450, 899]), ROWS)
    entry = write_removed(tmp_path, "removed-1.bin", gone)
    write_manifest(tmp_path, replace(manifest, embeddings=str(noise.folder), generation=1, removed=entry))
    address = Address.parse(server + "removed")
    assert push_index(tmp_path, address).rows == ROWS - 4
    opened = open_milvus(address)
    kept = (~gone).ids()
    assert opened.embeddings.rows(np.arange(ROWS - 4)) == noise.rows(kept)
    assert np.array_equal(opened.embeddings.vectors(np.array([0, 895])), noise.vectors(kept[[0, 895]]))


def test_another_index_is_refused_until_it_may_replace(index: Path, noise: EmbeddingSet, server: str) -> None:
    address = Address.parse(server + "taken")
    push_index(index, address)
    before = open_milvus(address)
    assert not before.changed()
    with pytest.raises(StorageError, match=r"holds another index, or another state .* 23 images of colours .*--repl"):
        push_index(noise.folder.parent, address)
    assert push_index(noise.folder.parent, address, replace=True).rows == ROWS
    assert before.changed()


def client_of(server: str) -> Any:
    from pymilvus import MilvusClient

    return MilvusClient(server.removesuffix("/").replace("milvus", "http"))


def test_a_collection_of_something_else_is_refused_and_never_dropped(server: str, index: Path) -> None:
    client = client_of(server)
    client.create_collection("theirs", dimension=4)
    for act in (open_milvus, partial(push_index, index), partial(push_index, index, replace=True)):
        with pytest.raises(StorageError, match=r"the collection holds no index; got .*theirs; give another name"):
            act(address=Address.parse(server + "theirs"))
    assert client.describe_collection("theirs")["collection_name"] == "theirs"


def test_a_collection_whose_card_is_damaged_may_be_replaced(server: str, index: Path) -> None:
    address = Address.parse(server + "damaged")
    flat = {"field_name": VECTOR, "index_type": "FLAT", "metric_type": "IP"}
    Connection(address).create(collection_schema({}, 49), {"simat": "{"}, flat)
    for act in (open_milvus, partial(push_index, index)):
        with pytest.raises(StorageError, match=r"says of itself is damaged; got .*damaged; push again with --replace"):
            act(address=address)
    assert push_index(index, address, replace=True).rows == 23


def test_another_type_of_index_is_made_when_it_may_replace(server: str, index: Path) -> None:
    address, client = Address.parse(server + "typed"), client_of(server)

    def kind() -> str:
        return str(client.describe_index("typed", "vector")["index_type"])

    push_index(index, address, "FLAT")
    assert (push_index(index, address, "FLAT").kept, kind()) == (23, "FLAT")
    with pytest.raises(StorageError, match=r"23 images of colours .*, FLAT; give another name, or --replace"):
        push_index(index, address, "HNSW", {"M": 8})
    assert push_index(index, address, "HNSW", {"M": 8}, replace=True).kept == 0
    assert kind() == "HNSW"


def test_an_index_that_changes_is_pushed_as_it_was(tmp_path: Path, server: str, monkeypatch: Any) -> None:
    vectors = unit_noise(4, 30, 4)
    embeddings = table_set(tmp_path / "embeddings", {"width": [*range(30)]}, part_size=10, vectors=vectors)
    ids = np.arange(30)
    known = embeddings.rows(ids)

    class Changing(Recorder):
        def advance(self, count: int) -> None:
            for part in embeddings.folder.glob("part-*"):
                part.unlink()

    address = Address.parse(server + "changed")
    assert push_index(plain_index(tmp_path, embeddings), address, progress=Changing.new()).rows == 30
    assert open_milvus(address).embeddings.rows(ids) == known


def test_texts_too_long_and_numbers_that_are_none_are_counted(tmp_path: Path, server: str) -> None:
    columns = {"caption": ["ü" * 40_000, "short", None], "score": [float("nan"), 1.5, None], "more": [[1], [2], [3]]}
    embeddings = table_set(tmp_path / "embeddings", columns)
    done = push_index(plain_index(tmp_path, embeddings), Address.parse(server + "long"))
    assert (done.cut.texts, done.cut.numbers) == (1, 1)
    opened = open_milvus(Address.parse(server + "long"))
    assert [row.caption for row in opened.rows(np.arange(3))] == ["ü" * (LONGEST // 2), "short", None]
    assert opened.selected("score is null").ids().tolist() == [0, 2]


def test_an_encoder_of_another_space_is_refused(pictures: str) -> None:
    with pytest.raises(SpaceMismatchError, match=r"the index holds vectors of colours"):
        simat.open(pictures, encoder=ColourEncoder("another"))


def test_a_file_of_milvus_lite_is_an_index_too(index: Path, tmp_path: Path, capsys: Any) -> None:
    with plugged_in(colour_plugin(tmp_path / "plugin")):
        pushed = here(capsys, "index", "push", index, f"milvus:{tmp_path}/x.db/pictures", "--json").json
        assert pushed == {
            **{"collection": f"milvus:{tmp_path}/x.db/pictures", "images": 23, "kept": 0},
            **{"cut_texts": 0, "unknown_numbers": 0},
        }
        words = ("red", "-k", "3", "--json", "--where", "width = 32 and path not like 'red%'")
        found = here(capsys, "search", f"milvus:{tmp_path}/x.db/pictures", *words).json["results"]
        expected = here(capsys, "search", index, *words).json["results"]
    assert [result["path"] for result in found] == [result["path"] for result in expected]
    assert len(found) == 3


def test_the_command_line_asks_a_server(pictures: str, tmp_path: Path, capsys: Any) -> None:
    with plugged_in(colour_plugin(tmp_path / "plugin")):
        ran = here(capsys, "search", pictures, "blue", "-k", "1", "--json")
        refused = here(capsys, "search", pictures, "blue", "--where", "length(path) > 3")
    assert Path(ran.json["results"][0]["path"]).name == "blue.png"
    assert refused.error.startswith("this cannot be said to Milvus; got length; ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "milvus://127.0.0.1:1/x", "red"], "no Milvus answers; got 127.0.0.1:1: Connection refused; start"),
        (["search", "milvus:nowhere.db/x", "red"], "no such file of Milvus Lite; got "),
        (["search", "milvus:x", "red"], "not the address of a collection of Milvus; got 'milvus:x'; write milvus://HO"),
        (["index", "push", "INDEX", "milvus://127.0.0.1:1/x"], "no Milvus answers"),
        (["index", "push", "INDEX", "milvus:/no/folder/x.db/x"], "no such folder; got /no/folder"),
        (["index", "push", "INDEX", "milvus://h:1/x", "--build", "M"], "not a parameter; got 'M'; write for example"),
        (["index", "push", "/nowhere", "milvus:x.db/x"], "no index here; got /nowhere"),
    ],
)
def test_what_cannot_be_reached_is_one_line(capsys: Any, index: Path, arguments: list[str], message: str) -> None:
    words = [str(index) if word == "INDEX" else word for word in arguments]
    assert here(capsys, *words).error.startswith(message)


def test_a_server_that_says_nothing_is_given_up_within_ten_seconds() -> None:
    started = time.monotonic()
    with (
        mute() as port,
        pytest.raises(StorageError, match=r"cannot open Milvus; got milvus://127.0.0.1:.*: no answer in time; look"),
    ):
        open_milvus(Address.parse(f"milvus://127.0.0.1:{port}/x"))
    assert time.monotonic() - started < 10


def test_a_server_that_wants_a_password_says_how_to_give_it() -> None:
    remedy = "who are you.; set SIMAT_MILVUS_TOKEN to user:password"
    with locked_up() as port, pytest.raises(StorageError, match=rf"cannot open Milvus; got milvus://.*: {remedy}"):
        open_milvus(Address.parse(f"milvus://127.0.0.1:{port}/x"))


def test_a_server_that_goes_down_is_one_line_within_seconds(tmp_path: Path, index: Path) -> None:
    with listening(tmp_path / "x.db") as port:
        push_index(index, Address.parse(f"milvus://127.0.0.1:{port}/x"))
        opened = open_milvus(Address.parse(f"milvus://127.0.0.1:{port}/x"))
    started = time.monotonic()
    for ask in (lambda: opened.searcher.search(unit_noise(0, 1, 49), 3), lambda: opened.selected("width > 3")):
        with pytest.raises(StorageError, match=rf"Milvus cannot .*:{port}/x: .*; look whether Milvus runs"):
            ask()
    assert time.monotonic() - started < 10


def test_a_file_that_is_open_elsewhere_is_one_line(tmp_path: Path) -> None:
    with listening(tmp_path / "x.db"), pytest.raises(StorageError, match="another process may have it open"):
        Connection(Address.parse(f"milvus:{tmp_path}/x.db/x"))


def test_a_collection_that_is_not_there_is_named(server: str) -> None:
    with pytest.raises(StorageError, match=r"no such collection; got milvus://.*/nothing; make it with"):
        open_milvus(Address.parse(server + "nothing"))


@pytest.mark.parametrize(
    ("text", "uri", "collection"),
    [
        ("milvus://host:19530/one", "http://host:19530", "one"),
        ("milvus:/host:19530/one", "http://host:19530", "one"),
        ("milvuss://host:443/base/one", "https://host:443", "one"),
        ("milvus:/tmp/a b/x.db/one", "/tmp/a b/x.db", "one"),
    ],
)
def test_addresses_are_read_and_written(text: str, uri: str, collection: str) -> None:
    address = Address.parse(text)
    assert (address.uri, address.collection) == (uri, collection)
    assert Address.parse(str(address)) == Address.parse(str(Path(str(address)))) == address
    assert is_address(text)


@pytest.mark.parametrize(
    "text",
    ["milvus:", "milvus://host/x", "milvus://host:0/x", "milvus://h:1/", "milvus://h:1/a-b", "milvus:x.db/1a", "x"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(StorageError, match=r"write milvus://|letters, digits and underscores"):
        Address.parse(text)


def test_a_password_in_an_address_is_refused_and_not_told() -> None:
    with pytest.raises(StorageError, match="an address holds no password; set SIMAT_MILVUS_TOKEN") as told:
        Address.parse("milvus://root:secret@host:19530/x")
    assert "secret" not in str(told.value)


def test_batches_hold_what_fits() -> None:
    rows = [{"text": "x" * size} for size in (5, 5, 90, 3, 200, 1)]
    assert [[len(row["text"]) for row in batch] for batch in batches(rows, 100)] == [[5, 5, 90], [3], [200], [1]]
