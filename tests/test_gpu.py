"""GPUs: what is planned for them and how they are used, played by the CPU; what they answer, where there is one."""

from __future__ import annotations

import inspect
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
from building import vector_set
from gpus import FakeFaiss, GpuClonerOptions, GpuIndexCagraConfig
from helpers import unit_noise
from hypothesis import assume, given
from hypothesis import strategies as st

from simat import blocks as blocks_module
from simat import gpu
from simat import searcher as searcher_module
from simat.errors import QueryError, StorageError
from simat.gpu import SCRATCH, USABLE, gpu_bytes, gpu_count, on_gpus, parse_devices, place
from simat.searcher import Searcher
from simat.selection import Selection
from simat.vectorstore import VectorStore

GIB = 2**30
pytestmark = pytest.mark.usefixtures("one_faiss_thread")
HAS_GPU = hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU and faiss-gpu")


def made(factory: str, rows: int = 300, dim: int = 32) -> faiss.Index:
    index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(unit_noise(0, rows, dim))
    index.add(unit_noise(0, rows, dim))
    return index


SIZES = st.lists(st.integers(1, 40 * GIB), min_size=1, max_size=12)


@given(SIZES, st.lists(st.integers(1, 80), min_size=1, max_size=8))
def test_every_shard_has_a_place_and_no_device_holds_more_than_it_has(sizes: list[int], gibs: list[int]) -> None:
    free = {device: gib * GIB for device, gib in enumerate(gibs)}
    try:
        placed = place(sizes, free)
    except StorageError:
        assert sum(sizes) > USABLE * min(free.values()) - SCRATCH  # at least they are not all on each
        return
    assert len(placed.devices) == len(sizes)
    for device, size in free.items():
        held = sum(s for s, devices in zip(sizes, placed.devices, strict=True) if device in devices)
        assert held <= USABLE * size - SCRATCH or not held
    assert all((set(devices) == set(free)) if placed.replicas else len(devices) == 1 for devices in placed.devices)


@given(st.lists(st.integers(1, GIB), min_size=1, max_size=6), st.integers(1, 8))
def test_small_indexes_are_on_every_device(sizes: list[int], count: int) -> None:
    assert place(sizes, dict.fromkeys(range(count), 24 * GIB)).replicas


@given(st.integers(2, 8))
def test_large_indexes_are_spread_evenly(count: int) -> None:
    placed = place([10 * GIB] * count, dict.fromkeys(range(count), 16 * GIB))
    assert not placed.replicas
    assert sorted(devices[0] for devices in placed.devices) == [*range(count)]


def test_a_device_without_room_is_left_alone() -> None:
    assert place([GIB, GIB], {0: 8 * GIB, 1: 0}).devices == ((0,), (0,))


@given(st.integers(1, 8), st.integers(1, 64))
def test_what_fits_nowhere_is_refused(count: int, shards: int) -> None:
    assume(shards * 10 > 8 * count)
    with pytest.raises(StorageError, match=rf"does not fit into the memory of the GPUs; got {shards * 10}.0 GiB for"):
        place([10 * GIB] * shards, dict.fromkeys(range(count), 10 * GIB))


@pytest.mark.parametrize(
    ("factory", "size"),
    [
        ("Flat", 300 * 32 * 2),
        ("PCA8,Flat", 300 * 8 * 2),
        ("IVF4,Flat", 364 * (32 * 4 + 8) + 4 * 32 * 4),  # FAISS keeps them in float32 whatever its options say
        ("IVF4,SQ8", 364 * (32 + 8) + 4 * 32 * 4),
        ("IVF4,SQfp16", 364 * (64 + 8) + 4 * 32 * 4),
        ("IVF4,PQ8np", 364 * (8 + 8) + 4 * 32 * 4),
    ],
)
def test_bytes_on_a_gpu_are_those_of_what_faiss_keeps_there(factory: str, size: int) -> None:
    assert gpu_bytes(made(factory)) == size


@pytest.mark.parametrize(
    ("factory", "remedy"),
    [
        ("HNSW8", r"simat\[gpu-cuvs\]"),
        ("IVF4,RaBitQ", "leave out --gpus"),
        ("IVF4,PQ8x4fs", "leave out --gpus"),
        ("IVF4,Flat,RFlat", "leave out --gpus"),
    ],
)
def test_kinds_that_no_gpu_searches_are_refused(factory: str, remedy: str) -> None:
    with pytest.raises(StorageError, match=rf"no GPU searches this kind of index; got Index\w+; .*{remedy}"):
        gpu_bytes(made(factory))


