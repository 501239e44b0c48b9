"""Columns of images that come later, and of several indexes: one type, and no value that is another afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import CountingEncoder, contents, save_blotches, without_processes
from hypothesis import given
from hypothesis import strategies as st
from living import ONE, built, images, noise

from indexing.add import add_images
from indexing.columns import KnownColumns, common_schema, conformed, is_lossless
from indexing.compact import compact_index
from indexing.items import Columns
from indexing.merge import merge_indexes
from simat.embeddings import ImageRow, PartReader, write_part
from simat.errors import BuildError
from simat.manifest import FileEntry
from simat.opened import open_index

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from(["", "7", "07", "0.5", "true"]),
)


@pytest.fixture(autouse=True, scope="module")
def decoded_here() -> Iterator[None]:
    """Without decoder processes: those of the command line's tests are enough."""
    with without_processes():
        yield


def parts(folder: Path, *columns: pa.Array | None) -> PartReader:
    """A set of a part for each column ``x``; None for a part without one."""
    entries, first = [], 0
    for number, values in enumerate(columns):
        count, name = 1 if values is None else len(values), f"part-{number:06}.parquet"
        rows = [ImageRow(f"{first + i}.png", "", 4, 3) for i in range(count)]
        more = None if values is None else pa.table({"x": values})
        write_part(folder / name, first, rows, noise(count, seed=number), more)
        entries.append(FileEntry.of(folder, name, count))
        first += count
    return PartReader(folder, entries)


def column(values: list[Any]) -> pa.Table:
    """A column ``x`` as a source that has these values gives it."""
    columns = Columns()
    for value in values:
        columns.add({} if value is None else {"x": value})
    return columns.table([{"x": value} for value in values])


@pytest.mark.parametrize(
    ("known", "new", "held"),
    [
        ([1], [3.0, None], [3, None]),
        ([1], ["2001", "-5"], [2001, -5]),
        ([1, 2**60], [2**61], [2**61]),
        ([0.5], [3, 2**53], [3.0, 2.0**53]),
        ([0.5], ["0.25"], [0.25]),
        ([True], ["false"], [False]),
        (["a"], [7, 8], ["7", "8"]),
        (["a"], [True], ["true"]),
        (["a"], [0.1], ["0.1"]),
        ([0.5], [float("nan"), 1.0], [float("nan"), 1.0]),
    ],
)
def test_new_values_take_on_the_type_that_the_index_has(tmp_path: Path, known: list, new: list, held: list) -> None:
    table = KnownColumns(parts(tmp_path, column(known)["x"].combine_chunks())).fitted(column(new))
    assert table["x"].type == column(known)["x"].type
    np.testing.assert_equal(table["x"].to_pylist(), held)


@pytest.mark.parametrize(
    ("known", "new", "got"),
    [
        ([1], [2.0, 2.5], "2.5"),
        ([1], ["1", "many"], "'many'"),
        ([1], ["01"], "'01'"),
        ([1], [float("nan")], "nan"),
        ([0.5], [1, 2**53 + 1], str(2**53 + 1)),
        ([True], ["yes"], "'yes'"),
        ([True], [2], "2"),
    ],
)
def test_new_values_that_would_be_others_are_refused(tmp_path: Path, known: list, new: list, got: str) -> None:
    columns = KnownColumns(parts(tmp_path, column(known)["x"].combine_chunks()))
    kind = {int: "int64", float: "double", bool: "bool"}[type(known[0])]
    with pytest.raises(
        BuildError, match=rf"the column 'x' of this index holds values of type {kind}; got {got}; make "
    ):
        columns.fitted(column(new))


def test_a_column_that_says_nothing_yet_takes_any_type(tmp_path: Path) -> None:
    columns = KnownColumns(parts(tmp_path, None, pa.nulls(2)))
    assert columns.fitted(column([7]))["x"].type == pa.int64()


