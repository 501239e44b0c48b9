"""What ``info`` and ``verify`` say of whole, damaged, newer and half-built indexes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
from building import Recorder, contents, save_blotches
from helpers import PixelColourEncoder
from living import noise, vector_index

import simat
from indexing.build import build_index
from indexing.compact import compact_index
from indexing.config import BuildConfig, Machine
from indexing.inspect import columns_of, describe, verify_index
from indexing.remove import remove_images
from simat.embeddings import EmbeddingSet
from simat.errors import SimatError, StorageError
from simat.manifest import IndexManifest, read_index_manifest, write_manifest

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    photos = save_blotches(tmp_path_factory.mktemp("inspect") / "photos", 30)
    (photos / "0003x.png").write_bytes(b"bad")
    (photos / "line\nbreak.png").write_bytes(b"")
    (photos / "zz.png").write_bytes((photos / "0000.png").read_bytes())
    config = BuildConfig(str(photos), part_size=10, shard_size=12)
    build_index(photos.parent / "index", config, Machine(workers=1), encoder=PixelColourEncoder())
    return photos.parent / "index"


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(whole, tmp_path / "index")
    return tmp_path / "index"


def size(folder: Path, *patterns: str) -> int:
    return sum(path.stat().st_size for pattern in patterns for path in folder.glob(pattern))


def test_describe_gives_facts_under_stable_names(whole: Path) -> None:
    space = PixelColourEncoder().space
    facts = describe(whole)
    files = facts.pop("rejected_files")
    assert [(item["path"], item["reason"].split(";")[0]) for item in files] == [
        ("0003x.png", "not an image in a format we read"),
        ("line\nbreak.png", "the file is empty"),
    ]
    assert facts == {
        "index": str(whole),
        "images": 31,
        "removed": 0,
        "generation": 0,
        "duplicates": 1,
        "root": str(whole.parent / "photos"),
        "encoder": "colours",
        "fingerprint": space.fingerprint,
        "dim": 49,
        "factory": "Flat",
        "shards": 3,
        "parts": 4,
        "bytes": size(whole, "shards/*.faiss", "embeddings/*.parquet"),
        "search": {},
        "recall": {"recall@10": 1.0, "queries": 8},
        "rejected": 2,
        "reasons": {"not an image in a format we read": 1, "the file is empty": 1},
    }


def test_verify_reads_every_byte_and_counts(whole: Path) -> None:
    recorder = Recorder.new()
    facts = verify_index(whole, recorder)
    total = size(whole, "shards/*.faiss", "embeddings/*.parquet")
    assert facts == {"index": str(whole), "files": 8, "bytes": total, "rows": 31, "whole": True}
    assert recorder.stages == [("verify", total, "bytes")]
    assert recorder.advanced == {"verify": total}


def alter(name: str, position: int) -> Damage:
    def damage(folder: Path) -> None:
        data = bytearray((folder / name).read_bytes())
        data[position] ^= 1
        (folder / name).write_bytes(data)

    return damage


def cut(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-1])


SHARD, PART, REJECTED = "shards/shard-00001.faiss", "embeddings/part-000001.parquet", "embeddings/rejected.parquet"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (alter(SHARD, 200), r"shards/shard-00001.faiss was altered; got another SHA-256"),
        (alter(SHARD, -1), r"shards/shard-00001.faiss was altered"),
        (alter(PART, 200), r"part-000001.parquet was altered; got another SHA-256"),
        (alter(REJECTED, 20), r"rejected.parquet was altered"),
    ],
)
def test_verify_finds_a_single_altered_bit(index: Path, damage: Damage, message: str) -> None:
    damage(index)
    with pytest.raises(StorageError, match=message):
        verify_index(index)


@pytest.mark.parametrize("look", [describe, verify_index, lambda folder: simat.open(folder, PixelColourEncoder())])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / SHARD).unlink(), r"shards/shard-00001.faiss is missing; got .*; build the index again"),
        (cut(SHARD), r"shards/shard-00001.faiss was truncated or altered; got \d+ bytes instead of \d+; build"),
        (lambda f: (f / PART).unlink(), r"part-000001.parquet is missing"),
        (cut(PART), r"part-000001.parquet was truncated or altered"),
        (cut(REJECTED), r"rejected.parquet was truncated or altered"),
        (lambda f: (f / "embeddings" / "manifest.json").unlink(), r"no index here; got .*embeddings"),
        (lambda f: (f / "manifest.json").write_text("{"), r"the manifest is damaged; got .*manifest.json; build"),
        (lambda f: (f / "manifest.json").write_text("[]"), r"the manifest is damaged"),
        (lambda f: (f / "manifest.json").unlink(), r"no index here; got .*; make one with 'simat index build"),
    ],
)
def test_damage_is_told_by_whatever_opens_the_index(
    index: Path, look: Callable[[Path], Any], damage: Damage, message: str
) -> None:
    damage(index)
    with pytest.raises(StorageError, match=message):
        look(index)


@pytest.mark.parametrize("manifest", ["manifest.json", "embeddings/manifest.json"])
def test_a_newer_format_asks_for_an_upgrade(index: Path, manifest: str) -> None:
    document = json.loads((index / manifest).read_text())
    (index / manifest).write_text(json.dumps({**document, "version": 3}))
    with pytest.raises(StorageError, match=r"format version 3 is newer than 2, .* upgrade simat"):
        describe(index)


def test_fields_of_a_later_minor_version_do_not_matter(index: Path) -> None:
    document = json.loads((index / "manifest.json").read_text())
    (index / "manifest.json").write_text(json.dumps({**document, "colour": "green"}))
    assert describe(index)["images"] == 31


def test_a_half_built_index_says_how_to_go_on(index: Path) -> None:
    (index / "manifest.json").unlink()
    (index / "building.json").write_text("{}")
    with pytest.raises(StorageError, match=r"half built; got .*; run the same 'simat index build' again to resume"):
        describe(index)


def test_a_manifest_of_another_kind_is_refused(index: Path) -> None:
    shutil.copy(index / "embeddings" / "manifest.json", index / "manifest.json")
    with pytest.raises(SimatError, match=r"not a folder of kind index|the manifest is damaged"):
        describe(index)


def test_verify_finds_parts_in_the_wrong_order(index: Path) -> None:
    path = index / "embeddings" / "manifest.json"
    document = json.loads(path.read_text())
    document["parts"][0], document["parts"][1] = document["parts"][1], document["parts"][0]
    path.write_text(json.dumps(document))
    with pytest.raises(StorageError, match=r"the ids of part-000001.parquet do not run on; got 9..18"):
        verify_index(index)


def test_verify_finds_shards_that_are_not_the_manifests(index: Path) -> None:
    path = index / "manifest.json"
    document = json.loads(path.read_text())
    document["shards"][2]["rows"] += 1
    path.write_text(json.dumps(document))
    with pytest.raises(StorageError, match=r"shard-00002.faiss is not the shard of this index; got 7 × 49 vectors"):
        verify_index(index)


def test_opening_an_index_leaves_the_limits_of_faiss_as_they_were(whole: Path) -> None:
    before = faiss.get_deserialization_vector_byte_limit()
    verify_index(whole)
    simat.open(whole, PixelColourEncoder())
    assert faiss.get_deserialization_vector_byte_limit() == before > 2**30


def test_looking_changes_nothing(whole: Path) -> None:
    before = contents(whole)
    describe(whole)
    verify_index(whole)
    assert contents(whole) == before


def test_verify_finds_a_shard_that_is_missing_from_the_manifest(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(50))
    manifest = read_index_manifest(index)
    write_manifest(index, replace(manifest, shards=manifest.shards[:-1]))
    with pytest.raises(StorageError, match=r"the shards are of another index; got 40 for 50; build the index again"):
        verify_index(index)


@pytest.mark.parametrize("look", [describe, verify_index, columns_of])
def test_looking_while_the_index_is_changed_shows_the_new_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[Path], Any]
) -> None:
    index, opened = vector_index(tmp_path / "index", noise(50)), EmbeddingSet.of_index
    remove_images(index, ids=np.array([1]))
    calls: list[int] = []

    def compacted_first(folder: Path, manifest: IndexManifest) -> EmbeddingSet:
        calls.append(manifest.generation)
        if len(calls) == 1:
            monkeypatch.setattr(EmbeddingSet, "of_index", opened)
            compact_index(index, Machine(1, threads=1))
            monkeypatch.setattr(EmbeddingSet, "of_index", compacted_first)
        return opened(folder, manifest)

    monkeypatch.setattr(EmbeddingSet, "of_index", compacted_first)
    assert look(index)
    assert calls == [1, 2]
