"""Embedding sets: what is written is what is read, in any tool and over any boundary of parts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers import unit_noise
from hypothesis import given, settings
from hypothesis import strategies as st

from simat import embeddings
from simat.embeddings import (
    EmbeddingSet,
    ImageRow,
    PartReader,
    Rejected,
    join_path,
    read_rejected,
    split_path,
    write_part,
    write_rejected,
)
from simat.errors import QueryError, StorageError
from simat.manifest import EmbeddingManifest, FileEntry, write_manifest
from simat.types import EmbeddingSpace

DIM = 6
RAW = st.binary(min_size=1, max_size=12).filter(lambda raw: b"\0" not in raw)
PATHS = st.one_of(RAW.map(os.fsdecode), st.sampled_from(["a b/c\nd.jpg", "名前.png", "�.png", "\x7f.gif"]))
CAPTIONS = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SIDES = st.integers(1, 2**31 - 1)
ROWS = st.builds(ImageRow, PATHS, st.binary(min_size=32, max_size=32).map(bytes.hex), SIDES, SIDES, CAPTIONS)


def image_row(number: int) -> ImageRow:
    return ImageRow(f"{number}.png", f"{number:064x}", number + 1, 2 * number + 1)


def write_set(folder: Path, sizes: list[int], vectors: np.ndarray, rejected: list[Rejected] | None = None) -> None:
    """A finished set with parts of the given sizes."""
    folder.mkdir(exist_ok=True)
    entries, first = [], 0
    for number, size in enumerate(sizes):
        rows = [image_row(i) for i in range(first, first + size)]
        write_part(folder / f"part-{number}.parquet", first, rows, vectors[first : first + size])
        entries.append(FileEntry.of(folder, f"part-{number}.parquet", size))
        first += size
    entry = None
    if rejected:
        write_rejected(folder / "rejected.parquet", rejected)
        entry = FileEntry.of(folder, "rejected.parquet", len(rejected))
    space = EmbeddingSpace("test", "f00d", vectors.shape[1])
    write_manifest(folder, EmbeddingManifest(space, "/photos", tuple(entries), first, 0, entry))


@given(st.lists(ROWS, min_size=1, max_size=6), st.integers(0, 2**40), st.integers(0, 1000))
def test_part_written_then_read_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[ImageRow], first_id: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("part")
    vectors = unit_noise(seed, len(rows), DIM)
    write_part(folder / "part.parquet", first_id, rows, vectors)
    reader = PartReader(folder, [FileEntry.of(folder, "part.parquet", len(rows))])
    ids = np.arange(len(rows))
    assert reader.rows(ids) == rows
    np.testing.assert_array_equal(reader.vectors(ids), vectors.astype(np.float16).astype(np.float32))
    assert pq.read_table(folder / "part.parquet")["id"].to_pylist() == [*range(first_id, first_id + len(rows))]


@given(PATHS)
def test_path_split_and_joined_is_the_same(path: str) -> None:
    shown, raw = split_path(path)
    assert join_path(shown, raw) == path
    assert shown.encode().decode() == shown
    assert (raw is None) == (shown == path)


def test_split_path_keeps_bytes_only_where_unicode_cannot() -> None:
    assert split_path("é.jpg") == ("é.jpg", None)
    assert split_path(os.fsdecode(b"caf\xe9.jpg")) == ("caf�.jpg", b"caf\xe9.jpg")


def test_part_opens_in_any_arrow_tool(tmp_path: Path) -> None:
    vectors = unit_noise(1, 2, DIM)
    rows = [ImageRow("a.jpg", "aa", 3, 4), ImageRow(os.fsdecode(b"\xff.jpg"), "bb", 5, 6, "a cat")]
    write_part(tmp_path / "part.parquet", 7, rows, vectors)
    table = pq.read_table(tmp_path / "part.parquet")
    half = vectors.astype(np.float16)
    assert table.to_pylist() == [
        {
            "id": 7,
            "path": "a.jpg",
            "path_bytes": None,
            "sha256": "aa",
            "width": 3,
            "height": 4,
            "caption": None,
            "embedding": half[0].tolist(),
        },
        {
            "id": 8,
            "path": "�.jpg",
            "path_bytes": b"\xff.jpg",
            "sha256": "bb",
            "width": 5,
            "height": 6,
            "caption": "a cat",
            "embedding": half[1].tolist(),
        },
    ]
    assert str(table.schema.field("embedding").type) == f"fixed_size_list<element: halffloat not null>[{DIM}]"


def test_part_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    vectors = unit_noise(1, 30, DIM)
    for name in ("one", "two"):
        write_part(tmp_path / name, 0, [image_row(i) for i in range(30)], vectors)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@given(st.lists(st.builds(Rejected, PATHS, CAPTIONS.map(str)), min_size=1, max_size=5))
def test_rejected_written_then_read_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, rejected: list[Rejected]
) -> None:
    path = tmp_path_factory.mktemp("rejected") / "rejected.parquet"
    write_rejected(path, rejected)
    assert read_rejected(path) == rejected


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddingSet, np.ndarray]:
    """40 rows in parts of 1, 0, 17, 12 and 10 rows, row groups of 5."""
    folder = tmp_path_factory.mktemp("many")
    vectors = unit_noise(3, 40, DIM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embeddings, "ROW_GROUP", 5)
        write_set(folder, [1, 0, 17, 12, 10], vectors, [Rejected("x.jpg", "empty")])
        yield EmbeddingSet(folder), vectors.astype(np.float16)


@settings(max_examples=100)
@given(start=st.integers(0, 40), stop=st.integers(0, 45))
def test_blocks_concatenated_are_the_slice(many: tuple[EmbeddingSet, np.ndarray], start: int, stop: int) -> None:
    opened, vectors = many
    blocks = [*opened.blocks(start, stop)]
    assert all(len(block) <= 5 for block in blocks)
    found = np.concatenate([np.empty((0, DIM), np.float16), *blocks])
    np.testing.assert_array_equal(found, vectors[start:stop])


@given(ids=st.lists(st.integers(0, 39), min_size=1, max_size=8))
def test_rows_and_vectors_come_in_the_order_asked_for(many: tuple[EmbeddingSet, np.ndarray], ids: list[int]) -> None:
    opened, vectors = many
    assert opened.rows(np.array(ids)) == [image_row(i) for i in ids]
    np.testing.assert_array_equal(opened.vectors(np.array(ids)), vectors[ids].astype(np.float32))


@pytest.mark.parametrize("id", [-1, 40, 10**12])
def test_rows_refuses_ids_that_are_not_there(many: tuple[EmbeddingSet, np.ndarray], id: int) -> None:
    with pytest.raises(QueryError, match=f"no image with this id; got {id}; ids run from 0 to 39"):
        many[0].rows(np.array([id]))
    with pytest.raises(QueryError, match="no image with this id"):
        many[0].vectors(np.array([id]))


def test_set_knows_its_length_rejections_and_root(many: tuple[EmbeddingSet, np.ndarray]) -> None:
    opened, _ = many
    assert len(opened) == 40
    assert opened.rejected() == [Rejected("x.jpg", "empty")]
    assert opened.resolve(image_row(3)) == Path("/photos/3.png")
    assert EmbeddingSet(opened.folder, Path("/elsewhere")).resolve(image_row(3)) == Path("/elsewhere/3.png")


def test_set_without_rejections_has_none(tmp_path: Path) -> None:
    write_set(tmp_path, [3], unit_noise(0, 3, DIM))
    assert EmbeddingSet(tmp_path).rejected() == []


def test_set_refuses_missing_and_truncated_parts(tmp_path: Path) -> None:
    write_set(tmp_path, [3, 2], unit_noise(0, 5, DIM))
    part = tmp_path / "part-1.parquet"
    part.write_bytes(part.read_bytes()[:-7])
    with pytest.raises(StorageError, match=r"part-1\.parquet was truncated or altered"):
        EmbeddingSet(tmp_path)
    part.unlink()
    with pytest.raises(StorageError, match=r"part-1\.parquet is missing"):
        EmbeddingSet(tmp_path)


def test_set_is_shared_between_threads(many: tuple[EmbeddingSet, np.ndarray]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    opened, vectors = many
    chosen = np.random.default_rng(0).integers(0, 40, (60, 3))
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(opened.vectors, chosen)]
    np.testing.assert_array_equal(np.stack(found), vectors[chosen].astype(np.float32))