@given(st.lists(VALUES, min_size=1, max_size=5), st.lists(VALUES, min_size=1, max_size=5))
def test_whatever_comes_is_the_same_afterwards_or_refused(
    tmp_path_factory: pytest.TempPathFactory, known: list, new: list
) -> None:
    before, after = column(known), column(new)
    columns = KnownColumns(
        parts(tmp_path_factory.mktemp("set"), *before.columns[0].chunks if before.num_columns else [None])
    )
    try:
        fitted = columns.fitted(after)
    except BuildError:
        return
    if after.num_columns:
        np.testing.assert_equal(fitted["x"].cast(after["x"].type).to_pylist(), after["x"].to_pylist())


@pytest.mark.parametrize(
    ("columns", "kind", "values"),
    [
        ([pa.array([2**60 + 1]), pa.array([0.5])], pa.string(), [str(2**60 + 1), "0.5"]),
        ([pa.array([2**53]), pa.array([0.5]), None], pa.float64(), [2.0**53, 0.5, None]),
        ([pa.nulls(1), pa.array([7])], pa.int64(), [None, 7]),
        ([pa.array([7], pa.int8()), pa.array([2**40])], pa.int64(), [7, 2**40]),
        ([pa.array([True]), pa.array([7])], pa.string(), ["true", "7"]),
        ([pa.array([["a"]]), pa.array([7])], pa.string(), ["['a']", "7"]),
        ([pa.array([b"\xff"]), pa.array([0.5])], pa.string(), ["b'\\xff'", "0.5"]),
    ],
)
def test_columns_of_several_types_become_one_that_holds_all(
    tmp_path: Path, columns: list, kind: pa.DataType, values: list
) -> None:
    reader = parts(tmp_path, *columns)
    schema = common_schema([reader])
    table = pa.concat_tables(conformed(one, schema) for one in reader.tables())
    assert schema.field("x").type == kind
    assert schema.names[-1] == "embedding"
    assert table["x"].to_pylist() == values


@given(st.lists(st.floats(), max_size=4))
def test_every_float_is_the_same_as_itself(values: list[float]) -> None:
    assert is_lossless(pa.chunked_array([pa.array(values, pa.float64())]), pa.float64())


def described(folder: Path, first: int, years: list[Any]) -> Path:
    """Pictures with a year beside each."""
    save_blotches(folder, len(years), first=first)
    for number, year in enumerate(years, first):
        (folder / f"{number:04}.json").write_text(json.dumps({"year": year}))
    return folder


def test_an_addition_of_words_for_numbers_is_filtered_as_numbers(tmp_path: Path) -> None:
    index = built(tmp_path / "index", described(tmp_path / "photos", 0, [1999, 2001, 2003]))
    add_images(index, str(described(tmp_path / "more", 50, ["2002", None, "90"])), ONE, encoder=CountingEncoder())
    opened = open_index(index)
    assert opened.selected("year > 2000").ids().tolist() == [1, 2, 3]
    last = opened.embeddings.manifest.parts[-1]
    assert pq.read_table(opened.embeddings.folder / last.name)["year"].to_pylist() == [2002, None, 90]
    assert opened.embeddings.part_schema(1).field("year").type == pa.int64()


def test_an_addition_of_other_values_is_refused_before_any_work_and_can_be_merged(tmp_path: Path) -> None:
    index = built(tmp_path / "index", described(tmp_path / "photos", 0, [1999, 2001]))
    before, encoder = contents(index), CountingEncoder()
    more = described(tmp_path / "more", 50, [2002, "unknown"])
    with pytest.raises(
        BuildError, match=r"the column 'year' of this index holds values of type int64; got 'unknown'; .*merge"
    ):
        add_images(index, str(more), ONE, encoder=encoder)
    assert encoder.encoded == 0
    assert {**contents(index), ".lock": b""} == {**before, ".lock": b""}
    assert compact_index(index, ONE).reasons == ()
    merge_indexes([index, built(tmp_path / "other", more)], tmp_path / "out", ONE)
    assert len(images(tmp_path / "out")) == 4
    assert open_index(tmp_path / "out").selected("year in ('1999', 'unknown')").count == 2
