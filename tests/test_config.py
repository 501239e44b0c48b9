"""Settings of a build: flags over file over defaults, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.config import MOST_PARTS, BuildConfig, Machine
from simat.embeddings import ROW_GROUP
from simat.errors import BuildError

SETTINGS = {
    "encoder": st.sampled_from(["offline", "open_clip:A/b"]),
    "factory": st.sampled_from(["auto", "Flat", "IVF8,Flat"]),
    "part_size": st.integers(1, 10**6),
    "shard_size": st.integers(1, 10**7),
    "target_recall": st.floats(0.01, 1),
    "seed": st.integers(0, 99),
}


def toml(folder: Path, text: str | bytes) -> Path:
    file = folder / "settings.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@given(in_file=st.fixed_dictionaries({}, optional=SETTINGS), flags=st.fixed_dictionaries({}, optional=SETTINGS))
def test_read_lays_flags_over_the_file_over_the_defaults(
    tmp_path_factory: pytest.TempPathFactory, in_file: dict[str, Any], flags: dict[str, Any]
) -> None:
    lines = [f'{name} = "{v}"' if isinstance(v, str) else f"{name} = {v!r}" for name, v in in_file.items()]
    file = toml(tmp_path_factory.mktemp("toml"), "\n".join(lines))
    unset = dict.fromkeys(SETTINGS)
    read = BuildConfig.read(file, {"photos": "/photos", **unset, **flags})
    assert read == replace(BuildConfig("/photos"), **{**in_file, **flags})


@given(size=st.integers(1, 10**6), rows=st.integers(0, 10**10))
def test_parts_have_the_size_asked_for_unless_they_would_be_too_many(size: int, rows: int) -> None:
    found = BuildConfig("/photos", part_size=size).part_rows(rows)
    assert -(-rows // found) <= MOST_PARTS
    if -(-rows // size) <= MOST_PARTS:
        assert found == size
    else:
        assert found > size and found % ROW_GROUP == 0 and (found - ROW_GROUP) * MOST_PARTS < rows


def test_as_dict_has_every_setting_by_its_stable_name() -> None:
    assert BuildConfig("/photos").as_dict() == {
        "photos": "/photos",
        "encoder": "offline",
        "heads": "",
        "precision": "f32",
        "factory": "auto",
        "part_size": 4096,
        "shard_size": 1_000_000,
        "memory": 4 * 2**30,
        "build_memory": 4 * 2**30,
        "target_recall": 0.95,
        "seed": 0,
        "image_column": "",
        "caption_column": "",
    }


@pytest.mark.parametrize(
    ("setting", "value"), [("part_size", 0), ("shard_size", -1), ("memory", 0), ("target_recall", 0.0)]
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(BuildError, match=rf"{setting} must .*; got {value}"):
        BuildConfig("/photos", **{setting: value})


@pytest.mark.parametrize("value", [1.01, float("nan")])
def test_target_recall_is_a_share(value: float) -> None:
    with pytest.raises(BuildError, match=r"target_recall must lie in \(0, 1\]"):
        BuildConfig("/photos", target_recall=value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("part_sise = 8", "no such settings; got part_sise; there are: build_memory, caption_column, encoder, "),
        ("a = 1\nb = 2", "no such settings; got a, b"),
        ("part_size = ", "cannot read the configuration; got .*settings.toml: Invalid value"),
        (b"\xff\xfe", "cannot read the configuration; got .*settings.toml: .*decode"),
        ('part_size = "8"', "the setting part_size must be of type int; got '8'"),
        ("part_size = 8.5", "the setting part_size must be of type int; got 8.5"),
        ("part_size = true", "the setting part_size must be of type int; got True"),
        ("encoder = 8", "the setting encoder must be of type str; got 8"),
        ("[photos]\na = 1", "the setting photos must be of type str; got "),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        BuildConfig.read(toml(tmp_path, text), {"photos": "/photos"})


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot read the configuration; got .*nothing.toml: .*No such file"):
        BuildConfig.read(tmp_path / "nothing.toml", {"photos": "/photos"})


def test_a_whole_number_is_a_share_too(tmp_path: Path) -> None:
    read = BuildConfig.read(toml(tmp_path, "target_recall = 1"), {"photos": "/p"})
    assert read == BuildConfig("/p", target_recall=1.0)


def test_resolved_decides_an_automatic_factory_and_nothing_else() -> None:
    config = BuildConfig("/photos")
    assert config.resolved(1000, 384) == replace(config, factory="Flat")
    assert config.resolved(10**6, 384) == replace(config, factory="IVF4096,Flat")
    assert BuildConfig("/photos", factory="HNSW8").resolved(10**6, 384).factory == "HNSW8"


def test_machine_takes_the_cores_it_may_use_unless_told() -> None:
    assert Machine(workers=3).decoders == 3
    assert Machine(threads=5).decoders == 5
    assert Machine(workers=3, threads=5).runtime("f32").cores == 5
    with pytest.raises(BuildError, match="workers must be at least 1; got 0"):
        _ = Machine(workers=0).decoders
