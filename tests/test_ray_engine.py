"""Embedding on a cluster: the bytes of a local build, whatever is killed; one line where there is no cluster."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from building import Recorder, colour_environment, colour_plugin, here, same_contents, save_blotches, simat
from helpers import ColourEncoder, PixelColourEncoder
from hypothesis import given
from hypothesis import strategies as st
from ray_clusters import EAGER, Ends, Interrupting, Nodes, cluster

from indexing import ray_engine
from indexing.build import build_index
from indexing.config import BuildConfig, Machine
from indexing.ray_cluster import Crew, connected
from indexing.ray_engine import RayEmbedder
from indexing.ray_worker import Part, PartWorker, Setup, ordered_paths, packed_paths, unpacked
from indexing.scan import read_scan
from simat.encoders.runtime import RuntimeOptions
from simat.errors import BuildError, EncoderError
from simat.reach import listens
from simat.types import EmbeddingSpace

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures; copies within a part and of earlier parts, files that are none, a name that is not Unicode."""
    root = save_blotches(tmp_path_factory.mktemp("ray") / "photos", 40)
    for copy, original in (("0001b", "0001"), ("0017b", "0001"), ("0030b", "0029"), ("0038b", "0017")):
        shutil.copy(root / f"{original}.png", root / f"{copy}.png")
    for name in ("0002x", "0021x", "0022x"):
        (root / f"{name}.png").write_bytes(name.encode())
    shutil.copy(root / "0005.png", os.fsencode(root) + b"/\xff.png")
    return root


@pytest.fixture(scope="module")
def config(photos: Path) -> BuildConfig:
    return BuildConfig(str(photos), encoder="colours", part_size=6)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory, config: BuildConfig) -> Path:
    """The index that this machine makes alone."""
    folder = tmp_path_factory.mktemp("local") / "index"
    assert build_index(folder, config, Machine(workers=1), encoder=PixelColourEncoder()).duplicates == 5
    return folder


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


def test_a_cluster_writes_the_bytes_of_a_local_build(
    tmp_path: Path, local: Path, config: BuildConfig, nodes: Nodes
) -> None:
    told = nodes.build(tmp_path, config)()
    assert same_contents(tmp_path / "index", local)
    assert "2 workers of 1 cores each" in told["notes"]
    assert told["advanced"]["embed"] == 48


def test_an_interrupted_build_resumes_on_either_engine(
    tmp_path: Path, local: Path, config: BuildConfig, nodes: Nodes
) -> None:
    nodes.build(tmp_path, config, images=18)()
    parts = sorted(path.name for path in (tmp_path / "index/embeddings").glob("part-*.parquet"))
    assert parts == [f"part-{i:06}.parquet" for i in range(3)]
    with pytest.raises(Ends):
        build_index(tmp_path / "index", config, Machine(workers=1), Interrupting.after(30), PixelColourEncoder())
    told = nodes.build(tmp_path, config)()
    assert same_contents(tmp_path / "index", local)
    assert told["notes"][0].startswith("resuming after 4 finished parts")


def test_a_node_that_dies_at_work_is_survived(tmp_path: Path, local: Path, config: BuildConfig, nodes: Nodes) -> None:
    doomed = nodes.ask("join")
    end = nodes.build(tmp_path, config, endless=doomed)
    nodes.await_mark(tmp_path, doomed)
    nodes.ask(f"kill {doomed}")
    told = end()
    assert same_contents(tmp_path / "index", local)
    assert any(note.startswith("workers were lost: going on") for note in told["notes"])


class Losing(RayEmbedder):
    """Embeds in this process; loses its workers after so many parts of each stream."""

    ends: Iterator[int] = iter(())
    asked: ClassVar[list[int]] = []

    def _embedded(self, scan: Path, starts: Sequence[int], progress: Any) -> Generator[Part, None, None]:
        from ray.exceptions import NodeDiedError

        self.asked.append(len(starts))
        worker, end = PartWorker(setup(self._root, PixelColourEncoder())), next(self.ends, len(starts))
        for start in starts[:end]:
            yield from unpacked(worker(packed_paths(read_scan(scan, start, start + self._part_size))))
        if end < len(starts):
            raise NodeDiedError("it rained in")


@pytest.fixture
def losing(monkeypatch: pytest.MonkeyPatch) -> type[Losing]:
    monkeypatch.setattr(ray_engine, "RayEmbedder", Losing)
    monkeypatch.setattr(ray_engine, "connected", lambda *_: nullcontext())
    monkeypatch.setattr(ray_engine, "WAVE", 3)
    monkeypatch.setattr(Losing, "asked", [])
    return Losing


