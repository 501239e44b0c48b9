"""Search: exact against a slow loop and against FAISS; shards that are not what they should be."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import faiss
import numpy as np
import pytest
from helpers import unit_noise
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simat import shardfiles as module
from simat.errors import QueryError, StorageError
from simat.manifest import FileEntry, IndexManifest
from simat.searcher import Searcher, open_shards, search_parameters
from simat.types import EmbeddingSpace

DIM = 5
# Small whole numbers: every product is exact, and equal scores are common.
WHOLE = st.integers(1, 40).flatmap(
    lambda rows: hnp.arrays(np.float32, (rows, DIM), elements=st.sampled_from([-1.0, 0.0, 1.0, 2.0]))
)
QUERIES = hnp.arrays(np.float32, (3, DIM), elements=st.sampled_from([-2.0, 0.0, 1.0]))


def flat(vectors: np.ndarray) -> faiss.IndexFlatIP:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors))
    return index


def slow_search(vectors: np.ndarray, query: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    scored = sorted(
        (-sum(float(a) * float(b) for a, b in zip(row, query, strict=True)), i) for i, row in enumerate(vectors)
    )
    padding = max(0, k - len(scored))
    return [i for _, i in scored[:k]] + [-1] * padding, [-s for s, _ in scored[:k]] + [-np.inf] * padding


def cut(vectors: np.ndarray, bounds: list[int]) -> list[np.ndarray]:
    edges = sorted({0, len(vectors), *(b for b in bounds if b < len(vectors))})
    return [vectors[a:b] for a, b in pairwise(edges)]


@given(WHOLE, QUERIES, st.integers(1, 50), st.integers(1, 3))
def test_search_is_the_slow_loop_with_ties_by_smaller_id(
    vectors: np.ndarray, queries: np.ndarray, k: int, threads: int
) -> None:
    hits = Searcher([flat(vectors)], threads=threads).search(queries, k)
    assert hits.ids.shape == hits.scores.shape == (3, k)
    for row, query in enumerate(queries):
        ids, scores = slow_search(vectors, query, k)
        assert hits.ids[row].tolist() == ids
        assert hits.scores[row].tolist() == scores


@given(WHOLE, QUERIES, st.lists(st.integers(1, 39), max_size=5), st.integers(1, 50))
def test_search_of_shards_is_the_search_of_the_whole(
    vectors: np.ndarray, queries: np.ndarray, bounds: list[int], k: int
) -> None:
    whole = Searcher([flat(vectors)], threads=1).search(queries, k)
    sharded = Searcher([flat(piece) for piece in cut(vectors, bounds)], threads=2).search(queries, k)
    np.testing.assert_array_equal(sharded.ids, whole.ids)
    np.testing.assert_array_equal(sharded.scores, whole.scores)


@given(st.integers(0, 1000), st.lists(st.integers(1, 199), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_search_does_not_depend_on_the_order_of_shards(seed: int, bounds: list[int], random: object) -> None:
    vectors, queries = unit_noise(seed, 200, 16), unit_noise(seed + 1, 4, 16)
    pieces = cut(np.arange(200), bounds)
    random.shuffle(pieces)  # type: ignore[attr-defined]
    order = np.concatenate(pieces)
    one = Searcher([flat(vectors)], threads=1).search(queries, 10)
    other = Searcher([flat(vectors[piece]) for piece in pieces], threads=2).search(queries, 10)
    np.testing.assert_array_equal(order[other.ids], one.ids)
    np.testing.assert_allclose(other.scores, one.scores, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("queries", [1, 40])
def test_search_of_a_large_flat_shard_is_that_of_faiss(threads: int, queries: int) -> None:
    vectors, asked = unit_noise(0, 20_000, 24), unit_noise(1, queries, 24)
    index = flat(vectors)
    scores, ids = index.search(asked, 10)
    searcher = Searcher([index], threads=threads)
    assert len(searcher._blocks) == threads
    hits = searcher.search(asked, 10)
    np.testing.assert_array_equal(hits.ids, ids)
    np.testing.assert_allclose(hits.scores, scores, atol=1e-6)


@pytest.mark.parametrize(
    ("factory", "search"),
    [
        ("IVF8,Flat", {"nprobe": 3}),
        ("HNSW8", {"efSearch": 40}),
        ("PCA8,IVF8,Flat", {"nprobe": 3}),
        ("SQ8", {}),
        ("IVF8,Flat,RFlat", {"nprobe": 3}),
    ],
)
def test_search_of_other_indexes_is_that_of_faiss(factory: str, search: dict[str, int]) -> None:
    vectors, queries = unit_noise(0, 800, 16), unit_noise(1, 5, 16)
    index = faiss.index_factory(16, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    scores, ids = index.search(queries, 5, params=search_parameters(index, search))
    hits = Searcher([index], search, threads=2).search(queries, 5)
    np.testing.assert_array_equal(hits.ids, ids)
    np.testing.assert_allclose(hits.scores, scores, atol=1e-6)


def test_search_passes_its_parameters_and_sets_nothing_on_the_shared_index() -> None:
    vectors = unit_noise(0, 2000, 16)
    index = faiss.index_factory(16, "IVF32,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    every = Searcher([index], {"nprobe": 32}, threads=1).search(vectors[:50], 10)
    few = Searcher([index], {"nprobe": 1}, threads=1).search(vectors[:50], 10)
    exact = Searcher([flat(vectors)], threads=1).search(vectors[:50], 10)
    np.testing.assert_array_equal(every.ids, exact.ids)
    assert (few.ids == exact.ids).mean() < 0.9
    assert index.nprobe == 1


def test_search_pads_what_an_approximate_index_does_not_find() -> None:
    vectors = unit_noise(0, 400, 16)
    index = faiss.index_factory(16, "IVF16,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    hits = Searcher([index], {"nprobe": 1}, threads=1).search(vectors[:3], 400)
    missing = hits.ids == -1
    assert 0 < missing.sum() < missing.size
    assert np.isneginf(hits.scores[missing]).all() and np.isfinite(hits.scores[~missing]).all()
    assert (np.diff(missing.astype(int), axis=1) >= 0).all()


def test_search_is_shared_between_threads() -> None:
    vectors, queries = unit_noise(0, 3000, 16), unit_noise(1, 40, 16)
    searcher = Searcher([flat(vectors[:1000]), flat(vectors[1000:])], threads=2)
    with ThreadPoolExecutor(6) as pool:
        found = [*pool.map(lambda query: searcher.search(query[None], 5).ids[0], queries)]
    np.testing.assert_array_equal(np.stack(found), flat(vectors).search(queries, 5)[1])


def test_search_refuses_k_below_1_and_other_dimensions() -> None:
    searcher = Searcher([flat(unit_noise(0, 4, DIM))])
    with pytest.raises(QueryError, match="k must be at least 1; got 0"):
        searcher.search(unit_noise(1, 1, DIM), 0)
    with pytest.raises(QueryError, match="the index holds 5-d vectors; got a 6-d query"):
        searcher.search(unit_noise(1, 1, 6), 1)


# shards on disk


def store(folder: Path, factory: str = "Flat", rows: int = 20) -> IndexManifest:
    (folder / "shards").mkdir(exist_ok=True)
    index = faiss.index_factory(DIM, factory, faiss.METRIC_INNER_PRODUCT)
    index.add(unit_noise(0, rows, DIM))
    entries = []
    for number in range(2):
        name = f"shards/shard-{number}.faiss"
        faiss.write_index(index, str(folder / name))
        entries.append(FileEntry.of(folder, name, rows))
    return IndexManifest(EmbeddingSpace("test", "f00d", DIM), "embeddings", factory, tuple(entries), 2 * rows)


@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_open_shards_finds_what_was_stored(tmp_path: Path, factory: str) -> None:
    shards = open_shards(tmp_path, store(tmp_path, factory))
    assert [shard.ntotal for shard in shards] == [20, 20]
    hits = Searcher(shards).search(unit_noise(0, 20, DIM)[[3]], 2)
    assert hits.ids.tolist() == [[3, 23]]


def test_open_shards_refuses_a_missing_shard(tmp_path: Path) -> None:
    manifest = store(tmp_path)
    (tmp_path / "shards/shard-1.faiss").unlink()
    with pytest.raises(StorageError, match=r"shards/shard-1\.faiss is missing.*build the index again"):
        open_shards(tmp_path, manifest)


def test_open_shards_refuses_a_truncated_shard(tmp_path: Path) -> None:
    manifest = store(tmp_path)
    os.truncate(tmp_path / "shards/shard-0.faiss", 100)
    with pytest.raises(StorageError, match=r"shard-0\.faiss was truncated or altered; got 100 bytes instead of \d+"):
        open_shards(tmp_path, manifest)


def flip_byte(path: Path, where: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)


def test_open_shards_refuses_an_altered_shard(tmp_path: Path) -> None:
    manifest = store(tmp_path)
    flip_byte(tmp_path / "shards/shard-1.faiss")
    with pytest.raises(StorageError, match=r"shard-1\.faiss was altered; got another SHA-256"):
        open_shards(tmp_path, manifest)


def test_open_shards_refuses_a_shard_of_another_index(tmp_path: Path) -> None:
    manifest = store(tmp_path)
    other = replace(manifest.shards[0], rows=21)
    with pytest.raises(StorageError, match="not the shard of this index; got 20 × 5 vectors instead of 21 × 5"):
        open_shards(tmp_path, replace(manifest, shards=(other,)))
    with pytest.raises(StorageError, match="got 20 × 5 vectors instead of 20 × 6"):
        open_shards(tmp_path, replace(manifest, space=EmbeddingSpace("test", "f00d", 6)))


@settings(max_examples=30)
@given(st.binary(max_size=200))
def test_open_shards_refuses_files_that_faiss_cannot_read(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    (folder / "x.faiss").write_bytes(data)
    space = EmbeddingSpace("test", "f00d", DIM)
    manifest = IndexManifest(space, "embeddings", "Flat", (FileEntry.of(folder, "x.faiss", 1),), 1)
    with pytest.raises(StorageError, match=r"FAISS cannot read x\.faiss"):
        open_shards(folder, manifest)


def test_open_shards_with_a_faiss_that_sets_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("get_deserialization_vector_byte_limit", "set_deserialization_vector_byte_limit"):
        monkeypatch.delattr(faiss, name, raising=False)
    assert [shard.ntotal for shard in open_shards(tmp_path, store(tmp_path))] == [20, 20]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that remembers which shards were hashed, for one test."""
    folder = tmp_path / "cache"
    folder.mkdir()
    monkeypatch.setattr(module, "cache_folder", lambda: folder)
    return folder / "verified.json"


