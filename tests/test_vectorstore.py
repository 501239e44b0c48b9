"""Stored vectors by id: the same as pyarrow reads, from parts laid out plainly and from others."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import vector_set
from helpers import unit_noise
from hypothesis import given
from hypothesis import strategies as st

from simat.embeddings import EmbeddingSet
from simat.errors import QueryError, StorageError
from simat.manifest import FileEntry
from simat.mapping import MappedFile, expect, same_bytes
from simat.vectors import to_half
from simat.vectorstore import FEW, VectorStore, _Decoded, _Mapped

ROWS, DIM = 1500, 12  # in parts of 700: row groups of 256, 256, 188 and, in the last, 100


@pytest.fixture(scope="module")
def stored() -> np.ndarray:
    return to_half(unit_noise(0, ROWS, DIM))


@pytest.fixture(scope="module")
def embeddings(tmp_path_factory: pytest.TempPathFactory, stored: np.ndarray) -> EmbeddingSet:
    return vector_set(tmp_path_factory.mktemp("set"), stored.astype(np.float32), part_size=700)


def foreign(folder: Path, stored: np.ndarray, **options: object) -> VectorStore:
    """A part that another program might write."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), stored.shape[1])
    pq.write_table(pa.table({"embedding": column}), folder / "part.parquet", **options)
    return VectorStore(folder, [FileEntry.of(folder, "part.parquet", len(stored))], stored.shape[1])


def uneven(folder: Path, stored: np.ndarray, groups: list[int]) -> VectorStore:
    """A plain part with row groups of these sizes."""
    schema = pa.schema([("embedding", pa.list_(pa.float16(), DIM))])
    with pq.ParquetWriter(folder / "part.parquet", schema, compression="NONE", use_dictionary=False) as writer:
        for rows in np.split(stored, np.cumsum(groups)[:-1]):
            column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), DIM)
            writer.write_table(pa.table([column], schema=schema))
    return VectorStore(folder, [FileEntry.of(folder, "part.parquet", len(stored))], DIM)


@given(st.lists(st.integers(0, ROWS - 1), max_size=60))
def test_take_gives_the_stored_bytes_in_the_order_asked(
    embeddings: EmbeddingSet, stored: np.ndarray, ids: list[int]
) -> None:
    store = VectorStore.of(embeddings)
    assert (store.rows, store.dim) == (ROWS, DIM)
    taken = store.take(np.array(ids, np.int64))
    assert taken.dtype == np.float16
    np.testing.assert_array_equal(taken, stored[ids])


@given(st.integers(0, ROWS), st.integers(0, ROWS), st.integers(1, ROWS))
def test_blocks_run_through_the_rows(
    embeddings: EmbeddingSet, stored: np.ndarray, start: int, stop: int, size: int
) -> None:
    blocks = [*VectorStore.of(embeddings).blocks(start, stop, size)]
    assert all(len(block) == size for block in blocks[:-1])
    np.testing.assert_array_equal(np.concatenate([np.empty((0, DIM), np.float16), *blocks]), stored[start:stop])


def test_own_parts_are_read_where_they_lie(embeddings: EmbeddingSet) -> None:
    store = VectorStore.of(embeddings)
    assert all(isinstance(store._part(number), _Mapped) for number in range(3))


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "ZSTD"},
        {"compression": "NONE", "use_dictionary": True},
        {"compression": "NONE", "use_dictionary": False, "column_encoding": "BYTE_STREAM_SPLIT"},
        {"compression": "NONE", "use_dictionary": False, "data_page_size": 512},
    ],
)
def test_other_layouts_are_read_through_pyarrow(tmp_path: Path, stored: np.ndarray, options: dict[str, object]) -> None:
    store = foreign(tmp_path, stored, row_group_size=500, **options)
    assert isinstance(store._part(0), _Decoded)
    ids = np.array([1499, 0, 500, 499, 3])
    np.testing.assert_array_equal(store.take(ids), stored[ids])
    np.testing.assert_array_equal(np.concatenate([*store.blocks(7, 1300, 301)]), stored[7:1300])


def test_plain_parts_of_other_row_groups_are_mapped(tmp_path: Path, stored: np.ndarray) -> None:
    store = foreign(tmp_path, stored, row_group_size=123, compression="NONE", use_dictionary=False)
    assert isinstance(store._part(0), _Mapped)
    np.testing.assert_array_equal(store.take(np.arange(ROWS)), stored)


@given(groups=st.lists(st.integers(0, 40), min_size=1, max_size=5), data=st.data())
def test_row_groups_may_have_any_sizes_and_none(groups: list[int], data: st.DataObject) -> None:
    """A part of rejected files alone is one empty row group; a few rows and many are found by different code."""
    rows = sum(groups)
    stored = to_half(unit_noise(0, rows, DIM)) if rows else np.empty((0, DIM), np.float16)
    with TemporaryDirectory() as name:
        store = uneven(Path(name), stored, groups)
        store.hold()
    assert isinstance(store._part(0), _Mapped)
    ids = data.draw(st.lists(st.integers(0, rows - 1), max_size=2 * FEW + 2) if rows else st.just([]))
    np.testing.assert_array_equal(store.take(np.array(ids, np.int64)), stored[ids])
    start, stop = sorted(data.draw(st.tuples(st.integers(0, rows), st.integers(0, rows))))
    blocks = [np.empty((0, DIM), np.float16), *store.blocks(start, stop, 7)]
    np.testing.assert_array_equal(np.concatenate(blocks), stored[start:stop])


