"""Heads after an index's encoder: built in, or put there afterwards without encoding an image again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import colour_plugin, contents, here, plugged_in, same_contents, save_blotches
from helpers import DIM, ColourEncoder, PixelColourEncoder, cosines

from indexing import project as project_module
from indexing.build import build_index
from indexing.config import BuildConfig, Machine
from indexing.inspect import verify_index
from indexing.project import project_index
from simat import open as open_index
from simat.embeddings import EmbeddingSet
from simat.errors import BuildError, QueryError, SpaceMismatchError, StorageError
from simat.heads import UNKNOWN, Head, Heads, Layer, load_heads, save_heads
from simat.images import load_image
from simat.types import EmbeddingSpace

COLOURS = PixelColourEncoder().space


def some_heads(seed: int = 0, dim: int = 12, before: EmbeddingSpace = COLOURS) -> Heads:
    rng = np.random.default_rng(seed)
    layers = [
        Layer(rng.normal(size=(dim, DIM)).astype(np.float32), rng.normal(size=dim).astype(np.float32) * 0.1)
        for _ in range(2)
    ]
    return Heads(Head((layers[0],)), Head((layers[1],)), "linear", 0.1, before, before)


@pytest.fixture(scope="module", autouse=True)
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with plugged_in(colour_plugin(tmp_path_factory.mktemp("plugin") / "site")):
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, an index of them without heads, and heads."""
    place = tmp_path_factory.mktemp("place")
    photos = save_blotches(place / "photos", 25)
    (photos / "copy.png").write_bytes((photos / "0003.png").read_bytes())
    (photos / "bad.png").write_bytes(b"bad")
    build_index(place / "plain", config(place, part_size=10), Machine(workers=1))
    save_heads(place / "heads", some_heads())
    return place


def config(place: Path, **settings: Any) -> BuildConfig:
    return BuildConfig(str(place / "photos"), encoder="colours", shard_size=12, **settings)


@pytest.fixture(scope="module")
def projected(place: Path) -> Path:
    project_index(place / "plain", place / "heads", place / "projected", Machine(workers=1))
    return place / "projected"


def vectors(index: Path) -> np.ndarray:
    embeddings = EmbeddingSet(index / "embeddings")
    return embeddings.vectors(np.arange(len(embeddings)))


def test_projecting_is_what_building_with_the_heads_gives(place: Path, projected: Path, tmp_path: Path) -> None:
    built = build_index(tmp_path / "built", config(place, part_size=10, heads=str(place / "heads")), Machine(workers=1))
    space = EmbeddingSet(projected / "embeddings").manifest.space
    assert built.manifest.space == space
    assert space.dim == 12 and space.heads == load_heads(place / "heads").fingerprint
    assert space.encoder == "combined:image=colours,text=colours,heads=heads"
    assert len(built.rejected) == 1 and built.duplicates == 1
    np.testing.assert_allclose(vectors(projected), vectors(tmp_path / "built"), atol=1e-3)
    assert cosines(vectors(projected), vectors(tmp_path / "built")).min() > 1 - 1e-5
    rows = [EmbeddingSet(folder / "embeddings").rows(np.arange(26)) for folder in (projected, tmp_path / "built")]
    assert rows[0] == rows[1]


def test_vectors_are_the_heads_of_the_encoders(place: Path, projected: Path) -> None:
    heads = load_heads(place / "heads")
    images = [load_image(path) for path in sorted((place / "photos").glob("00*.png"))]
    expected = heads.project_images(PixelColourEncoder().encode_images(images))
    assert cosines(vectors(projected)[: len(images)], expected).min() > 1 - 1e-5


def test_a_moved_index_brings_its_heads(place: Path, projected: Path, tmp_path: Path) -> None:
    shutil.copytree(projected, tmp_path / "moved")
    engine = open_index(tmp_path / "moved")
    heads = load_heads(place / "heads")
    words = heads.project_texts(ColourEncoder().encode_texts(["red"]))
    np.testing.assert_allclose(engine.encode_texts(["red"]), words, atol=1e-6)
    assert [result.id for result in engine.search(image=place / "photos" / "0007.png", include_self=True, k=1)] == [7]
    assert len(engine.edit(7, "red -> blue", k=5)) == 5
    assert verify_index(tmp_path / "moved")["whole"]


def test_the_source_is_left_as_it_was(place: Path, tmp_path: Path) -> None:
    before = contents(place / "plain")
    project_index(place / "plain", place / "heads", tmp_path / "out", Machine(workers=1))
    assert contents(place / "plain") == before


