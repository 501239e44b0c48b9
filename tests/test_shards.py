"""Shards of real factory strings over random vectors: what is tuned, what is reported, what is trained on."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from building import Recorder, contents, same_contents, vector_set
from helpers import unit_noise

from indexing.config import BuildConfig
from indexing.shards import ShardBuilder, Shards, write_index
from simat.embeddings import EmbeddingSet
from simat.errors import BuildError
from simat.searcher import Searcher
from simat.vectors import unit_rows

ROWS, DIM, SHARD = 3000, 24, 1200


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingSet:
    """3,000 vectors in 60 clouds, so that inverted lists have something to find, in four parts."""
    rng = np.random.default_rng(5)
    clouds = unit_noise(1, 60, DIM)[rng.integers(0, 60, ROWS)]
    vectors = unit_rows(clouds + rng.normal(scale=0.15, size=(ROWS, DIM)))
    return vector_set(tmp_path_factory.mktemp("set"), vectors, part_size=800)


def settings(factory: str, **more: Any) -> BuildConfig:
    return BuildConfig("/nowhere", **{"factory": factory, "shard_size": SHARD, **more})


def built(
    folder: Path, embeddings: EmbeddingSet, config: BuildConfig, recorder: Recorder | None = None
) -> tuple[Shards, ShardBuilder]:
    shards = folder / "shards"
    shards.mkdir(exist_ok=True)
    builder = ShardBuilder(shards, embeddings, config, 2)
    return builder.run(recorder or Recorder.new()), builder


def stored(embeddings: EmbeddingSet) -> np.ndarray:
    return np.concatenate(list(embeddings.blocks(0, ROWS))).astype(np.float32)


def opened(folder: Path, shards: Shards) -> list[Any]:
    return [faiss.read_index(str(folder / entry.name)) for entry in shards.entries]


def slow_recall(vectors: np.ndarray, indexes: list[Any], search: dict[str, int], ids: np.ndarray) -> float:
    """recall@10 by a loop over the queries and FAISS's own global parameters, candidates scored again one by one."""
    hits = 0
    times = search.get("rerank", 1)
    search = {name: value for name, value in search.items() if name != "rerank"}
    for id in ids:
        exact = vectors.astype(np.float64) @ vectors[id]
        exact[id] = -np.inf
        wanted = set(np.argsort(-exact)[:10].tolist())
        found: list[tuple[float, int]] = []
        first = 0
        for index in indexes:
            for name, value in search.items():
                faiss.ParameterSpace().set_index_parameter(index, name, value)
            scores, rows = index.search(vectors[[id]], 11 * times)
            found += [(-s, int(r) + first) for s, r in zip(scores[0], rows[0], strict=True) if r >= 0]
            first += index.ntotal
        candidates = [row for _, row in sorted(found)[: 11 * times]]
        if times > 1:
            candidates.sort(key=lambda row: -float(vectors[row] @ vectors[id]))
        got = [other for other in candidates[:11] if other != id][:10]
        hits += len(wanted & set(got))
    return hits / (10 * len(ids))


@pytest.mark.parametrize(
    ("factory", "knob"),
    [
        ("Flat", None),
        ("SQ8", None),
        ("SQ4", None),
        ("IVF32,Flat", "nprobe"),
        ("IVF16,SQ8", "nprobe"),
        ("PCA12,IVF16,Flat", "nprobe"),
        ("IVF16,SQ4,RFlat", "nprobe"),
        ("IVF64_HNSW16,Flat", "nprobe"),
        ("HNSW16", "efSearch"),
        ("IVF16,PQ4x4fs", "nprobe"),
    ],
)
def test_reported_recall_is_that_of_a_slow_loop_over_the_held_back_queries(
    tmp_path: Path, embeddings: EmbeddingSet, factory: str, knob: str | None
) -> None:
    shards, builder = built(tmp_path, embeddings, settings(factory))
    reported = builder._queries[::2]  # of all parts of the collection, as those that are tuned on
    assert set(shards.search) - {"rerank"} == ({knob} if knob else set())
    assert ("rerank" in shards.search) == (factory in {"SQ4", "IVF16,PQ4x4fs"})
    assert shards.recall["queries"] == len(reported) == 128
    k_factor = {"k_factor_rf": 4} if "RFlat" in factory else {}
    expected = slow_recall(stored(embeddings), opened(tmp_path, shards), {**dict(shards.search), **k_factor}, reported)
    assert shards.recall["recall@10"] == pytest.approx(expected, abs=0.002)
    assert shards.recall["recall@10"] == 1.0 or factory != "Flat"


@pytest.mark.parametrize("target", [0.3, 0.8, 0.97])
def test_search_parameter_is_the_first_that_reaches_the_target(
    tmp_path: Path, embeddings: EmbeddingSet, target: float
) -> None:
    shards, builder = built(tmp_path, embeddings, settings("IVF32,Flat", target_recall=target))
    chosen = shards.search["nprobe"]
    tuned_on = builder._queries[1::2]
    recalls = {
        n: slow_recall(stored(embeddings), opened(tmp_path, shards), {"nprobe": n}, tuned_on)
        for n in (1, 2, 4, 8, 16, 32)
    }
    assert recalls[chosen] >= target
    assert all(recall < target for n, recall in recalls.items() if n < chosen)


