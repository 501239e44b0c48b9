"""Whole builds from packed sources: the same index as from files, with captions and columns, whatever happens."""

from __future__ import annotations

import os
import random
import resource
import shutil
import tarfile
import time
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from building import (
    CountingEncoder,
    Interrupted,
    Recorder,
    colour_environment,
    colour_plugin,
    contents,
    here,
    plugged_in,
    same_contents,
    start,
    without_processes,
)
from fastapi.testclient import TestClient
from helpers import ColourEncoder, PixelColourEncoder
from packed import IMAGE, not_utf8, pack_arrow, pack_parquet, pack_tar, picture, samples, special, structs

import simat as front
from indexing.build import build_index
from indexing.config import BuildConfig, Machine
from indexing.inspect import verify_index
from simat.embeddings import EmbeddingSet, schema
from simat.errors import BuildError
from simat.server.app import create_app
from simat.server.service import Service

COUNT = 14
SPOILED = {3: b"no picture", 8: picture(1)}  # one that is none, and a copy of another


def files() -> list[bytes]:
    return [SPOILED.get(seed, picture(seed)) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same fourteen files in a folder, in two tars, and in the rows of tables."""
    place = tmp_path_factory.mktemp("sources")
    named = {f"{seed:04}.png": data for seed, data in enumerate(files())}
    words = {f"{seed:04}.txt": f"picture {seed}".encode() for seed in range(COUNT)}
    facts = {f"{seed:04}.json": b'{"seed": %d, "width": 9}' % seed for seed in range(COUNT)}
    (place / "folder").mkdir()
    for name, data in {**named, **words, **facts}.items():
        (place / "folder" / name).write_bytes(data)
    for shard in range(2):
        ours = [name for name in sorted({**named, **words, **facts}) if int(name[:4]) // 7 == shard]
        pack_tar(place / f"{shard:05}.tar", {name: {**named, **words, **facts}[name] for name in ours})
    columns = {
        "image": pa.array([{"bytes": data, "path": None} for data in files()], IMAGE),
        "caption": [f"picture {seed}" for seed in range(COUNT)],
        "seed": range(COUNT),
        "width": [9] * COUNT,
    }
    pack_parquet(place / "rows.parquet", columns)
    pack_arrow(place / "rows.arrow", columns)
    paths = {**columns, "image": [f"folder/{name}" for name in named]}
    pack_parquet(place / "paths.parquet", paths)
    return place


SOURCES = {
    "folder": lambda place: str(place / "folder"),
    "tars": lambda place: str(place / "{00000..00001}.tar"),
    "parquet": lambda place: str(place / "rows.parquet"),
    "arrow": lambda place: str(place / "rows.arrow"),
    "paths": lambda place: str(place / "paths.parquet"),
}
PATHS = {
    "folder": lambda seed: f"{seed:04}.png",
    "tars": lambda seed: f"{seed // 7:05}.tar/{seed:04}.png",
    "parquet": lambda seed: f"rows.parquet/{seed}",
    "arrow": lambda seed: f"rows.arrow/{seed}",
    "paths": lambda seed: f"folder/{seed:04}.png",
}


@pytest.fixture(scope="module", params=[*SOURCES])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def index(place: Path, kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("indexes") / kind
    make(folder, SOURCES[kind](place), decoders=True)
    return folder


def make(
    folder: Path, photos: str, encoder: Any = None, recorder: Recorder | None = None, decoders: bool = False
) -> Any:
    config = BuildConfig(photos, encoder="colours", part_size=4)
    with nullcontext() if decoders else without_processes():
        return build_index(folder, config, Machine(workers=1), recorder, encoder or PixelColourEncoder())


def test_every_source_gives_the_same_vectors_captions_and_columns(index: Path, kind: str) -> None:
    embeddings = EmbeddingSet(index / "embeddings")
    seeds = [seed for seed in range(COUNT) if seed != 3]
    ids = np.arange(len(embeddings))
    rows = embeddings.rows(ids)
    assert [row.path for row in rows] == [PATHS[kind](seed) for seed in seeds]
    assert [row.caption for row in rows] == [f"picture {seed}" for seed in seeds]
    assert {(row.width, row.height) for row in rows} == {(48, 32)}
    encoder = PixelColourEncoder()
    import io

    from PIL import Image

    expected = encoder.encode_images([Image.open(io.BytesIO(files()[seed])) for seed in seeds])
    assert np.abs(embeddings.vectors(ids) - expected).max() < 1e-3
    tables = [pq.read_table(path) for path in sorted((index / "embeddings").glob("part-*.parquet"))]
    assert [table.column_names for table in tables] == [
        [*schema(1).names[:-1], "seed", "source_width", "embedding"]
    ] * len(tables)
    assert pa.concat_tables(tables)["seed"].to_pylist() == seeds
    assert embeddings.manifest.duplicates == 1
    assert [item.path for item in embeddings.rejected()] == [PATHS[kind](3)]
    assert embeddings.rejected()[0].reason.startswith("not an image in a format we read")
    assert verify_index(index)["rows"] == len(rows)


def test_a_found_picture_is_opened_where_it_is(index: Path) -> None:
    engine = front.open(index, PixelColourEncoder())
    best = engine.search(image=5, k=1, include_self=True)[0]
    assert best.path is not None
    again = engine.search(image=best.path, k=1, include_self=True)[0]
    assert (again.id, round(again.score, 4)) == (5, 1.0)
    assert [result.id for result in engine.search(image=best.path, k=1)] != [5]  # known by its bytes


def test_the_server_sends_pictures_from_inside_containers(index: Path) -> None:
    with closing(Service([front.open(index, ColourEncoder())])) as service:
        client = TestClient(create_app(service, page=False))
        assert client.get("/v1/images/5").content == picture(6)
        assert client.get("/v1/images/5/thumbnail").headers["content-type"] == "image/jpeg"
        told = client.post("/metadata", json={"ids": [0, 5], "indice_name": service.names[0]}).json()
        assert [bool(one["metadata"]["image"]) for one in told] == [True, True]


def test_an_interrupted_build_goes_on_to_the_same_bytes(place: Path, kind: str, index: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        make(tmp_path / "index", SOURCES[kind](place), CountingEncoder(8))
    assert (tmp_path / "index" / "building.json").exists()
    make(tmp_path / "index", SOURCES[kind](place))
    assert same_contents(tmp_path / "index", index)


def test_projecting_keeps_the_further_columns(index: Path, tmp_path: Path) -> None:
    from simat.embeddings import write_projected

    path = index / "embeddings" / "part-000000.parquet"
    table = pq.read_table(path)
    write_projected(tmp_path / "part.parquet", table, np.eye(len(table), 5, dtype=np.float32))
    again = pq.read_table(tmp_path / "part.parquet")
    assert again.drop_columns("embedding") == table.drop_columns("embedding")
    assert again.schema.field("embedding").type.list_size == 5


def test_a_folder_without_words_gives_parts_without_further_columns(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(picture(1))
    make(tmp_path / "index", str(tmp_path / "photos"))
    table = pq.read_table(tmp_path / "index" / "embeddings" / "part-000000.parquet")
    assert table.schema.equals(schema(PixelColourEncoder().space.dim))
    assert table["caption"].to_pylist() == [None]


def test_a_tar_cut_short_gives_what_is_whole_and_says_the_rest(place: Path, tmp_path: Path) -> None:
    data = (place / "00000.tar").read_bytes()
    at = data.index(picture(5)) + 100
    (tmp_path / "cut.tar").write_bytes(data[:at])
    shutil.copy(place / "00001.tar", tmp_path / "whole.tar")
    built = make(tmp_path / "index", f"{tmp_path}/cut.tar::{tmp_path}/whole.tar")
    assert built.manifest.rows == 4 + 7  # pictures 0, 1, 2 and 4, and the second tar
    reasons = {item.path: item.reason.partition(";")[0] for item in built.rejected}
    assert reasons == {
        "cut.tar/0003.png": "not an image in a format we read",
        "cut.tar/0005.png": "the tar is cut short inside this file",
        "cut.tar": "the tar is cut short inside a file",
    }


def test_a_tar_of_traps_gives_its_one_picture(tmp_path: Path) -> None:
    nul, huge = special("nul.png", tarfile.REGTYPE), special("huge.png", tarfile.REGTYPE)
    nul.pax_headers, huge.size = {"path": "n\0ul.png"}, 10**12
    traps = {
        "/etc/abs.png": picture(1),
        "../up.png": picture(2),
        "link.png": special("link.png", tarfile.SYMTYPE, "/etc/passwd"),
        "tty.png": special("tty.png", tarfile.CHRTYPE),
        "sparse.png": special("sparse.png", tarfile.GNUTYPE_SPARSE),
        "nul.png": nul,
        f"{'long' * 50}/good.png": picture(3),
        "picture.png": b"\x1f\x8b" + b"a tar inside gzip",
    }
    path = pack_tar(tmp_path / "t.tar", traps)
    path.write_bytes(path.read_bytes().rstrip(b"\0") + bytes(-len(path.read_bytes().rstrip(b"\0")) % 512))
    with path.open("ab") as file:
        file.write(huge.tobuf(tarfile.GNU_FORMAT) + b"far fewer bytes")
    built = make(tmp_path / "index", str(path), decoders=True)
    assert [
        row.path for row in EmbeddingSet(tmp_path / "index" / "embeddings").rows(np.arange(built.manifest.rows))
    ] == [f"t.tar/{'long' * 50}/good.png"]
    assert [(item.path, item.reason.partition(";")[0]) for item in built.rejected] == [
        ("t.tar/etc/abs.png", "an absolute name inside a tar"),
        ("t.tar/.../up.png", "a name inside a tar that leads out of it"),
        ("t.tar/link.png", "a link inside a tar"),
        ("t.tar/tty.png", "a device inside a tar"),
        ("t.tar/sparse.png", "a sparse file inside a tar"),
        ("t.tar/n\ufffdul.png", "a name inside a tar that leads out of it"),
        ("t.tar/picture.png", "not an image in a format we read"),
        ("t.tar/huge.png", "the tar is cut short inside this file"),
        ("t.tar", "the tar is cut short inside a file"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "t.tar"]


def test_a_table_of_traps_gives_its_one_picture(tmp_path: Path) -> None:
    (tmp_path / "far.png").write_bytes(picture(1))
    pack_tar(tmp_path / "t.tar", {"in.png": picture(2)})
    os.mkfifo(tmp_path / "pipe")
    # The first one stays inside: the others are read through their rows.
    named = ["gone.png", "../far.png", "/dev/zero", "../pipe", "..", "traps.parquet/1", "../t.tar/in.png", "a\0b"]
    table = pack_parquet(tmp_path / "p" / "traps.parquet", {"path": named})
    built = make(tmp_path / "index", str(table), decoders=True)
    embeddings = EmbeddingSet(tmp_path / "index" / "embeddings")
    assert embeddings.root == tmp_path / "p"
    assert [row.path for row in embeddings.rows(np.arange(built.manifest.rows))] == ["traps.parquet/1"] * 2
    assert [(item.path, item.reason.partition(";")[0]) for item in built.rejected] == [
        ("gone.png", "cannot read the file: No such file or directory"),
        ("traps.parquet/2", "not a regular file"),
        ("traps.parquet/3", "not a regular file"),
        ("traps.parquet/4", "a folder that cannot be read"),
        ("traps.parquet/6", "the row names a file inside another one"),
        ("traps.parquet/7", "cannot read the file: embedded null byte"),
    ]


def test_rows_without_pictures_are_rejected(tmp_path: Path) -> None:
    column = pa.array(
        [{"bytes": picture(0), "path": None}, None, {"bytes": None, "path": None}, {"bytes": b"", "path": ""}], IMAGE
    )
    built = make(tmp_path / "index", str(pack_parquet(tmp_path / "p.parquet", {"image": column})))
    assert built.manifest.rows == 1
    reasons = [(item.path, item.reason.partition(";")[0]) for item in built.rejected]
    assert reasons == [(f"p.parquet/{row}", "the row holds no image") for row in (1, 2, 3)]


def test_values_that_are_none_are_told_and_cost_no_picture(tmp_path: Path) -> None:
    columns = {"image": structs([0, 1]), "caption": not_utf8("zero", b"\xff")}
    recorder = Recorder.new()
    built = make(tmp_path / "index", str(pack_parquet(tmp_path / "p.parquet", columns)), recorder=recorder)
    assert built.manifest.rows == 2
    assert "1 files beside images, or values of tables, cannot be read: left out" in recorder.notes


def test_a_path_that_is_no_text_is_rejected_without_the_end_of_a_decoder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(0))
    table = pack_parquet(tmp_path / "p.parquet", {"path": not_utf8("a.png", b"\xff")})
    built = make(tmp_path / "index", str(table), decoders=True)
    assert built.manifest.rows == 1
    assert [(item.path, item.reason.partition(":")[0]) for item in built.rejected] == [
        ("p.parquet/1", "cannot read the table; got p.parquet")
    ]


@pytest.mark.parametrize("name", ["a.tar", "a.parquet"])
def test_a_file_without_pictures_gets_no_advice_for_folders(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    pack_tar(path, {}) if path.suffix == ".tar" else pack_parquet(path, {"image": structs([])})
    with pytest.raises(BuildError, match=rf"^no image files here; got {path}$"):
        make(tmp_path / "index", str(path))


FULL = r"cannot write any more: No space left on device; got .*; make room, and give the same command again: it goes on"


class Filling(Recorder):
    """Lets the disk be full from some stage on: one file of that stage is ``/dev/full``."""

    full: dict[str, Path]

    def start(self, stage: str, total: int | None, unit: str) -> None:
        super().start(stage, total, unit)
        if (path := self.full.get(stage)) is not None:
            path.with_name(f".{path.name}.full.tmp").symlink_to("/dev/full")


@pytest.mark.parametrize("kind", ["tars", "parquet"], indirect=True)
@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("scan", "scan.parquet"),
        ("embed", "embeddings/part-000002.parquet"),
        ("measure", "manifest.json"),
    ],
)
def test_a_disk_that_fills_up_loses_nothing(
    place: Path, kind: str, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, name: str
) -> None:
    recorder = Filling.new()
    recorder.full = {stage: tmp_path / "index" / name}
    with monkeypatch.context() as patch, pytest.raises(BuildError, match=FULL):
        patch.setattr("simat.files.uuid.uuid4", lambda: SimpleNamespace(hex="full"))
        make(tmp_path / "index", SOURCES[kind](place), recorder=recorder)
    assert not [path for path in tmp_path.rglob("*.tmp") if path.is_symlink()]
    make(tmp_path / "index", SOURCES[kind](place))
    assert same_contents(tmp_path / "index", index)


@pytest.mark.parametrize("kind", ["tars", "parquet"], indirect=True)
def test_a_build_in_too_little_room_ends_in_one_line_wherever_it_is(
    place: Path, kind: str, index: Path, tmp_path: Path
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    said = set()
    for size in (100, 1000, 2000, 3000, 3500, 4000, 4500, 5000, 10_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            make(tmp_path / "index", SOURCES[kind](place))  # each goes on where the one before had to end
        except BuildError as error:
            assert error.got is not None
            assert error.remedy is not None
            said.add(error.what.partition(":")[0])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot write any more" in said
    make(tmp_path / "index", SOURCES[kind](place))
    assert same_contents(tmp_path / "index", index)


def test_an_interrupted_build_goes_on_in_the_root_of_its_list(tmp_path: Path) -> None:
    for seed in range(6):
        (tmp_path / "p" / "sub").mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / "sub" / f"{seed}.png").write_bytes(picture(seed))
    inside = [f"sub/{seed}.png" for seed in range(6)]
    table = pack_parquet(tmp_path / "p" / "t.parquet", {"path": inside})
    with pytest.raises(Interrupted):
        make(tmp_path / "index", str(table), CountingEncoder(4))
    pack_parquet(table, {"path": ["/far/away.png"]})
    built = make(tmp_path / "index", str(table))
    assert (built.manifest.rows, built.rejected) == (6, [])
    assert EmbeddingSet(tmp_path / "index" / "embeddings").root == tmp_path / "p"


def test_documents_that_say_nothing_are_told(tmp_path: Path) -> None:
    files = {**samples(0, 2), "0001.json": b"{"}
    recorder = Recorder.new()
    make(tmp_path / "index", str(pack_tar(tmp_path / "t.tar", files)), recorder=recorder)
    assert "1 files beside images, or values of tables, cannot be read: left out" in recorder.notes


def test_only_a_damaged_tar_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.tar").write_bytes(b"hello, world" * 100)
    with pytest.raises(BuildError, match=r"none of the 1 image files can be read; got 't.tar': not a tar"):
        make(tmp_path / "index", str(tmp_path / "t.tar"))
    assert not (tmp_path / "index").exists()


def test_the_command_takes_several_sources_and_columns(place: Path, tmp_path: Path, capsys: Any) -> None:
    with plugged_in(colour_plugin(tmp_path / "plugin")):
        tars = place / "00000.tar", place / "00001.tar"
        ran = here(capsys, "index", "build", *tars, tmp_path / "index", "--encoder", "colours", "--json")
        assert (ran.json["images"], ran.json["duplicates"], ran.json["rejected"]) == (COUNT - 1, 1, 1)
        inside = str(tars[0] / "0005.png")
        for command in (["search", "--image", inside], ["edit", inside, "red -> red"]):
            asked = [command[0], str(tmp_path / "index"), *command[1:], "--include-self", "-k", "1", "--json"]
            assert [result["path"] for result in here(capsys, *asked).json["results"]] == [inside]
        chosen = "--image-column", "image", "--caption-column", "caption", "--encoder", "colours", "--json"
        ran = here(capsys, "index", "build", place / "rows.parquet", tmp_path / "other", *chosen)
        assert ran.json["images"] == COUNT - 1
        again = here(capsys, "index", "build", place / "rows.parquet", tmp_path / "other", "--encoder", "colours")
        assert "was begun with other settings; got image_column 'image' -> ''" in again.error


@pytest.mark.parametrize("kind", ["tars", "parquet"], indirect=True)
def test_a_build_killed_at_random_moments_ends_with_the_same_bytes(
    place: Path, kind: str, tmp_path: Path, capsys: Any
) -> None:
    environment = colour_environment(colour_plugin(tmp_path / "plugin"))
    (tmp_path / "settings.toml").write_text("part_size = 2\n")

    def arguments(name: str) -> list[str]:
        flags = "--encoder", "colours", "--config", str(tmp_path / "settings.toml"), "--workers", "2", "--json"
        return ["index", "build", SOURCES[kind](place), str(tmp_path / name), *flags]

    with plugged_in(tmp_path / "plugin"):
        assert here(capsys, *arguments("whole")).code == 0
    rng = random.Random(5)
    killed = 0
    for files in (2, 5, 8):
        process = start(*arguments("killed"), extra=environment)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if len(contents_now(tmp_path / "killed")) >= files:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.03))
        killed += process.poll() is None
        process.kill()
        process.communicate()
    assert killed >= 2
    with plugged_in(tmp_path / "plugin"):
        assert here(capsys, *arguments("killed")).code == 0
    assert same_contents(tmp_path / "killed", tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) > 8


def contents_now(folder: Path) -> list[str]:
    """The names of all files, of a folder in which some come and go."""
    return [name for _, _, names in os.walk(folder) for name in names]