@pytest.mark.parametrize(("start", "stop"), [(0, ROWS), (0, 5), (130, 140), (900, 1500)])
def test_runs_of_rows_are_read_from_disk_at_once(
    tmp_path: Path, stored: np.ndarray, start: int, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All bytes that are read are announced; else every page would be waited for by itself."""
    part = foreign(tmp_path, stored, row_group_size=123, compression="NONE", use_dictionary=False)._part(0)
    told: list[tuple[str, int, int]] = []
    for name in ("expect", "release"):
        monkeypatch.setattr(MappedFile, name, lambda _, begin, end, name=name: told.append((name, begin, end)))
    np.testing.assert_array_equal(part.read(start, stop), stored[start:stop])
    (_, begin, end), *read = told
    assert [name for name, _, _ in told] == ["expect", *["release"] * len(read)]
    assert (begin, end) == (read[0][1], read[-1][2])
    assert sum(high - low for _, low, high in read) == (stop - start) * 2 * DIM


def test_take_refuses_ids_that_are_not_there(embeddings: EmbeddingSet) -> None:
    for id in (-1, ROWS):
        with pytest.raises(QueryError, match=f"no image with this id; got {id}; ids run from 0 to 1499"):
            VectorStore.of(embeddings).take(np.array([3, id]))


def test_a_part_that_is_gone_or_cut_is_a_changed_index(tmp_path: Path, stored: np.ndarray) -> None:
    store = VectorStore.of(vector_set(tmp_path, stored.astype(np.float32), part_size=700))
    store.take(np.array([0]))
    os.truncate(tmp_path / "part-000001.parquet", 1000)
    (tmp_path / "part-000002.parquet").unlink()
    for id in (700, 1400):
        with pytest.raises(StorageError, match=r"changed on disk; got part-00000\d\.parquet; open it again"):
            store.take(np.array([id]))
    (tmp_path / "part-000000.parquet").unlink()  # mapped already: it goes on being read
    np.testing.assert_array_equal(store.take(np.arange(700)), stored[:700])
    np.testing.assert_array_equal(np.concatenate([*store.blocks(0, 700, 64)]), stored[:700])


def test_take_is_shared_between_threads(embeddings: EmbeddingSet, stored: np.ndarray) -> None:
    store = VectorStore.of(embeddings)
    asked = [np.random.default_rng(seed).integers(0, ROWS, 50) for seed in range(40)]
    with ThreadPoolExecutor(6) as pool:
        for ids, taken in zip(asked, pool.map(store.take, asked), strict=True):
            np.testing.assert_array_equal(taken, stored[ids])


def test_mapped_file_holds_no_descriptor_and_ends_with_its_last_reader(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(range(256)) * 64)
    descriptors = open_files()
    file = MappedFile(path)
    view = file.bytes[1000:1010]
    assert open_files() == descriptors
    path.unlink()
    file.release(0, 16_384)
    del file
    gc.collect()
    assert view.tolist() == [(1000 + i) % 256 for i in range(10)]
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    assert is_mapped(path)
    del view
    gc.collect()
    assert not is_mapped(path)


def test_rows_are_read_from_disk_without_what_lies_around_them(embeddings: EmbeddingSet, stored: np.ndarray) -> None:
    """The system is told so (rr: random read): by default it would read 128 KiB for each of them."""
    store = VectorStore.of(embeddings)
    np.testing.assert_array_equal(store.take(np.array([3, 800])), stored[[3, 800]])
    parts = [embeddings.folder / entry.name for entry in embeddings.manifest.parts]
    assert ["rr" in flags(path) for path in parts[:2]] == [True, True]
    np.testing.assert_array_equal(np.concatenate([*store.blocks(0, ROWS)]), stored)


def test_mapped_file_takes_advice_on_any_range(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(256)) * 64)
    (tmp_path / "empty").touch()
    for name in ("x", "empty"):
        file = MappedFile(tmp_path / name)
        file.scatter()
        for start, stop in ((0, 0), (100, 90), (5, 4097), (0, 16_384)):
            file.expect(start, min(stop, len(file.bytes)))
            file.release(start, min(stop, len(file.bytes)))
        assert file.bytes.tobytes() == (tmp_path / name).read_bytes()


def test_mapped_values_are_compared_byte_by_byte(tmp_path: Path) -> None:
    values = np.arange(100_000, dtype=np.float32)
    assert same_bytes(values, values.copy())
    assert not same_bytes(values, values[:-1]) and not same_bytes(values[:-1], values)
    for place in (0, 99_999):
        other = values.copy()
        other[place] += 1
        assert not same_bytes(values, other)
    values.tofile(tmp_path / "x")
    file = MappedFile(tmp_path / "x")
    file.scatter()
    for some in (file.bytes, file.bytes[5:300_001], file.bytes[7:7], values):
        expect(some)
    assert same_bytes(file.bytes, values)


def test_mapped_file_outlives_python(tmp_path: Path) -> None:
    """A thread may be reading when the process ends: nothing is unmapped under it."""
    (tmp_path / "x").write_bytes(bytes(4096))
    script = """
import atexit, sys
from pathlib import Path
from simat.mapping import MappedFile
atexit.register(lambda: print(file.bytes.sum()))  # runs after what weakref would do
import weakref; weakref.finalize(Path, print, "ends")
file = MappedFile(Path(sys.argv[1]))
"""
    ran = subprocess.run([sys.executable, "-c", script, tmp_path / "x"], capture_output=True, text=True, check=True)
    assert ran.stdout == "ends\n0\n"


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def flags(path: Path) -> list[str]:
    """What the system knows of how a mapped file is used."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    next(line for line in lines if line.endswith(str(path)))
    return next(line for line in lines if line.startswith("VmFlags:")).split()[1:]


def is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_mapped_file_of_nothing_is_empty_and_a_missing_one_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert len(MappedFile(tmp_path / "x").bytes) == 0
    with pytest.raises(FileNotFoundError):
        MappedFile(tmp_path / "y")