def pretend(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    fake = SimpleNamespace(StandardGpuResources=object, get_num_gpus=lambda: count)
    monkeypatch.setattr(gpu, "require_faiss", lambda: fake)


def test_devices_are_read_as_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_devices("") == ()  # without a look at what is installed
    pretend(monkeypatch, 3)
    assert parse_devices("all") == (0, 1, 2)
    assert parse_devices("2,0,2") == (2, 0)


@pytest.mark.parametrize("text", ["3", "-1", "0,x", "0,,1", "cuda"])
def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    pretend(monkeypatch, 3)
    with pytest.raises(StorageError, match=r"no such GPUs; got .*; give all, or numbers from 0 to 2"):
        parse_devices(text)


def test_a_machine_without_gpus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0)
    with pytest.raises(StorageError, match="faiss finds no GPU; leave out --gpus"):
        parse_devices("all")


@pytest.mark.skipif(hasattr(faiss, "StandardGpuResources"), reason="faiss-gpu is installed")
def test_faiss_for_cpus_says_what_to_install() -> None:
    with pytest.raises(StorageError, match=r"knows no GPUs; got faiss 1\..* for CPUs; pip uninstall faiss-cpu, then"):
        gpu_count()


@needs_gpu
@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "IVF16,SQ8", "IVF16,PQ8np"])
def test_gpus_answer_as_the_cpu_does(factory: str) -> None:
    index, queries, search = made(factory, 5000), unit_noise(1, 50, 32), {"nprobe": 16} if "IVF" in factory else {}
    wanted = Searcher([index], search).search(queries, 10)
    found = Searcher(on_gpus([index], search, parse_devices("all"))).search(queries, 10)
    assert np.mean(found.ids == wanted.ids) > 0.95
    np.testing.assert_allclose(found.scores, wanted.scores, atol=2e-3)


@needs_gpu
@pytest.mark.skipif(not hasattr(faiss, "GpuIndexCagra"), reason="needs faiss-gpu-cuvs")
@pytest.mark.parametrize("k", [10, 200])
def test_graphs_on_gpus_find_the_nearest(k: int) -> None:
    queries = unit_noise(1, 50, 32)
    wanted = Searcher([made("Flat", 5000)]).search(queries, k)
    found = Searcher(on_gpus([made("HNSW16", 5000)], {}, parse_devices("all"))).search(queries, k)
    assert np.mean([len({*a} & {*b}) / k for a, b in zip(found.ids.tolist(), wanted.ids.tolist(), strict=True)]) > 0.9
    np.testing.assert_allclose(found.scores[:, 0], wanted.scores[:, 0], atol=2e-3)


# how they are used


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> FakeFaiss:
    """Two GPUs, played by the CPU, with room for everything."""
    fake = FakeFaiss(2)
    monkeypatch.setattr(gpu, "require_faiss", lambda: fake)
    monkeypatch.setattr(gpu, "_free", lambda device: 24 * GIB)
    return fake


ROWS, DIM = 3000, 32
SEARCHED = ["Flat", "IVF16,Flat", "IVF16,SQ8", "IVF16,PQ8np", "PCA16,IVF16,SQ8"]


def shards(factory: str, count: int = 3) -> list[faiss.Index]:
    vectors = unit_noise(0, ROWS, DIM)
    index = faiss.index_factory(DIM, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    made = [faiss.clone_index(index) for _ in range(count)]
    for shard, part in zip(made, np.split(vectors, count), strict=True):
        shard.add(part)
    return made


@pytest.mark.parametrize("factory", SEARCHED)
@pytest.mark.parametrize("large", [False, True])
def test_shards_on_gpus_answer_as_on_the_cpu(
    played: FakeFaiss, monkeypatch: pytest.MonkeyPatch, factory: str, large: bool
) -> None:
    if large:  # so that each shard is on one GPU
        sizes = iter([4 * GIB] * 3)
        monkeypatch.setattr(gpu, "_free", lambda device: 12 * GIB)
        monkeypatch.setattr(gpu, "gpu_bytes", lambda shard: next(sizes))
    cpu, queries, search = shards(factory), unit_noise(1, 20, DIM), {"nprobe": 5}
    wanted = Searcher(cpu, search, 2).search(queries, 10)
    on_them = on_gpus(cpu, search if "IVF" in factory else {}, (0, 1))
    assert [shard.copies for shard in on_them] == [1 if large else 2] * 3
    assert all(options.useFloat16 and not options.use_cuvs for options in played.options)
    hits = Searcher(on_them, search, 2).search(queries, 10)
    np.testing.assert_array_equal(hits.ids, wanted.ids)
    np.testing.assert_allclose(hits.scores, wanted.scores, atol=1e-6)
    assert set(played.searches) == {0, 1}


def test_a_gpu_is_used_by_one_search_at_a_time(played: FakeFaiss) -> None:
    searcher = Searcher(on_gpus(shards("IVF16,Flat"), {"nprobe": 3}, (0, 1)), threads=6)
    queries = unit_noise(1, 40, DIM)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda i: searcher.search(queries[i : i + 1], 5).ids, range(40))]
    np.testing.assert_array_equal(np.concatenate(found), searcher.search(queries, 5).ids)
    assert min(played.searches.values()) > 20  # both helped


