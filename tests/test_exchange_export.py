"""An index written for others; importing what was exported gives the index again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import colour_plugin, contents, here, plugged_in, same_contents
from columned import table_set
from exchanging import column, content, imported, laion, stored, stranger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_index_heads import some_heads

from indexing.exchange import writers
from indexing.exchange.exporting import LAYOUTS, export_index
from indexing.exchange.importing import import_index
from indexing.exchange.paths import Relative, absolute
from indexing.exchange.stream import GROUPS, RowStream, file_ranges
from indexing.inspect import describe
from indexing.project import project_index
from simat.embeddings import ROW_GROUP, EmbeddingSet, ImageRow, write_part
from simat.errors import BuildError, QueryError, StorageError
from simat.heads import save_heads
from simat.manifest import (
    EmbeddingManifest,
    FileEntry,
    read_embedding_manifest,
    read_index_manifest,
    write_manifest,
)
from simat.selection import Selection
from simat.tombstones import write_removed
from simat.types import EmbeddingSpace

REMOVED = [0, 5, 6, 7, 8, 20, 29]


def remove(index: Path, ids: list[int]) -> None:
    """Tombstones on some rows, as the next generation has them."""
    manifest = read_index_manifest(index)
    entry = write_removed(index, "removed-000001.bits", Selection.of_ids(np.array(ids), manifest.rows))
    write_manifest(index, replace(manifest, removed=entry, generation=manifest.generation + 1))


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of 30 rows in parts of 4, with LAION's columns and seven rows removed."""
    place = tmp_path_factory.mktemp("exported")
    stranger(place / "laion", (11, 19), laion)
    imported(place / "laion", place / "index")
    remove(place / "index", REMOVED)
    return place / "index"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rows_per_file", [1_000_000, 10, 1])
def test_export_then_import_is_the_identity(index: Path, tmp_path: Path, layout: str, rows_per_file: int) -> None:
    done = export_index(index, tmp_path / "out", layout, rows_per_file)
    assert (done.rows, done.removed) == (23, 7)
    import_index(tmp_path / "out", tmp_path / "again")
    before, after = content(index), content(tmp_path / "again")
    assert after.schema.names == before.schema.names
    assert after.drop_columns(["embedding"]).equals(before.drop_columns(["embedding"]))
    again = EmbeddingSet(tmp_path / "again" / "embeddings")
    np.testing.assert_array_equal(stored(again), stored(EmbeddingSet(index / "embeddings"))[kept()])
    known = read_embedding_manifest(index / "embeddings")
    assert (again.manifest.space, again.manifest.root) == (known.space, known.root)


def kept() -> list[int]:
    return [i for i in range(30) if i not in REMOVED]


def test_clip_retrieval_finds_its_own_layout(index: Path, tmp_path: Path) -> None:
    export_index(index, tmp_path / "out", "clip-retrieval", rows_per_file=2)
    names = [*contents(tmp_path / "out")]
    assert names[:13] == [f"img_emb/img_emb_{i:02}.npy" for i in range(12)] + ["metadata/metadata_00.parquet"]
    assert names[-1] == "simat.json" and len(names) == 25
    vectors = stored(EmbeddingSet(index / "embeddings"))[kept()]
    np.save(tmp_path / "second.npy", vectors[2:4])
    assert (tmp_path / "out" / "img_emb" / "img_emb_01.npy").read_bytes() == (tmp_path / "second.npy").read_bytes()
    table = pq.read_table(tmp_path / "out" / "metadata" / "metadata_01.parquet")
    root = read_embedding_manifest(index / "embeddings").root
    assert table.column_names[:1] == ["image_path"] and not {"id", "path", "embedding"} & {*table.column_names}
    assert table["image_path"].to_pylist() == [f"{root}/{i:09}" for i in (3, 4)]
    assert table["url"].to_pylist() == [f"https://example.com/{i}.jpg" for i in (3, 4)]


def test_a_single_file_has_one_digit(index: Path, tmp_path: Path) -> None:
    export_index(index, tmp_path / "out", "clip-retrieval")
    assert [*contents(tmp_path / "out")] == [
        "img_emb/img_emb_0.npy",
        "metadata/metadata_0.parquet",
        "simat.json",
    ]


