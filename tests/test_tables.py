"""Rows of Parquet and Arrow files: every one, in any order, with little memory."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed import IMAGE, not_utf8, pack_arrow, pack_parquet

from simat.errors import ImageError, StorageError
from simat.tables import Table, image_column

COUNT = 23
PACK = {
    "parquet": lambda path, columns: pack_parquet(path.with_suffix(".parquet"), columns),
    "stream": lambda path, columns: pack_arrow(path.with_suffix(".arrow"), columns),
    "file": lambda path, columns: pack_arrow(path.with_suffix(".arrow"), columns, stream=False),
}


@pytest.fixture(scope="module", params=[*PACK])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    columns = {"number": range(COUNT), "blob": pa.array([bytes([i]) * 3 for i in range(COUNT)])}
    return PACK[request.param](tmp_path_factory.mktemp("tables") / "a", columns)


@settings(max_examples=25)
@given(rows=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=30))
def test_value_gives_every_row_in_any_order(packed: Path, rows: list[int]) -> None:
    table = Table(packed)
    assert [table.value(row, "blob") for row in rows] == [bytes([row]) * 3 for row in rows]
    assert [table.value(row, "number") for row in rows] == rows


def test_batches_give_all_rows_of_some_columns_in_order(packed: Path) -> None:
    batches = [*Table(packed).batches(["number"])]
    assert [name for batch in batches for name in batch.schema.names] == ["number"] * len(batches)
    assert [value for batch in batches for value in batch.column(0).to_pylist()] == [*range(COUNT)]
    assert Table(packed).rows == COUNT


@pytest.mark.parametrize(
    ("row", "column", "message"), [(COUNT, "blob", "no such row; got 23"), (0, "x", "no column 'x'")]
)
def test_value_says_what_is_not_there(packed: Path, row: int, column: str, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        Table(packed).value(row, column)


def test_reading_forwards_reads_each_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    read: list[int] = []
    iter_batches = pq.ParquetFile.iter_batches

    def counted(file: pq.ParquetFile, *arguments: object, row_groups: list[int], **options: object) -> object:
        read.extend(row_groups)
        return iter_batches(file, *arguments, row_groups=row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    table = Table(pack_parquet(tmp_path / "a.parquet", {"number": range(40)}, row_group=4))
    assert [table.value(row, "number") for row in (0, 1, 3, 5, 6, 22, 23, 24)] == [0, 1, 3, 5, 6, 22, 23, 24]
    assert read == [0, 1, 5, 6]


@pytest.mark.parametrize("kind", [*PACK])
def test_a_file_that_is_cut_short_is_one_line(tmp_path: Path, kind: str) -> None:
    path = PACK[kind](tmp_path / "a", {"blob": [b"x" * 500] * 50})
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(StorageError, match=r"cannot read the table; got a\.(parquet|arrow): "):
        sum(batch.num_rows for batch in Table(path).batches(["blob"]))


def test_a_damaged_row_group_spoils_no_other(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    blobs = pa.table({"blob": [bytes([i]) * 5000 for i in range(40)]})
    path = tmp_path / "a.parquet"
    pq.write_table(blobs, path, row_group_size=10, use_dictionary=False, compression="none")
    data = bytearray(path.read_bytes())
    page = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data[page : page + 20] = b"\xff" * 20
    path.write_bytes(data)
    table = Table(path)
    for row in (0, 9, 10, 11, 12, 20, 39, 10, 5):
        if row // 10 == 1:
            with pytest.raises(StorageError, match="cannot read the table"):
                table.value(row, "blob")
        else:
            assert table.value(row, "blob") == bytes([row]) * 5000


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_what_is_no_table_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="cannot read the table"):
        Table(tmp_path / name)
    (tmp_path / name).write_bytes(b"hello, world" * 100)
    with pytest.raises(StorageError, match="cannot read the table"):
        Table(tmp_path / name)


def test_offsets_that_lead_out_of_a_batch_are_found(tmp_path: Path) -> None:
    path = pack_arrow(tmp_path / "a.arrow", {"blob": pa.array([b"abc", b"def"])}, stream=True)
    data = path.read_bytes()
    offsets = np.array([0, 3, 6], np.int32).tobytes()
    assert data.count(offsets) == 1
    path.write_bytes(data.replace(offsets, np.array([0, 3, 2**30], np.int32).tobytes()))
    with pytest.raises(StorageError, match="cannot read the table"):
        Table(path).value(1, "blob")


@pytest.mark.parametrize("kind", [*PACK])
def test_a_process_of_bounded_memory_neither_maps_nor_holds_a_file(tmp_path: Path, kind: str) -> None:
    """As a decoder does, whose address space is bounded."""
    noise = np.random.default_rng(0).bytes(2**20)
    path = PACK[kind](tmp_path / "a", {"blob": pa.array([noise[i:] + noise[:i] for i in range(100)])})
    program = (
        "import resource, sys, pyarrow.parquet\n"
        "from pathlib import Path\n"
        "from simat.tables import Table\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "table = Table(Path(sys.argv[1]))\n"
        "print([len(table.value(row, 'blob')) for row in (0, 1, 50, 99)])\n"
        "print(sys.argv[1] in Path('/proc/self/maps').read_text())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    lengths, mapped, grown = ended.stdout.splitlines()
    assert (lengths, mapped) == (str([2**20] * 4), "False"), ended.stderr
    assert int(grown) < 70 * 2**10 < path.stat().st_size / 2**10
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("id", pa.int64()), ("photo", IMAGE), ("path", pa.string())], "photo"),
        ([("left", IMAGE), ("image", IMAGE)], "image"),
        ([("left", IMAGE), ("right", IMAGE)], None),
        ([("thumb", pa.binary()), ("path", pa.string())], "thumb"),
        ([("mask", pa.binary()), ("jpg", pa.large_binary())], "jpg"),
        ([("caption", pa.string()), ("image_path", pa.string())], "image_path"),
        ([("caption", pa.string())], None),
        ([("image", pa.list_(pa.float32())), ("n", pa.int64())], None),
        ([("image", pa.struct([("bytes", pa.int64())]))], None),
    ],
)
def test_image_column_goes_by_type_and_then_by_name(
    fields: list[tuple[str, pa.DataType]], expected: str | None
) -> None:
    assert image_column(pa.schema(fields)) == expected


@pytest.mark.parametrize("kind", [*PACK])
def test_a_column_is_known_by_its_whole_name(tmp_path: Path, kind: str) -> None:
    columns = {"image.size": [7, 8], "image": pa.array([b"one", b"two"]), "image.format": ["png", "png"]}
    table = Table(PACK[kind](tmp_path / "a", columns))
    assert [table.value(row, "image") for row in (1, 0)] == [b"two", b"one"]


@pytest.mark.parametrize("kind", [*PACK])
def test_two_columns_of_one_name_are_not_chosen_among(tmp_path: Path, kind: str) -> None:
    def pack(path: Path) -> Path:
        twice = pa.table([pa.array([b"one"]), pa.array([b"two"])], names=["image", "image"])
        return {"parquet": write_parquet, "stream": write_stream, "file": write_file}[kind](path, twice)

    with pytest.raises(ImageError, match="several columns 'image'"):
        Table(pack(tmp_path / "a")).value(0, "image")


def write_parquet(path: Path, table: pa.Table) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(table, path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def write_stream(path: Path, table: pa.Table, new: Any = pa.ipc.new_stream) -> Path:
    with new(str(path.with_suffix(".arrow")), table.schema) as writer:
        writer.write_table(table)
    return path.with_suffix(".arrow")


def write_file(path: Path, table: pa.Table) -> Path:
    return write_stream(path, table, pa.ipc.new_file)


def test_text_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    table = Table(pack_parquet(tmp_path / "a.parquet", {"path": not_utf8("a.png", b"\xff\xfe.png")}))
    assert table.value(0, "path") == "a.png"
    with pytest.raises(StorageError, match=r"cannot read the table; got a\.parquet: 'utf-8' codec"):
        table.value(1, "path")