@pytest.mark.parametrize(
    ("ends", "asked"),
    [([], [3, 3, 2]), ([1, 0, 2], [3, 3, 3, 3, 2]), ([2, 0, 1, 0], [3, 3, 3, 3, 3, 2])],
)
def test_whatever_is_lost_on_the_way_the_bytes_are_those_of_a_local_build(
    tmp_path: Path, local: Path, config: BuildConfig, losing: type[Losing], ends: list[int], asked: list[int]
) -> None:
    losing.ends, recorder = iter(ends), Recorder.new()
    build_index(tmp_path / "index", config, Machine(engine="ray"), recorder, PixelColourEncoder())
    assert same_contents(tmp_path / "index", local)
    assert losing.asked == asked
    assert sum(note.startswith("workers were lost") for note in recorder.notes) == len(ends)
    assert recorder.advanced["embed"] == 48


def test_the_larger_parts_are_the_fewer_are_handed_over_at_a_time(
    tmp_path: Path, local: Path, config: BuildConfig, losing: type[Losing], monkeypatch: pytest.MonkeyPatch
) -> None:
    for files, asked in ((17, [2, 2, 2, 2]), (5, [1] * 8)):
        monkeypatch.setattr(ray_engine, "WAVE_FILES", files)
        monkeypatch.setattr(Losing, "asked", [])
        build_index(tmp_path / str(files), config, Machine(engine="ray"), None, PixelColourEncoder())
        assert losing.asked == asked
        assert same_contents(tmp_path / str(files), local)


def test_parts_that_would_be_too_many_are_as_large_as_those_of_a_local_build(
    tmp_path: Path, config: BuildConfig, losing: type[Losing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexing.config.MOST_PARTS", 3)
    monkeypatch.setattr("indexing.config.ROW_GROUP", 4)
    for name, machine in (("ray", Machine(engine="ray")), ("local", Machine(workers=1))):
        build_index(tmp_path / name, config, machine, None, PixelColourEncoder())
    assert losing.asked == [3]
    assert same_contents(tmp_path / "ray", tmp_path / "local")


def test_workers_that_are_always_lost_are_given_up_and_what_is_there_stays(
    tmp_path: Path, local: Path, config: BuildConfig, losing: type[Losing]
) -> None:
    losing.ends, encoder = iter([2, 0, 0]), PixelColourEncoder()
    told = r"workers were lost 3 times before any could finish a part; got it rained in; look at the machines' memory"
    with pytest.raises(BuildError, match=told):
        build_index(tmp_path / "index", config, Machine(engine="ray"), None, encoder)
    recorder = Recorder.new()
    build_index(tmp_path / "index", config, Machine(workers=1), recorder, encoder)
    assert recorder.notes[0].startswith("resuming after 2 finished parts")
    assert same_contents(tmp_path / "index", local)


def test_a_machine_with_other_weights_is_named(tmp_path: Path, photos: Path) -> None:
    worker = PartWorker(setup(photos, ColourEncoder("another")))
    with pytest.raises(BuildError, match=r"has other weights of the encoder; got colours .*another.*; install"):
        [*unpacked(worker(packed_paths(["0001.png"])))]


def test_a_machine_without_the_photos_is_named(tmp_path: Path) -> None:
    worker = PartWorker(setup(tmp_path / "absent", ColourEncoder()))
    with pytest.raises(BuildError, match=r"does not see the folder of photos; got .*absent; mount it there"):
        [*unpacked(worker(packed_paths(["0001.png"])))]


def test_an_error_of_the_encoder_comes_home_with_all_it_says(photos: Path) -> None:
    class Broken(ColourEncoder):
        def encode_images(self, images: list[Any]) -> np.ndarray:
            return np.full((len(images), self.space.dim), np.nan, np.float32)

    with pytest.raises(EncoderError, match=r"returned no finite vectors of its dimension; got \(1, 49\)"):
        [*unpacked(PartWorker(setup(photos, Broken()))(packed_paths(["0001.png"])))]


def test_a_worker_embeds_a_part_alone(photos: Path) -> None:
    names = ["0001.png", "0001b.png", "0002x.png", os.fsdecode(b"\xff.png")]
    (part,) = unpacked(PartWorker(setup(photos, PixelColourEncoder()))(packed_paths(names)))
    assert [row.path for row in part.rows] == [names[0], names[1], names[3]]
    assert [item.path for item in part.rejected] == ["0002x.png"]
    assert np.array_equal(part.vectors[0], part.vectors[1])
    assert not np.array_equal(part.vectors[0], part.vectors[2])


def test_parts_that_come_together_are_done_one_by_one(photos: Path) -> None:
    import pyarrow as pa

    together = pa.concat_tables([packed_paths(["0001.png", "0002.png"]), packed_paths(["0003.png"])])
    parts = unpacked(PartWorker(setup(photos, PixelColourEncoder()))(together))
    assert [[row.path for row in part.rows] for part in parts] == [["0001.png", "0002.png"], ["0003.png"]]


@given(st.lists(st.text(st.characters() | st.characters(categories=["Cs"])), min_size=1))
def test_whatever_a_path_is_made_of_it_arrives(paths: list[str]) -> None:
    assert [*ordered_paths(packed_paths(paths))] == [paths]


def setup(root: Path, encoder: Any) -> Setup:
    space = EmbeddingSpace("colours", "c0104e", ColourEncoder().space.dim)
    return Setup(str(root), space, encoder, RuntimeOptions(), 1)


machines = st.lists(st.integers(1, 64), min_size=1, max_size=8)


@given(machines)
def test_a_crew_fits_its_machines_and_leaves_no_room_for_another(cores: list[int]) -> None:
    crew = Crew.of([{"CPU": float(count)} for count in cores], "auto")
    assert crew.size == sum(count // int(crew.cpus) for count in cores)
    assert (crew.gpus, crew.threads) == (0, min(cores))


@pytest.mark.parametrize(
    ("machines", "device", "expected"),
    [
        ([{"CPU": 16.0}, {"CPU": 16.0}], "auto", Crew(2, 16.0, 0, 16)),
        ([{"CPU": 4.0}, {"CPU": 16.0}], "auto", Crew(5, 4.0, 0, 4)),
        ([{"CPU": 0.0}, {"CPU": 8.0}, {}], "cpu", Crew(1, 8.0, 0, 8)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}], "auto", Crew(2, 8.0, 1, 8)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0}], "cpu", Crew(5, 16.0, 0, 16)),
        ([{"CPU": 2.0, "GPU": 4.0}], "cuda", Crew(4, 0.5, 1, 1)),
    ],
)
def test_crews_of_known_clusters(machines: list[dict[str, float]], device: str, expected: Crew) -> None:
    assert Crew.of(machines, device) == expected