def test_parquet_is_read_by_anybody(index: Path, tmp_path: Path) -> None:
    import duckdb

    export_index(index, tmp_path / "out", "parquet", rows_per_file=10)
    rows = duckdb.sql(
        f"SELECT id, caption, embedding[1], len(embedding) FROM '{tmp_path}/out/*.parquet' ORDER BY id"
    ).fetchall()
    vectors = stored(EmbeddingSet(index / "embeddings"))[kept()]
    captions = laion(0, 30)["caption"]
    assert [row[0] for row in rows] == [*range(23)]
    assert [row[1] for row in rows] == [captions[i] for i in kept()]
    assert [row[2] for row in rows] == vectors[:, 0].astype(np.float32).tolist()
    assert {row[3] for row in rows} == {12}


def test_lance_finds_neighbours_in_the_export(index: Path, tmp_path: Path) -> None:
    lance = pytest.importorskip("lance")
    export_index(index, tmp_path / "out", "lance")
    dataset = lance.dataset(str(tmp_path / "out" / "vectors.lance"))
    vectors = stored(EmbeddingSet(index / "embeddings"))[kept()].astype(np.float32)
    nearest = {"column": "embedding", "q": vectors[4], "k": 3, "metric": "cosine"}
    found = dataset.to_table(nearest=nearest, columns=["id"])["id"].to_pylist()
    assert found == np.argsort(-(vectors @ vectors[4]))[:3].tolist()
    import_index(tmp_path / "out" / "vectors.lance", tmp_path / "alone")
    assert len(EmbeddingSet(tmp_path / "alone" / "embeddings")) == 23


