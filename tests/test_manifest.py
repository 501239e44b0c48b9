"""Manifests: the same on disk as in memory, and any damage is a StorageError."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simat.errors import StorageError
from simat.manifest import (
    EmbeddingManifest,
    FileEntry,
    IndexManifest,
    read_embedding_manifest,
    read_index_manifest,
    write_manifest,
)
from simat.types import EmbeddingSpace

NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
COUNT = st.integers(0, 2**40)
SPACES = st.builds(EmbeddingSpace, NAME, NAME, st.integers(1, 4096), st.none() | NAME)
ENTRIES = st.builds(FileEntry, NAME, COUNT, COUNT, NAME)
PARTS = st.lists(ENTRIES, max_size=4).map(tuple)
CONFIG = st.dictionaries(NAME, st.none() | st.integers() | NAME | st.floats(allow_nan=False), max_size=3)
INDEX = IndexManifest(EmbeddingSpace("offline", "f00d", 8), "embeddings", "Flat", (FileEntry("a", 3, 4, "5"),), 3)
EMBEDDINGS = EmbeddingManifest(EmbeddingSpace("offline", "f00d", 8), "/photos", (FileEntry("a", 3, 4, "5"),), 3)
READ = {"index": read_index_manifest, "embeddings": read_embedding_manifest}
MANIFESTS = {"index": INDEX, "embeddings": EMBEDDINGS}


@given(
    st.builds(
        EmbeddingManifest,
        *(SPACES, NAME, PARTS, COUNT, COUNT, st.none() | ENTRIES, CONFIG),
        st.dictionaries(NAME, NAME, max_size=2),
    )
)
def test_embedding_manifest_written_then_read_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, manifest: EmbeddingManifest
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    write_manifest(folder, manifest)
    assert read_embedding_manifest(folder) == manifest


@given(
    st.builds(
        IndexManifest,
        SPACES,
        NAME,
        NAME,
        PARTS,
        COUNT,
        st.dictionaries(NAME, st.integers(), max_size=2),
        st.dictionaries(NAME, st.floats(0, 1), max_size=2),
        CONFIG,
        COUNT,
        NAME,
        st.none() | ENTRIES,
    )
)
def test_index_manifest_written_then_read_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, manifest: IndexManifest
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    write_manifest(folder, manifest)
    assert read_index_manifest(folder) == manifest


def test_manifest_says_what_it_is_in_plain_json(tmp_path: Path) -> None:
    write_manifest(tmp_path, INDEX)
    document = json.loads((tmp_path / "manifest.json").read_text())
    assert (document["format"], document["version"]) == ("simat/index", 1)
    assert document["space"] == {"encoder": "offline", "fingerprint": "f00d", "dim": 8, "heads": None}
    assert document["shards"] == [{"name": "a", "rows": 3, "bytes": 4, "sha256": "5"}]


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({name: value for name, value in document.items() if value != "removed"}))


@pytest.mark.parametrize("kind", READ)
def test_manifest_of_a_newer_version_is_refused(tmp_path: Path, kind: str) -> None:
    write_manifest(tmp_path, MANIFESTS[kind])
    rewrite(tmp_path, version=3)
    with pytest.raises(StorageError, match=r"format version 3 is newer than 2.*; upgrade simat"):
        READ[kind](tmp_path)


@pytest.mark.parametrize("kind", READ)
def test_manifest_of_a_newer_version_is_refused_whatever_else_changed(tmp_path: Path, kind: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": f"simat/{kind}", "version": 3, "space": "elsewhere"}))
    with pytest.raises(StorageError, match="format version 3 is newer than 2"):
        READ[kind](tmp_path)


@pytest.mark.parametrize("kind", READ)
def test_manifest_ignores_fields_it_does_not_know(tmp_path: Path, kind: str) -> None:
    write_manifest(tmp_path, MANIFESTS[kind])
    rewrite(tmp_path, invented_later=[1, 2])
    assert READ[kind](tmp_path) == MANIFESTS[kind]


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}", b'{"format": 1}'])
def test_manifest_that_is_damaged_is_refused(tmp_path: Path, kind: str, data: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(data)
    with pytest.raises(StorageError, match=r"the manifest is damaged; got .*; build the index again"):
        READ[kind](tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"space": "removed"},
        {"space": {"encoder": "x"}},
        {"rows": "removed"},
        {"shards": "removed"},
        {"shards": [{"name": "a"}]},
        {"shards": 3},
        {"shards": None},
    ],
    ids=str,
)
def test_index_manifest_with_fields_missing_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_manifest(tmp_path, INDEX)
    rewrite(tmp_path, **change)
    with pytest.raises(StorageError, match="the manifest is damaged"):
        read_index_manifest(tmp_path)


@pytest.mark.parametrize("change", [{"parts": "removed"}, {"parts": ["a"]}, {"rejected": {"name": "a"}}], ids=str)
def test_embedding_manifest_with_fields_missing_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_manifest(tmp_path, EMBEDDINGS)
    rewrite(tmp_path, **change)
    with pytest.raises(StorageError, match="the manifest is damaged"):
        read_embedding_manifest(tmp_path)


def test_manifest_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, EMBEDDINGS)
    with pytest.raises(StorageError, match="not a folder of kind index; got simat/embeddings"):
        read_index_manifest(tmp_path)
    write_manifest(tmp_path, INDEX)
    with pytest.raises(StorageError, match="not a folder of kind embeddings; got simat/index"):
        read_embedding_manifest(tmp_path)


@pytest.mark.parametrize("kind", READ)
def test_manifest_that_is_missing_says_how_to_make_an_index(tmp_path: Path, kind: str) -> None:
    with pytest.raises(StorageError, match=r"no index here.*simat index build"):
        READ[kind](tmp_path)
    with pytest.raises(StorageError, match="no index here"):
        READ[kind](tmp_path / "nowhere")


def test_manifest_of_a_half_built_index_says_how_to_resume(tmp_path: Path) -> None:
    (tmp_path / "building.json").write_text("{}")
    with pytest.raises(StorageError, match=r"half built.*run the same 'simat index build' again"):
        read_index_manifest(tmp_path)


def test_file_entry_notices_every_change(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"0123456789")
    entry = FileEntry.of(tmp_path, "part", 2)
    assert entry.check(tmp_path) == path
    path.write_bytes(b"012345678X")
    assert entry.check_size(tmp_path) == path
    with pytest.raises(StorageError, match="part was altered; got another SHA-256"):
        entry.check(tmp_path)
    path.write_bytes(b"01234")
    with pytest.raises(StorageError, match="part was truncated or altered; got 5 bytes instead of 10"):
        entry.check(tmp_path)
    path.unlink()
    with pytest.raises(StorageError, match="part is missing"):
        entry.check(tmp_path)