def test_open_shards_hashes_a_shard_once(tmp_path: Path, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = store(tmp_path)
    open_shards(tmp_path, manifest)
    assert len(json.loads(record.read_text())) == 2
    monkeypatch.setattr(FileEntry, "check", lambda *_: pytest.fail("hashed again"))
    open_shards(tmp_path, manifest)


def test_open_shards_notices_a_change_after_the_first_opening(tmp_path: Path, record: Path) -> None:
    manifest = store(tmp_path)
    open_shards(tmp_path, manifest)
    path = tmp_path / "shards/shard-0.faiss"
    before = path.stat()
    flip_byte(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(StorageError, match=r"shard-0\.faiss was altered"):
        open_shards(tmp_path, manifest)
    with pytest.raises(StorageError, match=r"shard-0\.faiss was altered"):
        open_shards(tmp_path, manifest)


def test_open_shards_notices_a_replaced_file_of_the_same_time(tmp_path: Path, record: Path) -> None:
    manifest = store(tmp_path)
    open_shards(tmp_path, manifest)
    path = tmp_path / "shards/shard-0.faiss"
    other, before = tmp_path / "other", path.stat()
    other.write_bytes(path.read_bytes())
    flip_byte(other)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)
    with pytest.raises(StorageError, match=r"shard-0\.faiss was altered"):
        open_shards(tmp_path, manifest)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"x": 1}'])
def test_open_shards_outlives_a_damaged_record(tmp_path: Path, record: Path, data: bytes) -> None:
    record.write_bytes(data)
    assert len(open_shards(tmp_path, store(tmp_path))) == 2