def test_lance_that_is_not_installed_is_one_line(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lance", None)
    with pytest.raises(StorageError, match=r"lance is not installed; pip install 'simat\[lance\]'"):
        export_index(index, tmp_path / "out", "lance")
    assert not (tmp_path / "out").exists()


def test_names_that_are_no_unicode_and_folders_apart_survive_the_journey(tmp_path: Path) -> None:
    paths = ["a/b.jpg", "caf\udce9/\udcff.jpg", "naïve 漢.png", "other/x.jpg", "others/y.jpg", "a.tar/dir/0.jpg"]
    rows = [ImageRow(path, f"{i:064x}", 4 + i, 3, None if i % 2 else "") for i, path in enumerate(paths)]
    vectors = np.eye(6, 8, dtype=np.float32)
    folder = tmp_path / "index" / "embeddings"
    folder.mkdir(parents=True)
    write_part(folder / "part-000000.parquet", 0, rows, vectors)
    entry = FileEntry.of(folder, "part-000000.parquet", 6)
    space = EmbeddingSpace("noise", "0" * 64, 8)
    folders = {"other": "/srv/other photos"}
    write_manifest(folder, EmbeddingManifest(space, "/data/root", (entry,), 6, folders=folders))
    imported(folder, tmp_path / "first")
    for number, layout in enumerate(LAYOUTS):
        export_index(tmp_path / "first", tmp_path / layout, layout)
        again = imported(tmp_path / layout, tmp_path / f"again {number}")
        assert again.rows(np.arange(6)) == rows
        assert again.manifest.folders == folders and again.manifest.root == "/data/root"
        assert str(again.resolve(rows[3])) == "/srv/other photos/x.jpg"
    table = pq.read_table(tmp_path / "clip-retrieval" / "metadata" / "metadata_0.parquet")
    assert table["image_path"].to_pylist()[3:] == [
        "/srv/other photos/x.jpg",
        "/data/root/others/y.jpg",
        "/data/root/a.tar/dir/0.jpg",
    ]


def test_pictures_that_moved_get_another_root(index: Path, tmp_path: Path) -> None:
    export_index(index, tmp_path / "out", "clip-retrieval")
    again = imported(tmp_path / "out", tmp_path / "again", root=tmp_path / "new")
    assert again.manifest.root == str(tmp_path / "new")
    assert column(again, "path") == [f"{i:09}" for i in kept()]


def test_heads_travel_with_the_vectors(tmp_path: Path, colour_photos: Path) -> None:
    from indexing.build import build_index
    from indexing.config import BuildConfig, Machine

    with plugged_in(colour_plugin(tmp_path / "plugin")):
        build_index(tmp_path / "plain", BuildConfig(str(colour_photos), encoder="colours"), Machine(workers=1))
        save_heads(tmp_path / "heads", some_heads())
        project_index(tmp_path / "plain", tmp_path / "heads", tmp_path / "projected", Machine(workers=1))
        export_index(tmp_path / "projected", tmp_path / "out", "parquet")
        shutil.rmtree(tmp_path / "heads")
        import_index(tmp_path / "out", tmp_path / "again")
        from simat import open as open_engine

        before, after = (open_engine(tmp_path / name).search("red", k=5) for name in ("projected", "again"))
        assert [(r.id, r.score) for r in before] == [(r.id, r.score) for r in after]


def test_a_killed_export_goes_on_and_ends_the_same(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_index(index, tmp_path / "whole", "clip-retrieval", 5)
    original, calls = writers._write_pair, []

    def killed_at_the_third(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(writers, "_write_pair", killed_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            export_index(index, tmp_path / "out", "clip-retrieval", 5)
    with pytest.raises(StorageError, match="the export is not finished"):
        import_index(tmp_path / "out", tmp_path / "no")
    first = tmp_path / "out" / "img_emb" / "img_emb_0.npy"
    stamp = first.stat().st_mtime_ns
    with pytest.raises(BuildError, match="was begun from another index or with other settings"):
        export_index(index, tmp_path / "out", "clip-retrieval", 6)
    export_index(index, tmp_path / "out", "clip-retrieval", 5)
    assert first.stat().st_mtime_ns == stamp
    assert same_contents(tmp_path / "out", tmp_path / "whole")


def test_an_unfinished_lance_dataset_is_begun_again(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RowStream.read

    def killed_after_one(self: RowStream, start: int, stop: int) -> Iterator[pa.Table]:
        yield next(original(self, start, stop))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RowStream, "read", killed_after_one)
        with pytest.raises((KeyboardInterrupt, OSError)):
            export_index(index, tmp_path / "out", "lance")
    assert not (tmp_path / "out" / "vectors.lance").exists()
    export_index(index, tmp_path / "out", "lance")
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["simat.json", "vectors.lance"]
    assert len(imported(tmp_path / "out", tmp_path / "again")) == 23


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_finished_export_that_is_asked_for_again_stays_as_it_is(index: Path, tmp_path: Path, layout: str) -> None:
    export_index(index, tmp_path / "out", layout, 10)

    def files() -> dict[str, int]:
        found = (path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "simat.json")
        return {str(path): path.stat().st_mtime_ns for path in found}

    before = files()
    assert export_index(index, tmp_path / "out", layout, 10).rows == 23
    assert files() == before


def test_an_export_with_a_file_missing_is_refused(index: Path, tmp_path: Path) -> None:
    export_index(index, tmp_path / "out", "parquet", 10)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    with pytest.raises(StorageError, match="files of the export are missing or foreign; got 13 vectors instead of 23"):
        import_index(tmp_path / "out", tmp_path / "again")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "of another format than simat/export 1; got simat/export 2; upgrade simat"),
        ({"space": 3}, "simat.json is damaged"),
        ({"surprise": 3}, "simat.json is damaged"),
    ],
)
def test_a_card_of_another_kind_is_refused(index: Path, tmp_path: Path, change: Any, message: str) -> None:
    export_index(index, tmp_path / "out", "parquet")
    card = tmp_path / "out" / "simat.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), **change}))
    with pytest.raises(StorageError, match=message):
        import_index(tmp_path / "out", tmp_path / "again")


def test_bad_wishes_are_refused_before_anything_is_written(index: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no such layout; got 'csv'; there are: clip-retrieval, parquet, lance"):
        export_index(index, tmp_path / "out", "csv")
    with pytest.raises(BuildError, match="a file must have at least 1 row; got 0"):
        export_index(index, tmp_path / "out", "parquet", 0)
    assert not (tmp_path / "out").exists()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    with pytest.raises(BuildError, match="the folder holds something else"):
        export_index(index, tmp_path / "letters", "parquet")
    shutil.copytree(index, tmp_path / "gone")
    remove(tmp_path / "gone", [*range(30)])
    with pytest.raises(BuildError, match="every image of the index is removed"):
        export_index(tmp_path / "gone", tmp_path / "out", "parquet")


def test_the_command_exports_and_tells(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran = here(capsys, "index", "export", index, tmp_path / "out", "--layout", "parquet", "--json")
    assert ran.json == {"folder": str(tmp_path / "out"), "layout": "parquet", "images": 23, "removed": 7}
    assert ran.progress[-1]["done"] == 23
    assert "7 removed ones stayed behind" in here(capsys, "index", "export", index, tmp_path / "second").out
    assert "no such layout" in here(capsys, "index", "export", index, tmp_path / "x", "--layout", "csv").error


@given(st.sets(st.integers(0, 29)), st.integers(0, 30), st.integers(0, 30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_range_of_a_stream_is_what_filtering_the_whole_gives(
    index: Path, removed: set[int], start: int, length: int
) -> None:
    embeddings = EmbeddingSet(index / "embeddings")
    gone = Selection.of_ids(np.array(sorted(removed), np.int64), 30)
    stream = RowStream(embeddings, gone)
    left = [i for i in range(30) if i not in removed]
    assert len(stream) == len(left)
    read = [id for table in stream.read(start, start + length) for id in table["id"].to_pylist()]
    assert read == left[start : start + length]


def test_a_range_reads_only_the_row_groups_that_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 3 * GROUPS * ROW_GROUP + 100
    stranger(tmp_path / "laion", (rows,), lambda first, count: {"key": [str(i) for i in range(count)]})
    embeddings = imported(tmp_path / "laion", tmp_path / "index", part_size=rows)
    read, groups = pq.ParquetFile.read_row_groups, []
    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", lambda self, g: groups.append(g[0]) or read(self, g))
    stream = RowStream(embeddings, Selection.of_ids(np.arange(0, rows, 2), rows))
    (table,) = stream.read(GROUPS * ROW_GROUP // 2 + 5, GROUPS * ROW_GROUP // 2 + 25)
    first = GROUPS * ROW_GROUP + 11
    assert table["id"].to_pylist() == [*range(first, first + 40, 2)]
    assert groups == [GROUPS]


def test_columns_whose_parts_differ_in_type_are_exported_as_filters_see_them(tmp_path: Path) -> None:
    columns = {"mark": [1, 2, "x", "2"], "likes": [1, 2, 2.5, None]}
    embeddings = table_set(tmp_path, columns, part_size=2)
    rows = pa.concat_tables(RowStream(embeddings, None).read(0, 4))
    assert rows["mark"].to_pylist() == ["1", "2", "x", "2"]
    assert rows["likes"].to_pylist() == [1.0, 2.0, 2.5, None]


def test_an_index_that_changes_during_its_export_is_one_error(tmp_path: Path) -> None:
    embeddings = table_set(tmp_path / "set", {"width": [1, 2, 3, 4]}, part_size=2)
    stream = RowStream(embeddings, None)
    (tmp_path / "set" / embeddings.manifest.parts[1].name).unlink()
    with pytest.raises(StorageError, match=r"the index has changed on disk; got part-0*1.parquet; export it again"):
        [*stream.read(0, 4)]


@given(st.integers(1, 50), st.integers(1, 60))
def test_file_ranges_cover_every_row_once(rows: int, rows_per_file: int) -> None:
    ranges = file_ranges(rows, rows_per_file)
    assert [row for start, stop in ranges for row in range(start, stop)] == [*range(rows)]
    assert all(stop - start == rows_per_file for start, stop in ranges[:-1])


NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
RELATIVE = st.lists(NAMES.filter(lambda name: name != ".."), min_size=1, max_size=4).map("/".join)


@given(st.lists(RELATIVE, min_size=1, max_size=5), st.lists(NAMES, max_size=3), NAMES)
def test_relative_is_the_inverse_of_absolute(paths: list[str], root: list[str], folder: str) -> None:
    where, folders = "/" + "/".join(root), {folder: "/srv/apart"}
    found = absolute(pa.array(paths), where, folders)
    expected = [
        f"/srv/apart/{p.partition('/')[2]}" if p.startswith(f"{folder}/") else f"{where.rstrip('/')}/{p}" for p in paths
    ]
    assert found.to_pylist() == expected
    if not any(path.startswith("srv/apart/") for path in paths):
        assert Relative(where, folders=folders)(found).to_pylist() == paths


def test_removed_rows_are_not_among_the_answers_of_what_was_imported(index: Path, tmp_path: Path) -> None:
    from simat import open as open_engine

    export_index(index, tmp_path / "out", "clip-retrieval")
    import_index(tmp_path / "out", tmp_path / "again")
    engine = open_engine(tmp_path / "again")
    assert len(engine) == 23 == describe(tmp_path / "again")["images"]
    with pytest.raises(QueryError, match="no image with this id"):
        engine.search(image=23)
