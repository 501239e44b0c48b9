"""Search among selected rows, without removed ones, and with candidates scored again."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
import pytest
from building import vector_set
from helpers import unit_noise
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simat import searcher as searcher_module
from simat.blocks import MIN_BLOCK, Block, widened
from simat.errors import QueryError, StorageError
from simat.searcher import Searcher
from simat.selection import Selection
from simat.types import Hits, VectorSearch
from simat.vectors import to_half, unit_rows
from simat.vectorstore import VectorStore

pytestmark = pytest.mark.usefixtures("one_faiss_thread")
DIM, ROWS = 16, 2000
# Small whole numbers: every product is exact, and equal scores are common.
CASES = st.integers(1, 40).flatmap(
    lambda rows: st.tuples(
        hnp.arrays(np.float32, (rows, 5), elements=st.sampled_from([-1.0, 0.0, 1.0, 2.0])),
        hnp.arrays(np.bool_, rows),
        hnp.arrays(np.bool_, rows),
        st.lists(st.integers(1, rows), max_size=3),
    )
)
QUERIES = hnp.arrays(np.float32, (3, 5), elements=st.sampled_from([-2.0, 0.0, 1.0]))
SELECTING = ["IVF8,Flat", "IVF8,SQ8", "IVF8,PQ4x4fs", "IVF8,RaBitQ", "IVF8,RaBitQfs", "HNSW8", "SQ8", "PCA8,IVF8,Flat"]
SIFTED = ["PQ8x4fs", "RaBitQfs", "PQ4x4"]  # FAISS can leave out no rows while it searches these


def flat(vectors: np.ndarray) -> faiss.IndexFlatIP:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def made(factory: str, vectors: np.ndarray) -> faiss.Index:
    index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
    if isinstance(index, faiss.IndexPQ):
        index.do_polysemous_training = False
    index.train(vectors)
    index.add(vectors)
    return index


def slow_search(vectors: np.ndarray, mask: np.ndarray, query: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    scored = sorted((-float(vectors[i] @ query), i) for i in np.flatnonzero(mask).tolist())[:k]
    padding = k - len(scored)
    return [i for _, i in scored] + [-1] * padding, [-s for s, _ in scored] + [-np.inf] * padding


@pytest.fixture(scope="module")
def stored() -> np.ndarray:
    rng = np.random.default_rng(3)
    return to_half(unit_rows(unit_noise(1, 40, DIM)[rng.integers(0, 40, ROWS)] + 0.2 * rng.normal(size=(ROWS, DIM))))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, stored: np.ndarray) -> VectorStore:
    return VectorStore.of(vector_set(tmp_path_factory.mktemp("set"), stored.astype(np.float32)))


@given(CASES, QUERIES, st.integers(1, 50), st.integers(1, 3))
def test_search_is_the_slow_loop_over_the_rows_that_are_selected_and_not_removed(
    case: tuple[np.ndarray, np.ndarray, np.ndarray, list[int]], queries: np.ndarray, k: int, threads: int
) -> None:
    vectors, inside, removed, bounds = case
    edges = sorted({0, len(vectors), *bounds})
    shards = [flat(vectors[a:b]) for a, b in pairwise(edges)]
    searcher = Searcher(shards, threads=threads, removed=Selection.of(removed))
    for among, mask in ((Selection.of(inside), inside & ~removed), (None, ~removed)):
        hits = searcher.search(queries, k, among)
        assert hits.ids.shape == hits.scores.shape == (3, k)
        for row, query in enumerate(queries):
            ids, scores = slow_search(vectors, mask, query, k)
            assert hits.ids[row].tolist() == ids
            assert hits.scores[row].tolist() == scores


@given(CASES, QUERIES, st.integers(1, 50))
def test_a_selection_of_all_rows_and_no_removed_one_change_nothing(
    case: tuple[np.ndarray, np.ndarray, np.ndarray, list[int]], queries: np.ndarray, k: int
) -> None:
    vectors = case[0]
    plain = Searcher([flat(vectors)], threads=1).search(queries, k)
    other = Searcher([flat(vectors)], threads=2, removed=Selection.none(len(vectors)))
    assert_same(other.search(queries, k, Selection.every(len(vectors))), plain)


def assert_same(hits: Hits, wanted: Hits) -> None:
    np.testing.assert_array_equal(hits.ids, wanted.ids)
    np.testing.assert_array_equal(hits.scores, wanted.scores)


@pytest.mark.parametrize("queries", [1, 40])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 0.99])
def test_selection_of_a_large_flat_shard_is_the_search_of_the_selected_rows(queries: int, share: float) -> None:
    vectors, asked = unit_noise(0, 3 * MIN_BLOCK, 24), unit_noise(1, queries, 24)
    mask = np.random.default_rng(2).random(len(vectors)) < share
    ids = np.flatnonzero(mask)
    hits = Searcher([flat(vectors)], threads=2).search(asked, 10, Selection.of(mask))
    scores, rows = flat(vectors[mask]).search(asked, 10)
    np.testing.assert_array_equal(hits.ids, ids[rows])
    np.testing.assert_allclose(hits.scores, scores, atol=1e-6)


@pytest.mark.parametrize("factory", SELECTING + SIFTED)
@pytest.mark.parametrize("stored_too", [True, False])
def test_every_kind_of_index_finds_only_selected_rows(
    factory: str, stored_too: bool, stored: np.ndarray, store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher_module, "FEW", 0)
    vectors = stored.astype(np.float32)
    shards = [made(factory, vectors[:1200]), made(factory, vectors[1200:])]
    mask = np.random.default_rng(5).random(ROWS) < 0.25
    searcher = Searcher(shards, {"nprobe": 2, "efSearch": 32}, 2, vectors=store if stored_too else None)
    queries = vectors[:30]
    hits = searcher.search(queries, 10, Selection.of(mask))
    assert mask[hits.ids[hits.ids >= 0]].all()
    wanted = Searcher([flat(vectors)], threads=1).search(queries, 10, Selection.of(mask))
    if stored_too:
        assert (hits.ids >= 0).all()
    shared = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(hits.ids.tolist(), wanted.ids.tolist(), strict=True)])
    assert shared > (0.3 if factory[-4:] not in {"Flat", "NSW8", ",SQ8"} or "PCA" in factory else 0.9)


@pytest.mark.parametrize("factory", ["IVF8,Flat", "PQ8x4fs", "HNSW8"])
def test_among_few_rows_the_answers_are_exact_whatever_the_index(
    factory: str, stored: np.ndarray, store: VectorStore
) -> None:
    vectors = stored.astype(np.float32)
    searcher = Searcher([made(factory, vectors)], {"nprobe": 1}, 2, vectors=store)
    mask = np.random.default_rng(6).random(ROWS) < 0.03
    exact = Searcher([flat(vectors)], threads=1).search(vectors[:25], 10, Selection.of(mask))
    assert_same(searcher.search(vectors[:25], 10, Selection.of(mask)), exact)


@given(share=st.floats(0, 0.02), k=st.integers(1, 60), seed=st.integers(0, 50))
@settings(max_examples=25)
def test_fewer_than_k_selected_rows_are_all_found_and_padded(
    stored: np.ndarray, store: VectorStore, share: float, k: int, seed: int
) -> None:
    vectors = stored.astype(np.float32)
    mask = np.random.default_rng(seed).random(ROWS) < share
    searcher = Searcher([flat(vectors)], threads=2, vectors=store)
    hits = searcher.search(vectors[:3], k, Selection.of(mask))
    assert hits.ids.shape == (3, k)
    assert ((hits.ids >= 0).sum(1) == min(k, mask.sum())).all()
    assert np.isneginf(hits.scores[hits.ids < 0]).all()


@pytest.mark.parametrize(("few", "many"), [(10, 1000), (10, 20)])
def test_an_index_that_finds_too_few_of_the_selected_rows_is_completed(
    stored: np.ndarray, store: VectorStore, monkeypatch: pytest.MonkeyPatch, few: int, many: int
) -> None:
    vectors = stored.astype(np.float32)
    monkeypatch.setattr(searcher_module, "FEW", few)
    monkeypatch.setattr(searcher_module, "MANY", many)
    index = made("IVF32,Flat", vectors)
    # The rows that lie farthest from the query: no list that is probed holds many of them.
    mask = np.zeros(ROWS, bool)
    mask[np.argsort(vectors @ vectors[0])[:200]] = True
    among = Selection.of(mask)
    scores, rows = Block(0, index=index).best(vectors[:1], 100, {"nprobe": 1}, among)
    assert (rows < 0).any() and np.isneginf(scores[rows < 0]).all()
    wanted = Searcher([flat(vectors)], threads=1).search(vectors[:1], 100, among)
    for vectors_too in (store, None):
        hits = Searcher([index], {"nprobe": 1}, 1, vectors=vectors_too).search(vectors[:1], 100, among)
        np.testing.assert_array_equal(hits.ids, wanted.ids)
        np.testing.assert_allclose(hits.scores, wanted.scores, atol=1e-6)


def test_a_faiss_that_does_not_heed_selections_is_not_trusted(
    stored: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss, "__version__", "1.14.1")
    vectors = stored.astype(np.float32)
    among = Selection.of(np.random.default_rng(5).random(ROWS) < 0.25)
    for factory, selects in (("IVF8,RaBitQfs", False), ("IVF8,RaBitQ", True), ("IVF8,PQ4x4fs", True)):
        index = made(factory, vectors)
        assert Block(0, index=index)._selects is selects
        (ids,) = Searcher([index], {"nprobe": 8}, 1).search(vectors[:1], 10, among).ids
        assert (ids >= 0).all() and among.mask()[ids].all()


def test_removed_rows_of_one_shard_leave_the_search_of_the_others_as_it_was(stored: np.ndarray) -> None:
    vectors = stored.astype(np.float32)
    searcher = Searcher([flat(vectors[:1000]), flat(vectors[1000:])], threads=1)
    gone = Selection.of_ids(np.arange(1000), ROWS)
    rest = Searcher([flat(vectors[1000:])], threads=1).search(vectors[:9], 10)
    hits = Searcher(searcher._shards, threads=1, removed=gone).search(vectors[:9], 10)
    assert_same(hits, Hits(rest.ids + 1000, rest.scores))


# scored again


@pytest.mark.parametrize("factory", ["IVF8,PQ4x4fs", "IVF8,RaBitQfs", "PQ8x4fs", "IVF8,SQ4"])
def test_rerank_gives_exact_scores_and_finds_more(factory: str, stored: np.ndarray, store: VectorStore) -> None:
    vectors, queries = stored.astype(np.float32), unit_noise(8, 40, DIM)
    index = made(factory, vectors)
    exact = Searcher([flat(vectors)], threads=1).search(queries, 10)
    shares = []
    for times in (None, 4, 200):
        search = {"nprobe": 8, **({"rerank": times} if times else {})}
        hits = Searcher([index], search, 2, vectors=store).search(queries, 10)
        shares.append(np.mean([np.isin(a, b).mean() for a, b in zip(hits.ids, exact.ids, strict=True)]))
        if times:
            products = np.einsum("qkd,qd->qk", vectors[hits.ids], queries)
            np.testing.assert_allclose(hits.scores, products, atol=1e-6)
            assert (np.diff(hits.scores, axis=1) <= 0).all()
    assert shares[0] < shares[1] <= shares[2]
    assert_same(hits, exact)  # 200 · 10 candidates are all there are


def test_rerank_keeps_to_the_selected_rows(
    stored: np.ndarray, store: VectorStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searcher_module, "FEW", 0)
    vectors = stored.astype(np.float32)
    searcher = Searcher([made("IVF8,PQ4x4fs", vectors)], {"nprobe": 8, "rerank": 100}, 1, vectors=store)
    mask = np.random.default_rng(7).random(ROWS) < 0.4
    hits = searcher.search(vectors[:20], 10, Selection.of(mask))
    exact = Searcher([flat(vectors)], threads=1).search(vectors[:20], 10, Selection.of(mask))
    assert_same(hits, exact)


@pytest.mark.parametrize("gathered", [1, 500, 10**6])
def test_rerank_gathers_few_vectors_at_a_time_and_finds_the_same(
    stored: np.ndarray, store: VectorStore, monkeypatch: pytest.MonkeyPatch, gathered: int
) -> None:
    taken: list[int] = []
    take = VectorStore.take
    monkeypatch.setattr(VectorStore, "take", lambda self, ids: (taken.append(len(ids)), take(self, ids))[1])
    index, queries = made("IVF8,PQ4x4fs", stored.astype(np.float32)), unit_noise(8, 40, DIM)
    whole = Searcher([index], {"nprobe": 8, "rerank": 10}, 2, vectors=store).search(queries, 10)
    taken.clear()
    monkeypatch.setattr(searcher_module, "GATHERED", gathered)
    assert_same(Searcher([index], {"nprobe": 8, "rerank": 10}, 2, vectors=store).search(queries, 10), whole)
    assert max(taken) <= max(gathered, 100)  # the candidates of one query at least


def test_rerank_breaks_ties_by_smaller_id(tmp_path: Path) -> None:
    vectors = np.repeat(unit_noise(0, 30, DIM), 7, axis=0)
    store = VectorStore.of(vector_set(tmp_path, vectors))
    halved = to_half(vectors).astype(np.float32)
    hits = Searcher([made("PQ8x4fs", halved)], {"rerank": 20}, 1, vectors=store).search(halved[[0, 70]], 7)
    assert hits.ids.tolist() == [[*range(7)], [*range(70, 77)]]


def test_rerank_without_stored_vectors_is_refused() -> None:
    with pytest.raises(StorageError, match="re-ranking needs the stored vectors"):
        Searcher([flat(unit_noise(0, 4, DIM))], {"rerank": 4})


def test_stored_vectors_of_another_index_are_refused(store: VectorStore) -> None:
    with pytest.raises(StorageError, match="shards hold 4 × 16 vectors; got an embedding set of 2000 × 16; build"):
        Searcher([flat(unit_noise(0, 4, DIM))], vectors=store)


def test_a_selection_of_another_index_is_refused() -> None:
    searcher = Searcher([flat(unit_noise(0, 4, DIM))])
    with pytest.raises(QueryError, match="the index has 4 rows; got a selection among 5"):
        searcher.search(unit_noise(0, 1, DIM), 1, Selection.every(5))
    with pytest.raises(QueryError, match="the index has 4 rows; got a selection among 5"):
        Searcher([flat(unit_noise(0, 4, DIM))], removed=Selection.every(5))


def test_effort_grows_as_the_share_shrinks() -> None:
    knobs = {"nprobe": (1, 64)}
    assert widened({"nprobe": 4}, 1.0, knobs) == {"nprobe": 4}
    assert widened({"nprobe": 4}, 0.999, knobs) == {"nprobe": 5}
    assert widened({"nprobe": 4}, 0.25, knobs) == {"nprobe": 22}
    assert widened({"nprobe": 4}, 0.01, knobs) == {"nprobe": 64}
    assert widened({}, 0.1, knobs) == {"nprobe": 15}
    assert widened({"other": 4}, 0.01, {}) == {"other": 4}


def test_searcher_is_a_vector_search() -> None:
    assert isinstance(Searcher([flat(unit_noise(0, 4, DIM))]), VectorSearch)


def test_block_without_rows_finds_nothing() -> None:
    scores, ids = Block(3, index=faiss.IndexFlatIP(DIM)).best(unit_noise(0, 2, DIM), 5, {})
    assert scores.shape == ids.shape == (2, 0)


@pytest.mark.parametrize("search", [{}, {"rerank": 4}])
def test_no_query_has_no_hits(stored: np.ndarray, store: VectorStore, search: dict[str, int]) -> None:
    searcher = Searcher([made("IVF8,SQ8", stored.astype(np.float32))], search, 1, vectors=store)
    assert searcher.search(np.empty((0, DIM), np.float32), 3).ids.shape == (0, 3)
