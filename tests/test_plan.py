"""Plans of builds: laws of memory, sample and shards; settings of a search from fast to exact."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from building import Recorder, vector_set
from helpers import unit_noise
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing import plan as module
from indexing.config import BuildConfig
from indexing.factory import code_bytes, empty_index, is_compressed
from indexing.plan import BASE, duration, lists, plan_build, products_per_second
from indexing.sampling import held_back
from indexing.settings import CANDIDATES, first_to_reach, search_settings
from indexing.shards import ShardBuilder
from simat.errors import BuildError

FACTORIES = st.sampled_from(["Flat", "IVF64,Flat", "IVF256,SQ8", "IVF256,PQ16x4fs", "HNSW16", "IVF64,RaBitQ"])
GIB = 2**30


@settings(max_examples=30)
@given(FACTORIES, st.integers(1, 10**8), st.integers(1000, 10**8), st.integers(GIB // 2, 64 * GIB))
def test_plan_stays_within_its_memory(factory: str, rows: int, shard_size: int, memory: int) -> None:
    plan = plan_build(rows, empty_index(64, factory), shard_size, memory, 2)
    assert BASE <= plan.memory <= memory
    assert 1 <= plan.shard_rows <= min(rows, shard_size)
    assert plan.disk >= rows
    assert all(seconds >= 0 for seconds in plan.seconds.values())


@settings(max_examples=20)
@given(st.integers(1, 10**8), st.integers(GIB // 2, 8 * GIB), st.integers(1, 8))
def test_more_memory_makes_no_smaller_shards_and_samples(rows: int, memory: int, more: int) -> None:
    index = empty_index(128, "IVF4096,PQ64x4fs")
    less, greater = (plan_build(rows, index, 10**7, memory * times, 2) for times in (1, more))
    assert less.shard_rows <= greater.shard_rows
    assert less.sample <= greater.sample
    assert greater.sample < rows or rows == 1


def test_plan_cuts_shards_that_would_not_fit() -> None:
    index = empty_index(512, "Flat")
    assert plan_build(10**6, index, 10**6, 8 * GIB, 2).shard_rows == 10**6
    cut = plan_build(10**6, index, 10**6, 1 * GIB, 2)
    assert cut.shard_rows == int((GIB - BASE) / (2 * (2048 + 8)))
    assert plan_build(10**6, empty_index(512, "IVF64,Flat"), 10**6, 1 * GIB, 2).shard_rows > cut.shard_rows


def test_flat_shards_grow_within_their_plan() -> None:
    """FAISS doubles the one array of a flat index and moves it: right before, half of it is there twice."""
    script = """
import faiss, numpy as np, re
peak = lambda: 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
index, block, before = faiss.IndexFlatIP(128), np.ones((16_384, 128), np.float32), peak()
for _ in range(34):  # just more than a power of two
    index.add(block)
print(peak() - before, index.ntotal)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    peak, rows = map(int, ran.stdout.split())
    planned = plan_build(rows, empty_index(128, "Flat"), rows, 10**12, 2).memory - BASE
    assert 1.5 * 520 * rows < peak <= planned


def test_plan_of_what_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(BuildError, match=r"not fit into its memory; got 300.0 MiB, at least .* needed; raise --bu"):
        plan_build(10**6, empty_index(512, "IVF4096,Flat"), 10**6, 300 * 2**20, 2)


def test_twice_the_rows_take_twice_the_time_to_add() -> None:
    index = empty_index(64, "IVF256,Flat")
    one, two = (plan_build(rows, index, 10**9, 10**12, 2).seconds["add"] for rows in (10**6, 2 * 10**6))
    assert two == pytest.approx(2 * one)


@pytest.mark.parametrize(("seconds", "text"), [(0.01, "1 s"), (89.0, "89 s"), (600.0, "10 min"), (9000.0, "2.5 h")])
def test_durations_are_told_in_their_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_products_per_second_are_those_of_a_processor() -> None:
    assert 1e8 < products_per_second() < 1e13


@pytest.mark.parametrize(
    ("factory", "size", "compressed"),
    [
        ("Flat", 128, None),
        ("IVF4,Flat", 128, None),
        ("SQ8", 32, False),
        ("IVF4,SQfp16", 64, False),
        ("IVF4,PQ8", 8, True),
        ("IVF4,PQ8x4fs", 4, True),
        ("IVF4,RaBitQ", 12, True),
        ("PCA16,IVF4,SQ8", 16, False),
        ("HNSW8", 128 + 64, None),
        ("IVF4,PQ8,RFlat", 8 + 128, None),
    ],
)
def test_code_bytes_and_what_they_keep(factory: str, size: int, compressed: bool | None) -> None:
    index = empty_index(32, factory)
    assert code_bytes(index) == size
    assert is_compressed(index) is compressed