def test_a_target_out_of_reach_takes_the_most_exact_search(
    tmp_path: Path, embeddings: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexing.settings.CANDIDATES", (1,))
    shards, _ = built(tmp_path, embeddings, settings("IVF8,SQ4", target_recall=1.0))
    assert shards.search == {"nprobe": 8, "rerank": 1}
    assert shards.recall["recall@10"] < 1


def test_training_never_sees_the_queries_it_is_measured_on(
    tmp_path: Path, embeddings: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []
    train = faiss.IndexIVFFlat.train
    monkeypatch.setattr(faiss.IndexIVFFlat, "train", lambda self, x: (seen.append(x.copy()), train(self, x))[1])
    _, builder = built(tmp_path, embeddings, settings("IVF16,Flat"))
    (sample,) = seen
    rows = {row.tobytes() for row in sample}
    queries = {row.tobytes() for row in stored(embeddings)[builder._queries]}
    assert len(sample) == ROWS - 256
    assert not rows & queries
    assert rows | queries == {row.tobytes() for row in stored(embeddings)}


def test_training_takes_a_sample_where_there_is_more_than_enough(
    tmp_path: Path, embeddings: EmbeddingSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    train = faiss.IndexIVFFlat.train
    monkeypatch.setattr("indexing.plan.training_size", lambda index: 500)
    monkeypatch.setattr(faiss.IndexIVFFlat, "train", lambda self, x: (sizes.append(len(x)), train(self, x))[1])
    built(tmp_path, embeddings, settings("IVF8,Flat"))
    assert sizes == [500]


def test_shards_hold_all_vectors_in_their_order(tmp_path: Path, embeddings: EmbeddingSet) -> None:
    shards, _ = built(tmp_path, embeddings, settings("Flat"))
    assert [entry.rows for entry in shards.entries] == [1200, 1200, 600]
    held = np.concatenate([index.reconstruct_n(0, index.ntotal) for index in opened(tmp_path, shards)])
    assert np.array_equal(held, stored(embeddings))


@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "HNSW8"])
def test_shards_and_recall_are_the_same_in_every_build(tmp_path: Path, embeddings: EmbeddingSet, factory: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, _ = built(tmp_path / "a", embeddings, settings(factory))
    second, _ = built(tmp_path / "b", embeddings, settings(factory))
    assert first == second
    assert same_contents(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("lost", [{"shard-00002.faiss"}, {"shard-00001.faiss", "shard-00002.faiss"}, {"all"}])
def test_resumed_shards_are_those_of_an_uninterrupted_run(
    tmp_path: Path, embeddings: EmbeddingSet, lost: set[str]
) -> None:
    first, _ = built(tmp_path, embeddings, settings("IVF16,Flat"))
    before = contents(tmp_path)
    for path in (tmp_path / "shards").iterdir():
        if path.name in lost or (lost == {"all"} and path.name != "trained.faiss"):
            path.unlink()
    recorder = Recorder.new()
    second, _ = built(tmp_path, embeddings, settings("IVF16,Flat"), recorder)
    assert second == first
    assert contents(tmp_path) == before
    assert "train" not in [stage for stage, _, _ in recorder.stages]
    assert recorder.advanced["shard"] == ROWS


def test_sharded_search_finds_what_one_shard_finds(tmp_path: Path, embeddings: EmbeddingSet) -> None:
    for name, size in (("one", ROWS), ("many", 170)):
        (tmp_path / name).mkdir()
        built(tmp_path / name, embeddings, settings("Flat", shard_size=size))
    queries = unit_noise(9, 40, DIM)
    hits = []
    for name in ("one", "many"):
        indexes = [faiss.read_index(str(path)) for path in sorted((tmp_path / name / "shards").iterdir())]
        hits.append(Searcher(indexes, threads=2).search(queries, 12))
    assert np.array_equal(hits[0].ids, hits[1].ids)
    np.testing.assert_allclose(hits[0].scores, hits[1].scores, atol=1e-6)


def test_too_few_vectors_to_train_on_is_explained(tmp_path: Path) -> None:
    few = vector_set(tmp_path / "few", unit_noise(0, 40, DIM))
    with pytest.raises(BuildError, match=r"cannot train IVF64,Flat on 20 vectors; got Number of training points"):
        built(tmp_path, few, settings("IVF64,Flat"))


def test_an_index_that_takes_no_vectors_is_explained(tmp_path: Path, embeddings: EmbeddingSet) -> None:
    with pytest.raises(BuildError, match=r"cannot make shard-00000.faiss of IDMap,Flat; got .*add_with_ids"):
        built(tmp_path, embeddings, settings("IDMap,Flat"))
    assert list((tmp_path / "shards").iterdir()) == []


@pytest.mark.parametrize("factory", ["Flat", "HNSW8"])
def test_one_vector_makes_an_index(tmp_path: Path, factory: str) -> None:
    one = vector_set(tmp_path / "one", unit_noise(0, 1, DIM))
    shards, _ = built(tmp_path, one, settings(factory))
    assert [entry.rows for entry in shards.entries] == [1]
    assert shards.recall == {"recall@10": 1.0, "queries": 1}


@pytest.mark.parametrize("factory", ["Flat", "IVF4,Flat", "HNSW8"])
def test_a_file_that_lacks_its_last_bytes_is_never_there(tmp_path: Path, factory: str) -> None:
    """FAISS writes the last bytes when it closes the file, and tells nobody that they did not fit."""
    index = faiss.index_factory(8, factory, faiss.METRIC_INNER_PRODUCT)
    vectors = unit_noise(0, 300, 8)
    index.train(vectors)
    index.add(vectors)
    path = tmp_path / "shard.faiss"
    write_index(path, index)
    size = path.stat().st_size
    path.unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for missing in (1, 1000, size - 1, size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size - missing, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                write_index(path, index)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [*tmp_path.iterdir()] == []
