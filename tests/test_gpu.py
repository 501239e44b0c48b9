"""GPUs: what is planned for them, on any machine; what they answer, where there is one."""

from __future__ import annotations

from types import SimpleNamespace

import faiss
import numpy as np
import pytest
from helpers import unit_noise
from hypothesis import assume, given
from hypothesis import strategies as st

from simat import gpu
from simat.errors import StorageError
from simat.gpu import SCRATCH, USABLE, gpu_bytes, gpu_count, on_gpus, parse_devices, place
from simat.searcher import Searcher

GIB = 2**30
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


@given(st.integers(1, 8), st.integers(1, 64))
def test_what_fits_nowhere_is_refused(count: int, shards: int) -> None:
    assume(shards * 10 > 8 * count)
    with pytest.raises(StorageError, match=rf"does not fit into the memory of the GPUs; got {shards * 10}.0 GiB for"):
        place([10 * GIB] * shards, dict.fromkeys(range(count), 10 * GIB))


@pytest.mark.parametrize(
    ("factory", "size"),
    [
        ("Flat", 300 * 32 * 2),
        ("IVF4,Flat", 300 * (32 * 2 + 8) + 4 * 32 * 2),
        ("IVF4,SQ8", 300 * (32 + 8) + 4 * 32 * 2),
        ("IVF4,SQfp16", 300 * (64 + 8) + 4 * 32 * 2),
    ],
)
def test_bytes_on_a_gpu_are_those_of_float16_and_codes(factory: str, size: int) -> None:
    assert gpu_bytes(made(factory)) == size


@pytest.mark.parametrize(("factory", "remedy"), [("HNSW8", r"simat\[gpu-cuvs\]"), ("IVF4,RaBitQ", "leave out --gpus")])
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
@pytest.mark.parametrize("factory", ["Flat", "IVF16,Flat", "IVF16,SQ8", "IVF16,PQ8"])
def test_gpus_answer_as_the_cpu_does(factory: str) -> None:
    index, queries, search = made(factory, 5000), unit_noise(1, 50, 32), {"nprobe": 16}
    wanted = Searcher([index], search).search(queries, 10)
    found = Searcher(on_gpus([index], search, parse_devices("all"))).search(queries, 10)
    assert np.mean(found.ids == wanted.ids) > 0.95
    np.testing.assert_allclose(found.scores, wanted.scores, atol=2e-3)