def test_queries_are_cut_for_the_copies_and_not_for_the_cores(played: FakeFaiss) -> None:
    searcher = Searcher(on_gpus(shards("Flat", 1), {}, (0, 1)), threads=16)
    searcher.search(unit_noise(1, 40, DIM), 5)
    assert sum(played.searches.values()) == 2


def test_graphs_are_searched_as_widely_as_they_must(played: FakeFaiss) -> None:
    cpu, queries = shards("HNSW16", 2), unit_noise(1, 4, DIM)
    exact = Searcher([made("Flat", ROWS)], threads=1).search(queries, 300)
    for search in ({}, {"efSearch": 500}):
        graphs = on_gpus(cpu, search, (0,))
        scores, rows = graphs[0].search(queries, 200)
        assert (rows[:, -2:] == -1).all() and (rows < ROWS // 2).all()
        hits = Searcher(graphs, threads=2).search(queries, 300)
        np.testing.assert_array_equal(hits.ids[:, :250], exact.ids[:, :250])
        assert np.isfinite(hits.scores).all() and scores.shape == (4, 200)
    assert graphs[0]._parameters(10).itopk_size == 500


@pytest.mark.parametrize("factory", ["IVF16,Flat", "Flat"])
def test_more_than_a_gpu_finds_is_refused_but_among_few_rows(
    played: FakeFaiss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str
) -> None:
    for module in (blocks_module, searcher_module):
        monkeypatch.setattr(module, "MAX_K", 64)
    store = VectorStore.of(vector_set(tmp_path, unit_noise(0, ROWS, DIM)))
    searcher = Searcher(on_gpus(shards(factory), {"nprobe": 16} if "IVF" in factory else {}, (0,)), {}, 2, None, store)
    queries = unit_noise(1, 2, DIM)
    assert (searcher.search(queries, 64).ids >= 0).all()
    with pytest.raises(QueryError, match=r"GPUs find at most 64 images; got 65; ask for fewer, or leave out --gpus"):
        searcher.search(queries, 65)
    among = Selection.of(np.arange(ROWS) < 500)
    assert (searcher.search(queries, 65, among).ids >= 0).all()


def test_rows_that_a_filter_passes_are_all_found_where_a_gpu_finds_too_few(
    played: FakeFaiss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("FEW", 5), ("MANY", 10)):
        monkeypatch.setattr(searcher_module, name, value)
    vectors = unit_noise(0, ROWS, DIM)
    store = VectorStore.of(vector_set(tmp_path, vectors))
    among = Selection.of(np.random.default_rng(2).random(ROWS) < 0.02)
    queries = unit_noise(1, 3, DIM)
    wanted = Searcher([made("Flat", ROWS)], threads=1).search(queries, 50, among)
    hits = Searcher(on_gpus(shards("IVF16,Flat"), {"nprobe": 1}, (0,)), threads=2, vectors=store).search(
        queries, 50, among
    )
    np.testing.assert_array_equal(hits.ids, wanted.ids)


def test_what_faiss_does_not_copy_is_one_line(played: FakeFaiss) -> None:
    with pytest.raises(StorageError, match=r"cannot copy the index to GPU 0; got .*not implemented on GPU\.; leave"):
        on_gpus([made("IVF4_HNSW8,Flat")], {}, (0,))
    with pytest.raises(StorageError, match=r"a GPU probes at most 2,048 lists; got 4096; .*index tune"):
        on_gpus([made("IVF4,Flat")], {"nprobe": 4096}, (0,))


def test_torch_without_gpus_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def mem_get_info(device: int) -> tuple[int, int]:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(mem_get_info=mem_get_info)))
    with pytest.raises(StorageError, match=r"torch does not reach this GPU; got Torch not comp.*; install torch for"):
        gpu._free(0)


@pytest.mark.skipif(not hasattr(faiss, "StandardGpuResources"), reason="needs faiss-gpu")
def test_the_gpus_that_are_played_take_what_faiss_takes() -> None:
    assert [*inspect.signature(faiss.index_cpu_to_gpu).parameters] == ["provider", "device", "index", "options"]
    assert [*inspect.signature(faiss.index_cpu_to_gpus_list).parameters] == ["index", "co", "gpus", "ngpu"]
    assert [*inspect.signature(faiss.GpuParameterSpace.set_index_parameter).parameters][1:] == ["index", "name", "val"]
    assert [*inspect.signature(faiss.StandardGpuResources.setTempMemory).parameters] == ["self", "size"]
    kinds = [(GpuClonerOptions, "GpuClonerOptions"), (GpuIndexCagraConfig, "GpuIndexCagraConfig")]
    for kind, name in kinds:
        if hasattr(faiss, name):
            assert all(hasattr(getattr(faiss, name)(), field) for field in kind.__slots__)
    with pytest.raises(RuntimeError, match="Invalid GPU device 99"):  # all that is asked for is understood
        faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 99, made("Flat"), faiss.GpuClonerOptions())
