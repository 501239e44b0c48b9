"""Which index for how many vectors: laws of the choice, and FAISS's word on every string."""

from __future__ import annotations

import re

import faiss
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from indexing.factory import EXACT_BYTES, ID_BYTES, choose_factory, code_bytes, empty_index, search_knob, training_size
from simat.errors import BuildError

ROWS, DIMS = st.integers(1, 10**9), st.sampled_from([8, 49, 384, 512, 768])
MEMORY = st.integers(2**10, 2**40)


def bytes_of(factory: str, dim: int) -> int:
    codes = factory.split(",")[1]
    sizes = {"Flat": 4 * dim, "SQfp16": 2 * dim, "SQ8": dim, "RaBitQfs": (dim + 7) // 8 + 8}
    return sizes.get(codes) or (int(codes.removeprefix("PQ").removesuffix("x4fs")) + 1) // 2


@given(rows=ROWS, dim=DIMS, memory=MEMORY)
def test_choice_is_exact_just_while_a_scan_is_fast_and_fits(rows: int, dim: int, memory: int) -> None:
    small = rows * dim * 4 <= min(EXACT_BYTES, memory)
    assert (choose_factory(rows, dim, 10**6, memory) == "Flat") == small


@given(rows=ROWS, dim=DIMS, memory=MEMORY)
def test_choice_keeps_the_codes_within_the_memory_or_takes_the_smallest(rows: int, dim: int, memory: int) -> None:
    factory = choose_factory(rows, dim, 10**6, memory)
    assume(factory != "Flat")
    size = bytes_of(factory, dim)
    assert rows * (size + ID_BYTES) <= memory or size == 1


@given(rows=ROWS, dim=DIMS, memory=MEMORY, more=st.integers(1, 64))
def test_choice_never_gets_coarser_with_more_memory(rows: int, dim: int, memory: int, more: int) -> None:
    less, greater = (choose_factory(rows, dim, 10**6, m) for m in (memory, memory * more))
    if "Flat" not in (less, greater):
        assert bytes_of(less, dim) <= bytes_of(greater, dim)
    else:
        assert greater == "Flat" or less != "Flat"


@given(rows=st.integers(10**6, 10**9), shard_size=st.integers(1000, 10**7))
def test_choice_has_about_four_root_n_lists_per_shard(rows: int, shard_size: int) -> None:
    lists = int(re.match(r"IVF(\d+),", choose_factory(rows, 384, shard_size, 2**50))[1])
    assert lists & (lists - 1) == 0
    assert 0.7 <= lists / (4 * min(rows, shard_size) ** 0.5) <= 1.42


@given(rows=ROWS, dim=DIMS, memory=MEMORY)
def test_faiss_makes_every_choice(rows: int, dim: int, memory: int) -> None:
    index = empty_index(dim, choose_factory(rows, dim, 10**5, memory))
    assert (index.d, index.metric_type, index.ntotal) == (dim, faiss.METRIC_INNER_PRODUCT, 0)
    assert code_bytes(index) == bytes_of(f",{choose_factory(rows, dim, 10**5, memory).rpartition(',')[2]}", dim)


@pytest.mark.parametrize(
    ("rows", "memory", "expected"),
    [
        (174_762, 2**32, "Flat"),  # 384 × 4 × 174,762 is the last that fits 256 MiB
        (174_763, 2**32, "IVF2048,Flat"),
        (10**6, 2**32, "IVF4096,Flat"),
        (10**6, 10**9, "IVF4096,SQfp16"),
        (10**7, 2**32, "IVF4096,SQ8"),
        (5 * 10**7, 2**32, "IVF4096,RaBitQfs"),
        (10**8, 2**32, "IVF4096,PQ64x4fs"),
    ],
)
def test_choice_by_example(rows: int, memory: int, expected: str) -> None:
    assert choose_factory(rows, 384, 10**6, memory) == expected


@pytest.mark.parametrize("factory", ["Nope", "", "IVF,Flat", "PQ7", "IVF16,PQ5"])
def test_empty_index_says_what_faiss_does_not_understand(factory: str) -> None:
    with pytest.raises(BuildError, match=rf"cannot make a 384-d index of this factory string; got {factory!r}; try"):
        empty_index(384, factory)


@pytest.mark.parametrize("factory", ["PQ4", "IVF4,PQ4", "PCA8,IVF4,PQ4", "IVF4,PQ4,RFlat", "HNSW8_PQ4"])
def test_empty_index_is_trained_without_annealing(factory: str) -> None:
    index = whole = empty_index(16, factory)
    while not hasattr(index, "do_polysemous_training"):
        below = [getattr(index, name) for name in ("index", "base_index", "storage") if hasattr(index, name)]
        index = faiss.downcast_index(below[0])
    assert whole.ntotal == 0 and not index.do_polysemous_training


@pytest.mark.parametrize(
    ("factory", "size"),
    [("Flat", 0), ("HNSW16", 0), ("IVF16,Flat", 65_536), ("IVF2048,Flat", 131_072), ("SQ8", 65_536), ("SQfp16", 0)],
)
def test_training_size_is_what_the_lists_need_and_none_for_the_untrained(factory: str, size: int) -> None:
    assert training_size(empty_index(8, factory)) == size


@pytest.mark.parametrize(
    ("factory", "knob"),
    [
        ("Flat", None),
        ("SQ8", None),
        ("IVF1,Flat", ("nprobe", [1])),
        ("IVF16,Flat", ("nprobe", [1, 2, 4, 8, 16])),
        ("IVF20,SQ8", ("nprobe", [1, 2, 4, 8, 16, 20])),
        ("PCA4,IVF4,Flat", ("nprobe", [1, 2, 4])),
        ("HNSW16", ("efSearch", [16, 32, 64, 128, 256, 512, 1024, 2048, 4096])),
        ("PCA4,HNSW16", ("efSearch", [16, 32, 64, 128, 256, 512, 1024, 2048, 4096])),
    ],
)
def test_search_knob_runs_from_fast_to_exact(factory: str, knob: tuple[str, list[int]] | None) -> None:
    found = search_knob(empty_index(8, factory))
    assert (found and (found[0], list(found[1]))) == knob
