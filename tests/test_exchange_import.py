"""Vectors that others made become an index: clip-retrieval's and LAION's folders, Parquet, Lance."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import contents, here, same_contents, save_blotches
from exchanging import DIM, column, halves, imported, laion, stored, stranger
from helpers import ColourEncoder, PixelColourEncoder, plain, unit_noise
from hypothesis import given
from hypothesis import strategies as st

from indexing.config import BuildConfig
from indexing.exchange import importer
from indexing.exchange.checks import UNIT, checked
from indexing.exchange.exporting import export_index
from indexing.exchange.importer import Wanted
from indexing.exchange.importing import import_index
from indexing.exchange.segments import BLOCK, Vectors, aligned
from indexing.inspect import describe, verify_index
from indexing.remove import remove_images
from simat import open as open_index
from simat.embeddings import EmbeddingSet
from simat.encoders import load_tower
from simat.errors import BuildError, EncoderError, QueryError, SpaceMismatchError, StorageError
from simat.images import load_image
from simat.server.abilities import index_document
from simat.server.service import Service
from simat.types import EmbeddingSpace, Query
from simat.vectors import unit_rows


def test_laions_folder_keeps_every_vector_and_column(tmp_path: Path) -> None:
    vectors = stranger(tmp_path / "laion", (5, 7), laion)
    index = imported(tmp_path / "laion", tmp_path / "index")
    np.testing.assert_array_equal(stored(index), vectors)
    expected = laion(0, 12)
    for name in ("caption", "NSFW", "similarity", "LICENSE", "url", "key", "height", "original_width", "exif"):
        assert column(index, name) == expected[name]
    assert column(index, "path") == expected["image_path"]
    assert column(index, "width") == [256 if i % 2 else 0 for i in range(12)]
    assert column(index, "id") == [*range(12)]
    assert column(index, "sha256") == [""] * 12
    assert index.manifest.root == str(tmp_path / "laion")
    assert verify_index(tmp_path / "index")["whole"]


def test_an_import_without_an_encoder_is_searched_by_vectors_and_ids(tmp_path: Path) -> None:
    vectors = stranger(tmp_path / "laion", (30,), laion).astype(np.float32)
    imported(tmp_path / "laion", tmp_path / "index")
    engine = open_index(tmp_path / "index")
    exact = np.argsort(-(vectors @ vectors[3]), kind="stable")[:5]
    assert [result.id for result in engine.answer(Query(vector=vectors[3], composer="image", k=5))] == exact.tolist()
    assert [result.id for result in engine.search(image=3, k=4)] == exact[1:].tolist()
    with pytest.raises(QueryError, match=r"the encoder of this index reads no words; got unknown:12/"):
        engine.search("a dog")
    with pytest.raises(EncoderError, match=r"nobody has said which encoder made .* again with --encoder"):
        engine.search(image=plain("red"))
    with closing(Service([engine])) as service:
        assert index_document("laion", engine)["words"] is False
        service.warm()
        assert service.state() == "ready"


def test_unknown_encoders_of_two_folders_are_two_spaces(tmp_path: Path) -> None:
    for name in ("a", "b"):
        stranger(tmp_path / name, (3,))
        imported(tmp_path / name, tmp_path / f"{name} index")
    spaces = [open_index(tmp_path / f"{name} index").space for name in ("a", "b")]
    assert [load_tower(space.encoder).space for space in spaces] == spaces
    with pytest.raises(SpaceMismatchError):
        spaces[0].require(spaces[1])
    for spec in ("unknown", "unknown:12", "unknown:x/0123456789ab"):
        with pytest.raises(EncoderError, match="this name marks imported vectors"):
            load_tower(spec)


def test_vectors_of_two_files_or_columns_of_one_folder_are_two_spaces(tmp_path: Path) -> None:
    for name in ("a", "b"):
        columns = {"one": [*halves(0, 3).astype(np.float32)], "other": [*halves(1, 3).astype(np.float32)]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")
    places = [("a.parquet", "one"), ("a.parquet", "other"), ("b.parquet", "one")]
    spaces = []
    for number, (name, of) in enumerate(places):
        spaces.append(imported(tmp_path / name, tmp_path / f"index {number}", column=of).manifest.space)
    assert len({space.fingerprint for space in spaces}) == 3


def test_vectors_of_an_unknown_encoder_are_given_a_name_by_importing_their_export(tmp_path: Path) -> None:
    dim = ColourEncoder().space.dim
    np.save(tmp_path / "img_emb_0.npy", halves(0, 6, dim))
    imported(tmp_path, tmp_path / "index")
    export_index(tmp_path / "index", tmp_path / "out", "parquet")
    named = import_index(tmp_path / "out", tmp_path / "named", encoder=PixelColourEncoder())
    assert named.manifest.space == PixelColourEncoder().space
    unnamed = import_index(tmp_path / "out", tmp_path / "unnamed")
    assert unnamed.manifest.space == open_index(tmp_path / "index").space


def test_parts_have_the_same_bytes_however_the_rows_lie_in_files(tmp_path: Path) -> None:
    stranger(tmp_path / "a", (1000,), laion)
    stranger(tmp_path / "b", (100, 200, 700), laion)
    parts = [contents(imported(tmp_path / n, tmp_path / f"{n} index", 300).folder) for n in ("a", "b")]
    names = [name for name in parts[0] if name.startswith("part-")]
    assert len(names) == 4
    assert all(parts[0][name] == parts[1][name] for name in names)


@pytest.mark.parametrize("part_size", [256, 300, 2000])
def test_vectors_are_found_by_id_whatever_the_size_of_the_parts(tmp_path: Path, part_size: int) -> None:
    vectors = stranger(tmp_path / "laion", (700, 500), laion)
    index = imported(tmp_path / "laion", tmp_path / "index", part_size)
    ids = np.random.default_rng(0).permutation(1200)[:50]
    np.testing.assert_array_equal(index.vectors(ids), vectors[ids].astype(np.float32))
    assert [row.path for row in index.rows(ids)] == [f"{i:09}" for i in ids]


def test_blocks_cross_the_row_groups_of_the_metadata(tmp_path: Path) -> None:
    rows = 2 * BLOCK + 100
    folder = tmp_path / "large"
    vectors = stranger(folder, (rows,), lambda first, count: {"image_path": [str(i) for i in range(count)]})
    table = pq.read_table(folder / "metadata" / "metadata_0.parquet")
    pq.write_table(table, folder / "metadata" / "metadata_0.parquet", row_group_size=1000)
    index = imported(folder, tmp_path / "index", part_size=5000)
    np.testing.assert_array_equal(stored(index), vectors)
    assert column(index, "path") == [str(i) for i in range(rows)]


def test_rows_are_named_by_their_numbers_where_nothing_is_known(tmp_path: Path) -> None:
    vectors = stranger(tmp_path / "bare", (3, 4))
    index = imported(tmp_path / "bare", tmp_path / "index")
    assert column(index, "path") == [str(i) for i in range(7)]
    np.testing.assert_array_equal(stored(index), vectors)
    for path in (tmp_path / "bare" / "img_emb").iterdir():
        path.rename(tmp_path / "bare" / path.name)
    (tmp_path / "bare" / "img_emb").rmdir()
    np.testing.assert_array_equal(stored(imported(tmp_path / "bare", tmp_path / "flat")), vectors)


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 7))
def test_aligned_blocks_are_the_same_rows_cut_at_the_bounds_of_parts(sizes: list[int], size: int) -> None:
    rows = np.arange(sum(sizes), dtype=np.float32)[:, None]
    bounds = [0, *accumulate(sizes)]
    blocks = ((rows[a:b], pa.table({"row": rows[a:b, 0]})) for a, b in pairwise(bounds))
    cut = [*aligned(blocks, size)]
    assert [row for vectors, _ in cut for row in vectors[:, 0]] == rows[:, 0].tolist()
    assert [row for _, table in cut for row in table["row"].to_pylist()] == rows[:, 0].tolist()
    assert all(len(vectors) == len(table) and vectors[0, 0] // size == vectors[-1, 0] // size for vectors, table in cut)


def test_a_source_is_read_once_however_many_parts_it_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = stranger(tmp_path / "laion", (5, 7), laion)
    read, asked = Vectors.read, []
    monkeypatch.setattr(Vectors, "read", lambda self, *given: asked.append(given) or read(self, *given))
    index = imported(tmp_path / "laion", tmp_path / "index", part_size=3)
    np.testing.assert_array_equal(stored(index), vectors)
    assert asked[-1] == (0, 12) and (0, 12) not in asked[:-1]


def test_a_source_with_fewer_rows_than_it_said_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger(tmp_path / "laion", (5, 7), laion)
    read = Vectors.read
    monkeypatch.setattr(Vectors, "read", lambda self, start, stop: read(self, start, min(stop, 10)))
    with pytest.raises(StorageError, match=r"the files hold fewer rows than they say; got .*laion"):
        imported(tmp_path / "laion", tmp_path / "index", part_size=4)
    assert len([*(tmp_path / "index" / "embeddings").glob("part-*")]) == 2


def test_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    vectors = stranger(tmp_path / "many", (1,) * 12, laion)
    index = imported(tmp_path / "many", tmp_path / "index", part_size=5)
    np.testing.assert_array_equal(stored(index), vectors)
    assert column(index, "key") == laion(0, 12)["key"]


def test_text_vectors_are_imported_where_they_are_asked_for(tmp_path: Path) -> None:
    stranger(tmp_path / "both", (5,), laion)
    texts = halves(1, 5)
    (tmp_path / "both" / "text_emb").mkdir()
    np.save(tmp_path / "both" / "text_emb" / "text_emb_0.npy", texts)
    np.testing.assert_array_equal(stored(imported(tmp_path / "both", tmp_path / "t", modality="text")), texts)
    assert not np.array_equal(stored(imported(tmp_path / "both", tmp_path / "i")), texts)
    with pytest.raises(BuildError, match="no such modality; got sound; there are: image, text"):
        imported(tmp_path / "both", tmp_path / "s", modality="sound")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_any_precision_and_order_are_read(tmp_path: Path, dtype: Any, order: Any) -> None:
    vectors = unit_noise(3, 9, DIM).astype(dtype)
    np.save(tmp_path / "img_emb_0.npy", np.asarray(vectors, order=order))
    index = imported(tmp_path, tmp_path / "index")
    np.testing.assert_array_equal(stored(index), vectors.astype(np.float16))


LISTS: dict[str, Callable[[np.ndarray], pa.Array]] = {
    "list of float": lambda v: pa.array(v.tolist(), pa.list_(pa.float32())),
    "large list of double": lambda v: pa.array(v.tolist(), pa.large_list(pa.float64())),
    "fixed list of halves": lambda v: pa.FixedSizeListArray.from_arrays(pa.array(v.astype(np.float16).ravel()), DIM),
}


@pytest.mark.parametrize("kind", LISTS)
def test_parquet_with_a_column_of_vectors_is_read(tmp_path: Path, kind: str) -> None:
    vectors = halves(4, 30).astype(np.float32)
    for number in range(3):
        rows = slice(10 * number, 10 * number + 10)
        table = pa.table({"id": [*range(90, 100)], "emb": LISTS[kind](vectors[rows]), "text": ["words"] * 10})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=4)
    index = imported(tmp_path, tmp_path / "index", part_size=7, column="emb")
    np.testing.assert_array_equal(stored(index), vectors.astype(np.float16))
    assert column(index, "caption") == ["words"] * 30
    assert column(index, "source_id") == [*range(90, 100)] * 3
    one = imported(tmp_path / "1.parquet", tmp_path / "one", column="emb")
    np.testing.assert_array_equal(stored(one), vectors[10:20].astype(np.float16))


def test_an_embedding_set_of_an_index_is_a_source_too(tmp_path: Path, colour_index: Path) -> None:
    again = imported(colour_index / "embeddings", tmp_path / "index")
    before = describe(colour_index)
    assert describe(tmp_path / "index")["fingerprint"] == before["fingerprint"]
    assert again.manifest.root == before["root"]
    assert column(again, "sha256") == column(type(again)(colour_index / "embeddings"), "sha256")


def test_an_embedding_set_of_an_index_that_was_changed_is_refused(tmp_path: Path, colour_index: Path) -> None:
    shutil.copytree(colour_index, tmp_path / "index")
    remove_images(tmp_path / "index", where="id < 3")
    with pytest.raises(StorageError, match=r"the index around these vectors has been changed; .*'simat index export"):
        imported(tmp_path / "index" / "embeddings", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_columns_that_only_some_files_have_are_null_in_the_others(tmp_path: Path) -> None:
    def columns(first: int, count: int) -> dict[str, Any]:
        known = {"image_path": [f"{first + i}" for i in range(count)]}
        return known | ({"score": [1.5] * count} if first else {"score": [2] * count, "ID": ["x"] * count})

    stranger(tmp_path / "mixed", (2, 3), columns)
    index = imported(tmp_path / "mixed", tmp_path / "index")
    assert column(index, "score") == [2.0, 2.0, 1.5, 1.5, 1.5]
    assert column(index, "source_ID") == ["x", "x", None, None, None]


def test_columns_of_one_name_and_two_types_are_refused(tmp_path: Path) -> None:
    stranger(tmp_path / "mixed", (2, 3), lambda first, count: {"a": [[1]] * count if first else ["x"] * count})
    with pytest.raises(StorageError, match="columns of the same name and different types"):
        imported(tmp_path / "mixed", tmp_path / "index")


def test_pictures_below_the_root_are_vouched_for(tmp_path: Path) -> None:
    photos = save_blotches(tmp_path / "photos", 3)
    names = [str(photos / "0000.png"), str(photos / "0001.png"), str(photos / "gone.png")]
    stranger(tmp_path / "laion", (3,), lambda first, count: {"image_path": names})
    index = imported(tmp_path / "laion", tmp_path / "index", root=photos)
    assert column(index, "path") == ["0000.png", "0001.png", "gone.png"]
    assert [bool(sha) for sha in column(index, "sha256")] == [True, True, False]
    assert column(index, "width") == [48, 48, 0]
    assert index.root == photos
    around = imported(tmp_path / "laion", tmp_path / "around", root=photos / ".." / "photos")
    assert around.root == photos and column(around, "path") == column(index, "path")


def test_absolute_paths_keep_their_places_without_a_root(tmp_path: Path) -> None:
    stranger(tmp_path / "laion", (2,), lambda first, count: {"image_path": ["/data/a.jpg", "/data/b.jpg"]})
    index = imported(tmp_path / "laion", tmp_path / "index")
    assert column(index, "path") == ["data/a.jpg", "data/b.jpg"]
    assert [str(index.resolve(row)) for row in index.rows(np.arange(2))] == ["/data/a.jpg", "/data/b.jpg"]


@pytest.mark.parametrize("path", ["/elsewhere/a.jpg", "../a.jpg", "a/../../b.jpg", ".."])
def test_a_path_out_of_the_root_is_refused(tmp_path: Path, path: str) -> None:
    stranger(tmp_path / "laion", (2,), lambda first, count: {"image_path": ["good.jpg", path]})
    with pytest.raises(StorageError, match="a picture lies outside of"):
        imported(tmp_path / "laion", tmp_path / "index", root=tmp_path)


def spoilt(folder: Path, rows: dict[int, Any]) -> np.ndarray:
    """A folder in which some rows are something else."""
    vectors = stranger(folder, (5, 7), laion)
    for row, value in rows.items():
        vectors[row] = value
    np.save(folder / "img_emb" / "img_emb_0.npy", vectors[:5])
    np.save(folder / "img_emb" / "img_emb_1.npy", vectors[5:])
    return vectors


def test_rows_without_a_direction_are_left_out_and_listed(tmp_path: Path) -> None:
    vectors = spoilt(tmp_path / "bad", {2: np.nan, 4: 0, 6: np.inf, 11: -np.inf})
    index = imported(tmp_path / "bad", tmp_path / "index")
    good = [0, 1, 3, 5, 7, 8, 9, 10]
    np.testing.assert_array_equal(stored(index), vectors[good])
    assert column(index, "key") == [f"{i:09}" for i in good]
    assert column(index, "id") == [*range(8)]
    assert [(item.path, item.reason) for item in index.rejected()] == [
        ("000000002", "the vector is not finite; row 2 of img_emb_0.npy"),
        ("000000004", "the vector is zero; row 4 of img_emb_0.npy"),
        ("000000006", "the vector is not finite; row 1 of img_emb_1.npy"),
        ("000000011", "the vector is not finite; row 6 of img_emb_1.npy"),
    ]
    assert verify_index(tmp_path / "index")["rows"] == 8


def test_a_part_of_bad_rows_alone_is_empty_and_the_next_goes_on(tmp_path: Path) -> None:
    vectors = spoilt(tmp_path / "bad", dict.fromkeys(range(4, 8), np.nan))
    index = imported(tmp_path / "bad", tmp_path / "index", part_size=4)
    assert [entry.rows for entry in index.manifest.parts] == [4, 0, 4]
    ids = np.array([7, 3, 4, 0])
    np.testing.assert_array_equal(index.vectors(ids), vectors[[11, 3, 8, 0]].astype(np.float32))


def test_nothing_is_left_of_an_import_without_one_good_row(tmp_path: Path) -> None:
    stranger(tmp_path / "bad", (3,), laion)
    np.save(tmp_path / "bad" / "img_emb" / "img_emb_0.npy", np.zeros((3, DIM), np.float16))
    with pytest.raises(BuildError, match="none of the vectors can be used; got the vector is zero"):
        imported(tmp_path / "bad", tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_rows_of_other_lengths_are_refused_naming_the_first(tmp_path: Path) -> None:
    spoilt(tmp_path / "long", {6: np.ones(DIM), 9: np.full(DIM, 3)})
    with pytest.raises(StorageError, match=r"row 1 of img_emb_1.npy is no unit vector; got length 3.46.*--normalise"):
        imported(tmp_path / "long", tmp_path / "index", part_size=12)
    assert not (tmp_path / "index").exists()
    with pytest.raises(StorageError, match="is no unit vector"):
        imported(tmp_path / "long", tmp_path / "later", part_size=4)
    assert len([*(tmp_path / "later" / "embeddings").glob("part-*")]) == 1


def test_rows_of_other_lengths_are_normalised_on_demand_and_the_others_left_alone(tmp_path: Path) -> None:
    vectors = spoilt(tmp_path / "long", {6: np.ones(DIM), 9: np.full(DIM, 3)})
    index = imported(tmp_path / "long", tmp_path / "index", normalise=True)
    expected = vectors.copy()
    expected[[6, 9]] = 1 / np.sqrt(DIM)
    np.testing.assert_array_equal(stored(index), expected)


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.float16, np.float32, np.float64]))
def test_checked_rows_are_what_a_slow_loop_finds(seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    rows = unit_rows(rng.normal(size=(8, 5)))
    scales = rng.choice([1, 1 + 0.9 * UNIT, 1 + 1.2 * UNIT, 0, np.nan, np.inf, 7], 8)
    with np.errstate(all="ignore"):
        rows = (rows * scales[:, None]).astype(dtype)
    looked = checked(rows, normalise=True)
    good = [bool(np.isfinite(row).all() and row.any()) for row in rows]
    assert looked.good.tolist() == good
    assert {*looked.reasons} == {i for i, fine in enumerate(good) if not fine}
    for row, kept in zip(rows[good], looked.vectors, strict=True):
        length = np.linalg.norm(row.astype(np.float64))
        expected = row if abs(length - 1) <= UNIT else row.astype(np.float64) / length
        np.testing.assert_allclose(kept, expected, atol=5e-4)
    lengths = np.linalg.norm(rows[good].astype(np.float64), axis=1)
    other = [i for i, length in zip(np.flatnonzero(good), lengths, strict=True) if abs(length - 1) > UNIT]
    assert checked(rows, normalise=False).other_length == (other[0] if other else None)


def test_metadata_of_another_length_is_refused_before_any_work(tmp_path: Path) -> None:
    stranger(tmp_path / "laion", (5, 7), laion)
    for rows, word in ((6, "shorter"), (8, "longer")):
        pq.write_table(pa.table(laion(0, rows)), tmp_path / "laion" / "metadata" / "metadata_1.parquet")
        message = rf"metadata_1.parquet is {word} than img_emb_1.npy; got {rows} rows for 7 vectors"
        with pytest.raises(StorageError, match=message):
            imported(tmp_path / "laion", tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_files_without_partners_are_refused(tmp_path: Path) -> None:
    stranger(tmp_path / "laion", (5, 7), laion)
    (tmp_path / "laion" / "metadata" / "metadata_1.parquet").rename(tmp_path / "kept")
    with pytest.raises(StorageError, match=r"img_emb_1.npy has no partner in metadata/"):
        imported(tmp_path / "laion", tmp_path / "index")
    (tmp_path / "kept").rename(tmp_path / "laion" / "metadata" / "metadata_7.parquet")
    (tmp_path / "laion" / "img_emb" / "img_emb_1.npy").unlink()
    with pytest.raises(StorageError, match=r"metadata_7.parquet has no partner in img_emb/"):
        imported(tmp_path / "laion", tmp_path / "index")


def test_stale_files_of_an_earlier_run_are_refused(tmp_path: Path) -> None:
    stranger(tmp_path / "laion", (5, 7), laion)
    np.save(tmp_path / "laion" / "img_emb" / "img_emb_01.npy", halves(0, 7))
    with pytest.raises(StorageError, match=r"two files have the same number; got img_emb_01.npy and img_emb_1.npy"):
        imported(tmp_path / "laion", tmp_path / "index")


def test_vectors_of_two_dimensions_are_refused(tmp_path: Path) -> None:
    stranger(tmp_path / "laion", (5, 7), laion)
    np.save(tmp_path / "laion" / "img_emb" / "img_emb_1.npy", halves(0, 7, DIM + 1))
    with pytest.raises(
        StorageError, match=r"img_emb_1.npy holds vectors of another dimension .*; got 13 instead of 12"
    ):
        imported(tmp_path / "laion", tmp_path / "index")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def pickled(path: Path) -> None:
    np.save(path, np.array([{"a": 1}] * 5, dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    "spoil",
    [
        truncated,
        pickled,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\x93NUMPY\x01\x00\xff\xff"),
        lambda path: path.write_bytes(b"no array"),
        lambda path: np.save(path, np.zeros((5, 2, 3), np.float16)),
        lambda path: np.save(path, np.zeros((5, 12), np.int8)),
        lambda path: np.save(path, np.float32(3)),
    ],
)
def test_what_is_no_array_of_vectors_is_one_error(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    stranger(tmp_path / "laion", (5,), laion)
    spoil(tmp_path / "laion" / "img_emb" / "img_emb_0.npy")
    with pytest.raises(StorageError, match=r"img_emb_0.npy (is no whole array|must hold \(n, d\) floats)"):
        imported(tmp_path / "laion", tmp_path / "index")


def test_damaged_metadata_is_one_error(tmp_path: Path) -> None:
    stranger(tmp_path / "laion", (5,), laion)
    path = tmp_path / "laion" / "metadata" / "metadata_0.parquet"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(StorageError, match=r"metadata_0.parquet is no whole Parquet file"):
        imported(tmp_path / "laion", tmp_path / "index")
    path.write_bytes(whole[:4] + b"\0" * 200 + whole[204:])
    with pytest.raises(StorageError, match=r"metadata_0.parquet is damaged"):
        imported(tmp_path / "laion", tmp_path / "index")


def test_parquet_without_the_column_lists_what_there_is(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(StorageError, match=r"no column of vectors 'embedding'; got the columns a, b; name .* --column"):
        imported(tmp_path, tmp_path / "index")
    with pytest.raises(StorageError, match=r"the column 'b' of x.parquet must hold lists of floats; got string"):
        imported(tmp_path, tmp_path / "index", column="b")


def test_a_damaged_column_of_vectors_is_one_error(tmp_path: Path) -> None:
    lists = pa.array(halves(0, 500).astype(np.float32).tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"embedding": lists}), tmp_path / "x.parquet", compression="zstd")
    whole = (tmp_path / "x.parquet").read_bytes()
    (tmp_path / "x.parquet").write_bytes(whole[:4] + b"\xff" * 4000 + whole[4004:])
    with pytest.raises(StorageError, match=r"x.parquet is damaged"):
        imported(tmp_path, tmp_path / "index")


def test_vectors_without_numbers_are_refused(tmp_path: Path) -> None:
    column = pa.array([[], [1.0, 0.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"embedding": column}), tmp_path / "x.parquet")
    with pytest.raises(
        StorageError, match=r"row 0 of x.parquet holds a vector of another dimension; got 0 instead of 2"
    ):
        imported(tmp_path, tmp_path / "index")
    pq.write_table(pa.table({"embedding": column[:1]}), tmp_path / "x.parquet")
    with pytest.raises(StorageError, match=r"no row of x.parquet has a vector"):
        imported(tmp_path, tmp_path / "index")
    np.save(tmp_path / "img_emb_0.npy", np.zeros((3, 0), np.float16))
    with pytest.raises(StorageError, match=r"the vectors have no numbers; got img_emb_0.npy"):
        imported(tmp_path, tmp_path / "index")


def test_lance_without_the_column_or_damaged_is_one_error(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    path = tmp_path / "v.lance"
    lance.write_dataset(pa.table({"a": [*halves(0, 500).astype(np.float32)]}), str(path))
    with pytest.raises(
        StorageError, match=r"v.lance has no column of vectors 'embedding'; got the columns a; .* --column"
    ):
        imported(path, tmp_path / "index")
    for file in (path / "data").iterdir():
        file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(StorageError, match=r"v.lance is damaged"):
        imported(path, tmp_path / "index", column="a")


def test_parquet_vectors_of_other_lengths_and_nulls(tmp_path: Path) -> None:
    lists = [[1.0, 0.0], None, [0.0, 1.0]]
    pq.write_table(pa.table({"embedding": pa.array(lists, pa.list_(pa.float32()))}), tmp_path / "x.parquet")
    index = imported(tmp_path, tmp_path / "index")
    assert stored(index).tolist() == [[1, 0], [0, 1]]
    assert [item.reason for item in index.rejected()] == ["the vector is not finite; row 1 of x.parquet"]
    lists[2] = [0.0, 1.0, 0.0]
    pq.write_table(pa.table({"embedding": pa.array(lists, pa.list_(pa.float32()))}), tmp_path / "x.parquet")
    with pytest.raises(
        StorageError, match=r"row 2 of x.parquet holds a vector of another dimension; got 3 instead of 2"
    ):
        imported(tmp_path, tmp_path / "other")


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_a_folder_without_vectors_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildError, match=r"no such folder of vectors|no vectors that simat knows .* it reads img_emb"):
        imported(tmp_path / name, tmp_path / "index")


def test_files_of_no_rows_hold_no_vectors(tmp_path: Path) -> None:
    stranger(tmp_path / "laion", (0, 3, 0), laion)
    assert len(imported(tmp_path / "laion", tmp_path / "index")) == 3
    stranger(tmp_path / "none", (0,), laion)
    with pytest.raises(StorageError, match="no vectors here"):
        imported(tmp_path / "none", tmp_path / "other")


def test_the_encoder_is_checked_by_its_dimension_and_named(tmp_path: Path) -> None:
    vectors = unit_noise(0, 6, ColourEncoder().space.dim).astype(np.float16)
    np.save(tmp_path / "img_emb_0.npy", vectors)
    built = import_index(tmp_path, tmp_path / "index", encoder=PixelColourEncoder())
    assert built.manifest.space == PixelColourEncoder().space
    assert built.manifest.config["encoder"] == "colours"
    assert len(open_index(tmp_path / "index", PixelColourEncoder()).search("red", k=3)) == 3
    stranger(tmp_path / "laion", (5,), laion)
    with pytest.raises(SpaceMismatchError, match=r"the vectors in .*laion are 12-d; got the encoder colours"):
        import_index(tmp_path / "laion", tmp_path / "other", encoder=PixelColourEncoder())


def test_an_encoder_that_did_not_make_the_vectors_is_found_out_by_their_pictures(tmp_path: Path) -> None:
    photos = save_blotches(tmp_path / "photos", 6)
    names = sorted(path.name for path in photos.iterdir())
    encoder = PixelColourEncoder()
    vectors = encoder.encode_images([load_image(photos / name) for name in names])
    pq.write_table(pa.table({"path": names, "embedding": [*vectors]}), tmp_path / "right.parquet")
    pq.write_table(pa.table({"path": names, "embedding": [*vectors[::-1]]}), tmp_path / "wrong.parquet")
    wanted = Wanted(root=photos)
    built = import_index(tmp_path / "right.parquet", tmp_path / "right", wanted, encoder=encoder)
    assert built.manifest.rows == 6
    with pytest.raises(SpaceMismatchError, match=r"the vector of 0000.png was not made by colours .*; got cosine"):
        import_index(tmp_path / "wrong.parquet", tmp_path / "wrong", wanted, encoder=encoder)
    gone = import_index(tmp_path / "wrong.parquet", tmp_path / "gone", Wanted(root=tmp_path), encoder=encoder)
    assert gone.manifest.rows == 6


def test_a_killed_import_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(tmp_path / "laion", {1: np.nan, 10: 0})
    imported(tmp_path / "laion", tmp_path / "whole")
    original, calls = importer.new_part, []

    def killed_at_the_second(path: Path, *rest: Any) -> Any:
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(importer, "new_part", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            imported(tmp_path / "laion", tmp_path / "index")
    stamp = calls[0].stat().st_mtime_ns
    with pytest.raises(StorageError, match="the index is half built"):
        describe(tmp_path / "index")
    imported(tmp_path / "laion", tmp_path / "index")
    assert calls[0].stat().st_mtime_ns == stamp
    assert same_contents(tmp_path / "index", tmp_path / "whole")
    imported(tmp_path / "laion", tmp_path / "index")
    assert same_contents(tmp_path / "index", tmp_path / "whole")


def test_shards_that_faiss_refused_are_made_another_way_without_importing_again(tmp_path: Path) -> None:
    vectors = stranger(tmp_path / "laion", (5, 7), laion)
    settings = BuildConfig("", part_size=4, factory="IVF64,Flat")
    with pytest.raises(BuildError, match=r"FAISS cannot train IVF64,Flat"):
        import_index(tmp_path / "laion", tmp_path / "index", settings=settings)
    part = tmp_path / "index" / "embeddings" / "part-000000.parquet"
    stamp = part.stat().st_mtime_ns
    built = import_index(tmp_path / "laion", tmp_path / "index", settings=replace(settings, factory="Flat"))
    assert built.manifest.factory == "Flat" and part.stat().st_mtime_ns == stamp
    np.testing.assert_array_equal(stored(EmbeddingSet(tmp_path / "index" / "embeddings")), vectors)


def test_other_vectors_or_settings_do_not_go_on_where_an_import_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger(tmp_path / "laion", (5, 7), laion)
    with monkeypatch.context() as patch:
        patch.setattr(importer, "new_part", None)
        with pytest.raises(TypeError):
            imported(tmp_path / "laion", tmp_path / "index")
    with pytest.raises(BuildError, match="was begun with other settings; got part_size 4 -> 5"):
        imported(tmp_path / "laion", tmp_path / "index", part_size=5)
    with pytest.raises(BuildError, match="was begun from other vectors"):
        imported(tmp_path / "laion", tmp_path / "index", normalise=True)
    first = tmp_path / "laion" / "img_emb" / "img_emb_0.npy"
    before, status = np.load(first), first.stat()
    np.save(first, halves(5, 5))  # as many bytes
    with pytest.raises(BuildError, match="was begun from other vectors"):
        imported(tmp_path / "laion", tmp_path / "index")
    np.save(first, before)
    os.utime(first, ns=(status.st_atime_ns, status.st_mtime_ns))
    imported(tmp_path / "laion", tmp_path / "index")
    shutil.rmtree(tmp_path / "index")
    with monkeypatch.context() as patch:
        patch.setattr(importer, "new_part", None)
        with pytest.raises(TypeError):
            imported(tmp_path / "laion", tmp_path / "index")
    np.save(tmp_path / "laion" / "img_emb" / "img_emb_2.npy", halves(2, 3))
    pq.write_table(pa.table(laion(12, 3)), tmp_path / "laion" / "metadata" / "metadata_2.parquet")
    with pytest.raises(BuildError, match="was begun from other vectors"):
        imported(tmp_path / "laion", tmp_path / "index")


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    stranger(tmp_path / "laion", (5,), laion)
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "letter.txt").write_text("dear")
    with pytest.raises(BuildError, match="the folder holds something else"):
        imported(tmp_path / "laion", tmp_path / "index")
    assert [*contents(tmp_path / "index")] == ["letter.txt"]


def test_the_command_imports_and_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stranger(tmp_path / "laion", (5, 7), laion)
    ran = here(capsys, "index", "import", tmp_path / "laion", tmp_path / "index", "--factory", "Flat", "--json")
    assert (ran.json["images"], ran.json["dim"]) == (12, DIM)
    assert ran.json["encoder"].startswith("unknown:12/")
    assert any(line.get("stage") == "import" and line["done"] == 12 for line in ran.progress)
    assert "12 images in" in here(capsys, "index", "import", tmp_path / "laion", tmp_path / "second").out
    failed = here(capsys, "index", "import", tmp_path / "laion", tmp_path / "third", "--encoder", "offline")
    assert "the vectors in" in failed.error and "384-d" in failed.error
    assert "no such folder of vectors" in here(capsys, "index", "import", tmp_path / "no", tmp_path / "x").error


def test_the_manifest_names_what_was_imported(tmp_path: Path) -> None:
    stranger(tmp_path / "laion", (5,), laion)
    import_index(tmp_path / "laion", tmp_path / "index", Wanted(), BuildConfig("", part_size=4))
    document = json.loads((tmp_path / "index" / "manifest.json").read_text())
    assert document["config"]["photos"] == str(tmp_path / "laion")
    assert EmbeddingSpace(**document["space"]).dim == DIM