def test_a_killed_projection_goes_on_and_ends_the_same(
    place: Path, projected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    original = project_module.write_projected

    def killed_at_the_second(path: Path, *rest: Any) -> None:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(path.name)
        original(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(project_module, "write_projected", killed_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            project_index(place / "plain", place / "heads", tmp_path / "out", Machine(workers=1))
    first = tmp_path / "out" / "embeddings" / written[0]
    stamp = first.stat().st_mtime_ns
    project_index(place / "plain", place / "heads", tmp_path / "out", Machine(workers=1))
    assert first.stat().st_mtime_ns == stamp
    assert same_contents(tmp_path / "out", projected)


def test_projecting_again_finds_it_done(place: Path, projected: Path) -> None:
    before = contents(projected)
    again = project_index(place / "plain", place / "heads", projected, Machine(workers=1))
    assert again.manifest.rows == 26
    assert contents(projected) == before


def test_heads_of_another_space_are_refused_and_both_are_named(place: Path, tmp_path: Path) -> None:
    save_heads(tmp_path / "other", some_heads(before=EmbeddingSpace("eyes", "e" * 64, DIM)))
    expected = r"the heads follow the image space eyes \(49-d, e+\); got an index of colours \(49-d, c0104e\)"
    with pytest.raises(SpaceMismatchError, match=expected):
        project_index(place / "plain", tmp_path / "other", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SpaceMismatchError, match=r"the heads follow the image space eyes .*got an encoder of colours"):
        build_index(tmp_path / "out", config(place, heads=str(tmp_path / "other")), Machine(workers=1))
    assert not (tmp_path / "out").exists()


def test_heads_that_know_their_encoder_by_name_take_its_space(place: Path, projected: Path, tmp_path: Path) -> None:
    save_heads(tmp_path / "imported", some_heads(before=EmbeddingSpace("colours", UNKNOWN, DIM)))
    project_index(place / "plain", tmp_path / "imported", tmp_path / "out", Machine(workers=1))
    ours, theirs = (EmbeddingSet(folder / "embeddings").manifest.space for folder in (tmp_path / "out", projected))
    assert ours == theirs
    assert len(open_index(tmp_path / "out").edit(0, "red -> blue", k=3)) == 3


def test_an_index_with_heads_is_not_projected_again(place: Path, projected: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"the index has heads already; got combined:.* \+ heads"):
        project_index(projected, place / "heads", tmp_path / "out")


def test_another_folder_is_not_overwritten(place: Path, projected: Path, tmp_path: Path) -> None:
    save_heads(tmp_path / "more", some_heads(seed=7))
    with pytest.raises(BuildError, match=r"was begun with other settings; got heads '.*heads' -> '.*more'"):
        project_index(place / "plain", tmp_path / "more", projected)
    with pytest.raises(BuildError, match=r"the folder holds something else"):
        project_index(place / "plain", place / "heads", place)


def test_altered_heads_of_an_index_are_found(place: Path, projected: Path, tmp_path: Path) -> None:
    shutil.copytree(projected, tmp_path / "index")
    shutil.rmtree(tmp_path / "index" / "heads")
    save_heads(tmp_path / "index" / "heads", some_heads(seed=9))
    with pytest.raises(StorageError, match=r"heads is of another index"):
        verify_index(tmp_path / "index")
    with pytest.raises(SpaceMismatchError, match=r"the index holds vectors of combined"):
        _ = open_index(tmp_path / "index").encoder


def test_commands_build_with_heads_and_project(place: Path, tmp_path: Path, capsys: Any) -> None:
    flags = ("--encoder", "colours", "--workers", "1", "--json")
    ran = here(capsys, "index", "build", place / "photos", tmp_path / "a", "--heads", place / "heads", *flags)
    assert ran.json["dim"] == 12
    ran = here(capsys, "index", "project", place / "plain", place / "heads", tmp_path / "b", "--json")
    assert (ran.json["dim"], ran.json["images"], ran.json["rejected"]) == (12, 26, 1)
    assert json.loads((tmp_path / "b" / "manifest.json").read_text())["space"]["heads"]
    line = here(capsys, "index", "project", place / "plain", place / "photos", tmp_path / "c").error
    assert line.startswith("no heads here; got ")


def test_an_encoder_of_images_alone_answers_images_and_says_so_of_words(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Eyes:
        space = COLOURS

        def encode_images(self, images: list[Any]) -> np.ndarray:
            return ColourEncoder().encode_images(images)

    build_index(tmp_path / "index", config(place), Machine(workers=1), encoder=Eyes())
    engine = open_index(tmp_path / "index", Eyes())
    assert engine.search(image=place / "photos" / "0007.png", include_self=True, k=1)[0].id == 7
    with pytest.raises(QueryError, match=r"the encoder of this index reads no words; got colours"):
        engine.search("red")
