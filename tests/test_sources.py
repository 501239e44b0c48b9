"""Sources list their pictures, words and facts in an order of their own, and refuse in one line."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packed import IMAGE, not_utf8, pack_arrow, pack_parquet, pack_tar, picture, samples, special, structs

from indexing.items import Item
from indexing.scan import read_columns, read_items, read_scan, write_items
from indexing.sources import Several, Source, absolute, open_source, other_source
from indexing.sources.folder import Folder
from indexing.sources.patterns import expanded
from simat.containers import OPEN_TABLES
from simat.errors import BuildError
from simat.images import read_bytes

NINE = {"source_width": 9}


def items(text: str | Path, **options: str) -> list[Item]:
    source = open_source(str(text), **options)
    assert isinstance(source, Source)
    listed = [*source.items()]
    assert listed == [*open_source(str(text), **options).items()]  # the same every time
    return listed


def test_a_folder_gives_pictures_with_what_lies_beside_them(tmp_path: Path) -> None:
    for name, data in {**samples(0, 2), "sub/a.jpg": b"x", "sub/a.TXT": b"other name", "b.png": b"x"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert items(tmp_path) == [
        Item("0000.png", "picture 0", {**NINE, "seed": 0, "score": 0.0}),
        Item("0001.png", "picture 1", {**NINE, "seed": 1, "score": 0.5}),
        Item("b.png"),
        Item("sub/a.jpg"),
    ]


@pytest.mark.parametrize("data", [b"{", b"[1, 2]", b"\xff\xff", b"[" * 100_000, b" " * (2**20 + 1)])
def test_a_document_that_is_none_costs_no_picture(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    (tmp_path / "a.txt").write_text("kept")
    (tmp_path / "a.json").write_bytes(data)
    folder = Folder(tmp_path)
    assert [*folder.items()] == [Item("a.png", "kept")]
    assert folder.unread == 1


def test_a_document_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    os.mkfifo(tmp_path / "a.txt")
    folder = Folder(tmp_path)
    assert [*folder.items()] == [Item("a.png")]
    assert folder.unread == 1


def test_a_tar_gives_its_pictures_in_its_order(tmp_path: Path) -> None:
    files = {"z/b.jpg": b"x", **samples(0, 2), "notes.md": b"x", "z/b.txt": b"a bee", "c.seg.png": b"x"}
    path = pack_tar(tmp_path / "t.tar", files)
    assert items(path) == [
        Item("t.tar/z/b.jpg", "a bee"),
        Item("t.tar/0000.png", "picture 0", {**NINE, "seed": 0, "score": 0.0}),
        Item("t.tar/0001.png", "picture 1", {**NINE, "seed": 1, "score": 0.5}),
        Item("t.tar/c.seg.png"),
    ]
    assert open_source(str(path)).root == tmp_path


def test_a_tar_lists_what_cannot_be_read_so_that_it_is_rejected(tmp_path: Path) -> None:
    files = {"1.png": picture(1), "l.png": special("l.png", tarfile.SYMTYPE, "x"), "../e.png": b"x", "l.txt": b"a"}
    path = pack_tar(tmp_path / "t.tar", files)
    path.write_bytes(path.read_bytes()[: 512 * 12])  # without the end mark
    assert [item.path for item in items(path)] == ["t.tar/1.png", "t.tar/l.png", "t.tar/.../e.png", "t.tar"]


def test_shards_in_braces_are_one_source(tmp_path: Path) -> None:
    for shard in range(3):
        pack_tar(tmp_path / "a b" / f"{shard:05}.tar", samples(shard * 2, 2, captions=False))
    listed = items(tmp_path / "a b" / "{00000..00002}.tar")
    assert [item.path for item in listed] == [f"0000{i // 2}.tar/{i:04}.png" for i in range(6)]


def test_several_sources_are_one_after_another_below_their_common_folder(tmp_path: Path) -> None:
    pack_tar(tmp_path / "x" / "t.tar", samples(0, 1, captions=False))
    pack_parquet(tmp_path / "y" / "p.parquet", {"image": structs([1, 2])})
    (tmp_path / "y" / "photos").mkdir()
    (tmp_path / "y" / "photos" / "3.png").write_bytes(picture(3))
    words = [str(tmp_path / name) for name in ("y/photos", "y/p.parquet", "x/t.tar", "y/photos")]
    source = open_source(absolute(words))
    assert isinstance(source, Several)
    assert source.root == tmp_path
    paths = [item.path for item in source.items()]
    assert paths == ["y/photos/3.png", "y/p.parquet/0", "y/p.parquet/1", "x/t.tar/0000.png"]
    assert [read_bytes(tmp_path / path) for path in paths] == [picture(seed) for seed in (3, 1, 2, 0)]


def test_absolute_makes_the_same_of_a_word_in_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute(["a", "~/b.tar", "hf:c:train", "/d"]) == f"{tmp_path}/a::/home/me/b.tar::hf:c:train::/d"
    (tmp_path / "c").mkdir()
    (tmp_path / "c:d").mkdir()
    assert absolute(["hf:c:train", "hf:c", "hf:c:d", "hf:"]) == "::".join(
        [f"hf:{tmp_path}/c:train", f"hf:{tmp_path}/c", f"hf:{tmp_path}/c:d", "hf:"]
    )


def test_absolute_takes_points_out_of_paths_but_heeds_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photos", "more", "far/inner", "far/more"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "far" / "inner")
    monkeypatch.chdir(tmp_path / "photos")
    assert absolute(["../more", "../{a,b}.tar"]) == f"{tmp_path}/more::{tmp_path}/{{a,b}}.tar"
    assert absolute(["link/../more", "link/../inner"]) == f"{tmp_path}/far/more::{tmp_path}/far/inner"


def test_no_name_of_several_sources_leads_upwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("photos", "more")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{seed}.png").write_bytes(picture(seed))
    monkeypatch.chdir(tmp_path / "photos")
    for text in (absolute([".", "../more"]), ".::../more"):
        source = open_source(text)
        assert source.root == tmp_path
        assert [item.path for item in source.items()] == ["photos/0.png", "more/1.png"]


def test_a_folder_inside_another_one_is_listed_once(tmp_path: Path) -> None:
    for seed, name in enumerate(("a/b/c", "a/b", "far")):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / f"{seed}.png").write_bytes(picture(seed))
    (tmp_path / "a" / "link").symlink_to(tmp_path / "far")
    words = [str(tmp_path / name) for name in ("a/b/c", "a", "a/b", "a/link")]
    paths = [item.path for item in items("::".join(words))]
    assert paths == ["b/1.png", "b/c/0.png", "link/2.png"]  # a walk follows no link to a folder


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(BuildError, match=r"neither a folder nor a file; got .*a\.tar"):
        open_source(str(tmp_path / "a.tar"))


def test_parquet_gives_its_rows_with_their_other_columns(tmp_path: Path) -> None:
    features = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    meta = {"huggingface": json.dumps({"info": {"features": features}})}
    columns = {
        "image": structs([0, None, 2]),
        "text": ["zero", None, "two"],
        "label": [1, 0, 7],
        "id": [5, 6, 7],
        "thumb": pa.array([b"x"] * 3),
        "other": structs([3, 3, 3]),
        "vector": [[0.1, 0.2]] * 3,
        "meta": [{"lang": "en"}, None, {"lang": "de"}],
    }
    path = tmp_path / "p.parquet"
    pack_parquet(path, columns)
    pq.write_table(pq.read_table(path).replace_schema_metadata(meta), path, row_group_size=2)
    assert items(path) == [
        Item("p.parquet/0", "zero", {"label": "dog", "source_id": 5, "meta_lang": "en"}),
        Item("p.parquet/1", None, {"label": "cat", "source_id": 6}),
        Item("p.parquet/2", "two", {"label": 7, "source_id": 7, "meta_lang": "de"}),
    ]


def test_parquet_of_pictures_alone_reads_no_column_to_list_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack_parquet(tmp_path / "p.parquet", {"image": structs([*range(5)])})
    monkeypatch.setattr("simat.tables.Table.batches", None)
    assert [item.path for item in open_source(str(path)).items()] == [f"p.parquet/{row}" for row in range(5)]


def test_tables_are_open_only_while_they_are_listed(tmp_path: Path) -> None:
    for number in range(40):
        pack_parquet(tmp_path / f"{number}.parquet", {"image": structs([number]), "n": [number]})
    source = open_source(str(tmp_path / "{0..39}.parquet"))
    assert opened(tmp_path) <= OPEN_TABLES
    assert [item.facts["n"] for item in source.items()] == [*range(40)]
    assert opened(tmp_path) <= OPEN_TABLES


def opened(folder: Path) -> int:
    """How many files below a folder this process has open."""
    links = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    return sum(link.startswith(f"{folder}/") for link in links)


def test_a_value_that_is_none_costs_no_other(tmp_path: Path) -> None:
    columns = {
        "image": structs([0, 1, 2]),
        "caption": not_utf8("zero", b"\xff", "two"),
        "date": pa.array([0, 2**60, 86400 * 10**6], pa.timestamp("us")),
        "n": [5, 6, 7],
    }
    source = open_source(str(pack_parquet(tmp_path / "p.parquet", columns)))
    for _ in range(2):
        assert [*source.items()] == [
            Item("p.parquet/0", "zero", {"date": "1970-01-01 00:00:00", "n": 5}),
            Item("p.parquet/1", None, {"n": 6}),
            Item("p.parquet/2", "two", {"date": "1970-01-02 00:00:00", "n": 7}),
        ]
        assert source.unread == 2


def test_a_path_that_is_no_text_is_a_row_of_its_own(tmp_path: Path) -> None:
    path = pack_parquet(tmp_path / "p.parquet", {"path": not_utf8("a.png", b"\xff.png", "..a.png")})
    assert [item.path for item in open_source(str(path)).items()] == ["a.png", "p.parquet/1", "..a.png"]


def test_columns_named_twice_are_left_out_and_not_chosen(tmp_path: Path) -> None:
    arrays = [structs([0]), pa.array([1]), pa.array([2]), pa.array(["x"])]
    for suffix, write in ((".parquet", pq.write_table), (".arrow", write_stream)):
        path = tmp_path / f"a{suffix}"
        write(pa.table(arrays, names=["image", "n", "n", "about"]), path)
        assert items(path) == [Item(f"a{suffix}/0", None, {"about": "x"})]
        write(pa.table(arrays, names=["n", "image", "image", "about"]), path)
        with pytest.raises(BuildError, match=rf"several columns 'image' in a{suffix}; got n struct"):
            open_source(str(path), image_column="image")


def write_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(
    "captions",
    [
        ["one", None],
        [["one", "uno"], None],
        pa.array(["one", None]).dictionary_encode(),
        pa.array(["one", None], pa.large_string()),
    ],
)
def test_captions_are_words_in_any_form(tmp_path: Path, captions: Any) -> None:
    path = pack_parquet(tmp_path / "p.parquet", {"image": structs([0, 1]), "about": captions})
    assert [item.caption for item in items(path, caption_column="about")] == ["one", None]


def test_another_column_of_pictures_is_part_of_the_path(tmp_path: Path) -> None:
    columns = {"image": structs([0, 1]), "photo": pa.array([picture(2), picture(3)]), "about": ["a", "b"]}
    path = pack_parquet(tmp_path / "p.parquet", columns)
    listed = items(path, image_column="photo", caption_column="about")
    assert listed == [Item("p.parquet/0/photo", "a"), Item("p.parquet/1/photo", "b")]
    assert read_bytes(tmp_path / listed[1].path) == picture(3)


@pytest.mark.parametrize(
    ("paths", "root", "listed"),
    [
        (["b/1.png", "./2.png", None, "../3.png"], "sub", ["b/1.png", "2.png", "p.parquet/2", "p.parquet/3"]),
        (["../b/1.png", "2.png"], "/", ["{}/b/1.png", "{}/sub/2.png"]),
        (["/data/1.png", "2.png"], "/", ["data/1.png", "{}/sub/2.png"]),
    ],
)
def test_a_column_of_paths_gives_the_files_it_names(
    tmp_path: Path, paths: list[str | None], root: str, listed: list[str]
) -> None:
    path = pack_parquet(tmp_path / "sub" / "p.parquet", {"file_name": paths, "n": range(len(paths))})
    source = open_source(str(path))
    assert source.root == tmp_path / root
    inside = str(tmp_path).lstrip("/")
    assert [item.path for item in source.items()] == [name.format(inside) for name in listed]
    assert [item.facts for item in source.items()] == [{"n": number} for number in range(len(paths))]


def saved(folder: Path, splits: dict[str, list[int]]) -> Path:
    """A data set as ``save_to_disk`` leaves it, in two files for each split."""
    from datasets import Dataset, DatasetDict, Features, Image, Value

    features = Features({"image": Image(), "caption": Value("string")})
    made = {
        name: Dataset.from_dict(
            {"image": [{"bytes": picture(s), "path": None} for s in seeds], "caption": [f"picture {s}" for s in seeds]},
            features=features,
        )
        for name, seeds in splits.items()
    }
    data = DatasetDict(made) if "" not in made else made[""]
    data.save_to_disk(str(folder), num_proc=None)
    return folder


def test_a_saved_data_set_is_read_where_it_is(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", {"": [0, 1, 2]})
    source = open_source(f"hf:{folder}")
    listed = [*source.items()]
    assert [item.path for item in listed] == [f"data-00000-of-00001.arrow/{row}" for row in range(3)]
    assert [item.caption for item in listed] == [f"picture {seed}" for seed in range(3)]
    assert [read_bytes(source.root / item.path) for item in listed] == [picture(seed) for seed in range(3)]


def test_a_saved_data_set_of_splits_has_all_of_them(tmp_path: Path) -> None:
    folder = saved(tmp_path / "set", {"train": [0, 1], "test": [2]})
    paths = [item.path for item in open_source(f"hf:{folder}").items()]
    file = "data-00000-of-00001.arrow"
    assert paths == [f"train/{file}/0", f"train/{file}/1", f"test/{file}/0"]
    assert [item.path for item in open_source(f"hf:{folder}/test").items()] == [f"{file}/0"]


def test_a_data_set_by_name_is_read_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    pack_parquet(tmp_path / "named" / "train.parquet", {"image": structs([0, 1, 2]), "text": ["a", "b", "c"]})
    source = open_source(f"hf:{tmp_path / 'named'}")
    listed = [*source.items()]
    assert [item.caption for item in listed] == ["a", "b", "c"]
    assert [read_bytes(source.root / item.path) for item in listed] == [picture(seed) for seed in range(3)]
    assert [*open_source(f"hf:{tmp_path / 'named'}:train").items()] == listed
    with pytest.raises(BuildError, match=r"the data set is a part of its files, or in memory.* save_to_disk"):
        open_source(f"hf:{tmp_path / 'named'}:train[:2]")


def test_a_data_set_of_files_names_them_and_the_classes_of_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    for seed, kind in enumerate(("cat", "dog", "cat")):
        (tmp_path / "named" / kind).mkdir(parents=True, exist_ok=True)
        (tmp_path / "named" / kind / f"{seed}.png").write_bytes(picture(seed))
    source = open_source(f"hf:{tmp_path / 'named'}")
    found = {read_bytes(source.root / item.path): item.facts for item in source.items()}
    assert found == {picture(seed): {"label": kind} for seed, kind in enumerate(("cat", "dog", "cat"))}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "no such folder of photos; got "),
        ("nothing.tar", "no such file; got "),
        ("{0..3}.tar", r"no such file; got .*/1\.tar"),
        ("x.tar.gz", "compressed archives cannot be read in place; got .*x.tar.gz; unpack it to a plain .tar"),
        ("x.tgz", "compressed archives cannot be read in place"),
        ("packed.tar", "a tar compressed with gzip cannot be read in place; got .*packed.tar; unpack it"),
        ("x.txt", "no source of images; got .*; give a folder, a .tar, a .parquet or .arrow file, or hf:NAME"),
        ("words.parquet", r"no column of images in words.parquet; got title string, n int64; name one with --image-co"),
        ("bad.parquet", r"cannot read the table; got bad.parquet: "),
        ("two.parquet", r"no column of images in two.parquet; got left struct<.*; name one with --image-column"),
        ("{0..9999999}.tar", "the pattern stands for more than 100,000 files"),
        ("x" * 5000, "no such folder of photos"),
    ],
)
def test_what_is_no_source_is_one_line(tmp_path: Path, name: str, message: str) -> None:
    pack_tar(tmp_path / "0.tar", {})
    for other in ("x.tar.gz", "x.tgz", "x.txt", "bad.parquet"):
        (tmp_path / other).write_bytes(b"x")
    with tarfile.open(tmp_path / "packed.tar", "w:gz"):
        pass
    pack_parquet(tmp_path / "words.parquet", {"title": ["a"], "n": [1]})
    pack_parquet(tmp_path / "two.parquet", {"left": structs([0]), "right": structs([0])})
    with pytest.raises(BuildError, match=message):
        open_source(str(tmp_path / name))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_column": "photo"}, r"no column 'photo' in p.parquet; got image struct<.*>, n int64; name one"),
        ({"image_column": "n"}, "the column 'n' holds neither images nor paths; got int64"),
        ({"caption_column": "words"}, "no column 'words' in p.parquet"),
        ({"caption_column": "n"}, "the column 'n' holds no words; got int64"),
    ],
)
def test_columns_that_are_not_there_are_one_line(tmp_path: Path, options: dict[str, str], message: str) -> None:
    path = pack_parquet(tmp_path / "p.parquet", {"image": structs([0]), "n": [1]})
    with pytest.raises(BuildError, match=message):
        open_source(str(path), **options)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"state.json": "{}"}, "the data set cannot be read; got .*'_data_files'"),
        ({"state.json": '{"_data_files": [{"filename": "../x.arrow"}]}'}, "the data set names a file outside its"),
        ({"dataset_dict.json": '{"splits": ["../x"]}'}, "the data set names a file outside its folder"),
        ({"state.json": '{"_data_files": [{"filename": "x.arrow"}]}'}, "no such file; got .*x.arrow"),
        ({"README.md": "x"}, "the data set cannot be loaded; got "),
    ],
)
def test_a_data_set_that_is_none_is_one_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(BuildError, match=message):
        open_source(f"hf:{tmp_path}")


def test_a_folder_of_something_else_is_told_what_to_write(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    assert other_source(folder) is None
    (tmp_path / "0.parquet").write_bytes(b"x")
    assert other_source(folder) == f"name the files in it: {tmp_path}/*.parquet"
    (tmp_path / "state.json").write_bytes(b"x")
    assert other_source(folder) == f"a saved data set is read as hf:{tmp_path}"


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("a{00..02}b", ["a00b", "a01b", "a02b"]),
        ("{8..10}", ["8", "9", "10"]),
        ("{08..10}", ["08", "09", "10"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{a,b}{0..1}", ["a0", "a1", "b0", "b1"]),
        ("{a}", ["{a}"]),
        ("{}", ["{}"]),
        ("plain", ["plain"]),
        ("{,x}", ["", "x"]),
        ("{a..c}", ["{a..c}"]),
        ("{0..4..2}", ["{0..4..2}"]),
    ],
)
def test_expanded_reads_braces_as_a_shell_does(pattern: str, words: list[str]) -> None:
    assert expanded(pattern) == words


FACTS: Any = st.dictionaries(
    st.sampled_from("abc"), st.one_of(st.integers(-9, 9), st.floats(0, 1), st.text(max_size=3))
)
LISTED = st.builds(Item, st.text(min_size=1, max_size=9), st.none() | st.text(max_size=9), FACTS)


@given(listed=st.lists(LISTED, max_size=9), start=st.integers(0, 9), length=st.integers(0, 9))
def test_the_list_on_disk_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, listed: list[Item], start: int, length: int
) -> None:
    path = tmp_path_factory.mktemp("scan") / "scan.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexing.scan.CHUNK", 4)
        assert write_items(listed, path) == len(listed)
        assert read_items(path, start, start + length) == listed[start : start + length]
        assert read_scan(path, start, start + length) == [item.path for item in listed[start : start + length]]
    names = {name for item in listed for name in item.facts}
    assert read_columns(path).types.keys() == names


def test_a_list_of_an_older_build_is_read(tmp_path: Path) -> None:
    old = pa.table({"path": ["a.png"], "path_bytes": pa.array([None], pa.binary())})
    pq.write_table(old, tmp_path / "scan.parquet")
    assert read_items(tmp_path / "scan.parquet", 0, 5) == [Item("a.png")]
    assert read_columns(tmp_path / "scan.parquet").types == {}


def test_arrow_files_are_sources(tmp_path: Path) -> None:
    path = pack_arrow(tmp_path / "a.arrow", {"image": pa.array([{"bytes": picture(0), "path": None}], IMAGE), "n": [4]})
    assert items(path) == [Item("a.arrow/0", None, {"n": 4})]