def test_lists_of_an_index() -> None:
    assert lists(empty_index(32, "PCA16,IVF4,SQ8")) == 4
    assert lists(empty_index(32, "HNSW8")) == 0


def test_plan_is_told_before_the_work_where_there_is_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.shards.TOLD", 500)
    embeddings = vector_set(tmp_path / "set", unit_noise(0, 500, 16))
    (tmp_path / "shards").mkdir()
    recorder = Recorder.new()
    config = BuildConfig("/nowhere", factory="IVF4,Flat", shard_size=200)
    ShardBuilder(tmp_path / "shards", embeddings, config, 1).run(recorder)
    (note,) = recorder.notes
    assert note.startswith("500 × 16 vectors in 3 shard(s) of IVF4,Flat: about 35.2 KiB on disk, 256.")
    assert note.endswith("train 1 s, add 1 s, measure 1 s")


def test_a_build_within_little_memory_makes_more_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALLEST", 100)
    embeddings = vector_set(tmp_path / "set", unit_noise(0, 1000, 16))
    (tmp_path / "shards").mkdir()
    config = BuildConfig("/nowhere", factory="Flat", build_memory=BASE + 2 * 72 * 300 + 1)
    built = ShardBuilder(tmp_path / "shards", embeddings, config, 1).run(Recorder.new())
    assert [entry.rows for entry in built.entries] == [300, 300, 300, 100]


# which rows are trained on


@given(st.integers(1, 3000), st.integers(1, 300), st.integers(0, 3000), st.integers(0, 5), st.booleans())
def test_rows_to_measure_and_to_train_on_are_different_ones(
    rows: int, queries: int, training: int, seed: int, many: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexing.sampling.PERMUTED", 100 if many else 10**6)
        asked, trained = held_back(rows, queries, training, seed)
        again = held_back(rows, queries, training, seed)
    assert len(asked) == min(queries, max(1, rows // 2))
    assert len(trained) == min(training, rows - len(asked))
    both = np.concatenate([asked, trained])
    assert len(np.unique(both)) == len(both)
    assert both.size == 0 or (both.min() >= 0 and both.max() < rows)
    assert (np.diff(asked) > 0).all() and (np.diff(trained) > 0).all()
    assert np.array_equal(again[0], asked) and np.array_equal(again[1], trained)


def test_a_billion_rows_are_sampled_without_listing_them() -> None:
    asked, trained = held_back(10**12, 256, 100_000, 0)
    assert (len(asked), len(trained)) == (256, 100_000)
    assert trained.max() > 9 * 10**11 and trained.min() < 10**11


# settings of a search


def test_settings_rise_from_fast_to_exact() -> None:
    assert search_settings(empty_index(16, "Flat")) == [[{}]]
    assert search_settings(empty_index(16, "IVF4,Flat")) == [[{"nprobe": 1}, {"nprobe": 2}, {"nprobe": 4}]]
    scalar = search_settings(empty_index(16, "IVF2,SQ8"))
    assert scalar[0] == [{"nprobe": 1}, {"nprobe": 2}]
    assert scalar[1] == [{"nprobe": 1, "rerank": 8}, {"nprobe": 2, "rerank": 8}]
    assert search_settings(empty_index(16, "IVF2,PQ4x4fs")) == scalar[1:]
    assert [ladder[0] for ladder in search_settings(empty_index(16, "PQ4x4fs"))] == [{"rerank": r} for r in CANDIDATES]


LADDERS = [[{"nprobe": n} for n in (1, 2, 4, 8)], [{"nprobe": n, "rerank": 8} for n in (1, 2, 4, 8)]]


def test_the_first_setting_that_reaches_the_target_is_taken() -> None:
    recalls = {1: 0.5, 2: 0.8, 4: 0.9, 8: 0.96}
    asked: list[dict[str, int]] = []

    def recall(search: dict[str, int]) -> float:
        asked.append(search)
        return recalls[search["nprobe"]]

    assert first_to_reach(0.85, LADDERS, recall) == {"nprobe": 4}
    assert asked == LADDERS[0][:3]


def test_a_knob_that_brings_no_more_is_left_for_more_candidates() -> None:
    def recall(search: dict[str, int]) -> float:
        return min(0.2 * search["nprobe"], 0.99 if "rerank" in search else 0.7)

    assert first_to_reach(0.95, LADDERS, recall) == {"nprobe": 8, "rerank": 8}
    assert first_to_reach(0.75, LADDERS, recall) == {"nprobe": 4, "rerank": 8}


def test_a_target_out_of_reach_takes_the_last_setting() -> None:
    assert first_to_reach(0.95, LADDERS, lambda search: 0.5) == {"nprobe": 8, "rerank": 8}