@pytest.mark.parametrize(
    ("machines", "device", "message"),
    [([{"CPU": 4.0}], "cuda", "no machine of the cluster has a GPU"), ([{}], "auto", "offers a core")],
)
def test_a_cluster_that_cannot_work_is_refused(machines: list[dict[str, float]], device: str, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        Crew.of(machines, device)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:6379", "a..b:1", "[::1]:1"])
def test_a_cluster_that_does_not_answer_is_one_line_within_seconds(address: str) -> None:
    started = time.monotonic()
    with (
        pytest.raises(BuildError, match=f"no Ray cluster answers; got {re.escape(address)}: .*; start one: ray start"),
        connected(address, 1),
    ):
        pytest.fail("connected")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("address", ["", "6379", "host", "ray://host:10001", "host:port", "host:65536", "host:²"])
def test_what_is_no_address_of_a_cluster_is_refused(address: str) -> None:
    with pytest.raises(BuildError, match="not the address of a Ray cluster"), connected(address, 1):
        pytest.fail("connected")


def test_a_cluster_that_cannot_be_joined_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.1\n    Python: 3.8")

    monkeypatch.setattr("ray.init", refuse)
    told = (
        r"cannot join the Ray cluster; got auto: Version mismatch: .* Ray: 2.1 Python: 3.8; start one: .* same Python"
    )
    with pytest.raises(BuildError, match=told), connected("auto", 1):
        pytest.fail("connected")


def test_without_ray_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BuildError, match=r"ray is not installed; pip install 'simat\[ray\]'"), connected(None, 1):
        pytest.fail("connected")


def test_listens_says_why_nobody_does() -> None:
    assert listens("127.0.0.1", 1) == "Connection refused"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--engine", "dask"], "no such engine; got 'dask'; use local or ray"),
        (["--address", "auto"], "an address is of a Ray cluster; got auto; give --engine ray as well"),
    ],
)
def test_the_command_refuses_engines_it_does_not_know(
    tmp_path: Path, options: list[str], message: str, capsys: Any
) -> None:
    assert here(capsys, "index", "build", tmp_path, tmp_path / "index", *options).error == message


def test_the_command_builds_on_a_cluster_of_this_machine(tmp_path: Path, photos: Path, local: Path) -> None:
    (tmp_path / "settings.toml").write_text("part_size = 6\n")
    command = ["index", "build", str(photos), str(tmp_path / "index"), "--encoder", "colours", "--engine", "ray"]
    environment = colour_environment(colour_plugin(tmp_path / "plugin")) | EAGER
    ran = simat(*command, "--config", tmp_path / "settings.toml", "--workers", "1", "--json", extra=environment)
    assert ran.json["images"] == 45
    assert [line for line in ran.err.splitlines() if not line.startswith("{")] == []
    assert same_contents(tmp_path / "index", local)
