"""How many parts an embedding set has, whoever writes it: never more than are good to map."""

from __future__ import annotations

from pathlib import Path

import pytest
from building import CountingEncoder, Interrupted, same_contents, save_blotches
from exchanging import imported, stranger
from helpers import PixelColourEncoder
from living import ONE, built, images, noise, vector_index

from indexing.add import add_images
from indexing.build import build_index
from indexing.compact import compact_index
from indexing.config import BuildConfig
from indexing.merge import merge_indexes
from simat.opened import open_index


@pytest.fixture(autouse=True)
def at_most_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that some hundred rows are many; larger parts are whole row groups of four."""
    monkeypatch.setattr("indexing.config.MOST_PARTS", 2)
    monkeypatch.setattr("indexing.config.ROW_GROUP", 4)


def counts(index: Path) -> list[int]:
    return list(open_index(index).embeddings.counts)


def test_a_build_and_an_addition(tmp_path: Path) -> None:
    photos, more = save_blotches(tmp_path / "photos", 30), save_blotches(tmp_path / "more", 18)
    index = built(tmp_path / "index", photos, part_size=3)
    assert counts(index) == [16, 14]
    add_images(index, str(more), ONE, encoder=PixelColourEncoder())
    assert counts(index) == [16, 14, 12, 6]
    assert len(images(index)) == 48


def test_parts_as_few_as_asked_for_keep_their_size(tmp_path: Path) -> None:
    assert counts(built(tmp_path / "index", save_blotches(tmp_path / "photos", 30), part_size=15)) == [15, 15]


def test_builds_and_additions_that_are_interrupted_end_with_the_same_bytes(tmp_path: Path) -> None:
    """Parts are cut by the files that were found, whether or not they can be read."""
    photos, more = save_blotches(tmp_path / "photos", 30), save_blotches(tmp_path / "more", 30, first=90)
    for name in ("0003x", "0011x", "0028x"):
        for folder in (photos, more):
            (folder / f"{name}.png").write_bytes(name.encode())
    whole, index = built(tmp_path / "whole", photos, part_size=3), tmp_path / "index"
    config = BuildConfig(str(photos), part_size=3, shard_size=20)
    with pytest.raises(Interrupted):
        build_index(index, config, ONE, encoder=CountingEncoder(limit=20))
    assert [path.name for path in (index / "embeddings").glob("part-*")] == ["part-000000.parquet"]
    build_index(index, config, ONE, encoder=PixelColourEncoder())
    assert counts(index) == [18, 12]
    assert same_contents(index, whole)
    add_images(whole, str(more), ONE, encoder=PixelColourEncoder())
    with pytest.raises(Interrupted):
        add_images(index, str(more), ONE, encoder=CountingEncoder(limit=20))
    add_images(index, str(more), ONE, encoder=PixelColourEncoder())
    assert counts(index) == counts(whole) == [18, 12, 17, 13]
    assert images(index) == images(whole)


def test_a_compaction(tmp_path: Path) -> None:
    index = vector_index(tmp_path / "index", noise(50), part_size=3)
    assert len(counts(index)) == 17
    before = sorted(images(index).values())
    reasons = compact_index(index).reasons
    assert "17 parts where 2 suffice" in reasons
    assert counts(index) == [28, 22]
    assert sorted(images(index).values()) == before


def test_a_merge(tmp_path: Path) -> None:
    folders = [vector_index(tmp_path / name, noise(20, seed=seed), part_size=3) for seed, name in enumerate("ab")]
    merge_indexes(folders, tmp_path / "out")
    assert counts(tmp_path / "out") == [12, 8]  # the same names: taken once


def test_an_import(tmp_path: Path) -> None:
    stranger(tmp_path / "given", (25, 25))
    imported(tmp_path / "given", tmp_path / "out", part_size=3)
    assert counts(tmp_path / "out") == [28, 22]
