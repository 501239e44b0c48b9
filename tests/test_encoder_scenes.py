"""The packaged encoder of the scene world: its files, its words, and whether it finds and edits what it should."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import simat
from helpers import cosines

import simat as engine
from data.scenes.render import render
from data.scenes.scene import sample
from data.scenes.world import triplets
from data.simat.captions import write_caption
from finetune.scenes.measure import measure
from simat.encoders import load_encoder
from simat.encoders.runtime import RuntimeOptions
from simat.encoders.scenes import FOLDER
from simat.errors import EncoderError
from simat.types import Encoder, PixelEncoder

ASTRAY = 9_000_000  # a world that neither training nor its evaluation looked at


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A conversion of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("scenes")


@pytest.fixture(scope="module")
def scenes() -> list[Any]:
    """One scene each of forty triplets."""
    return [sample(ASTRAY, number, triplet) for number, triplet in enumerate(triplets()[::27][:40])]


@pytest.fixture(scope="module")
def measured(encoder: Encoder) -> dict[str, Any]:
    return measure(encoder, seed=1)


def test_space_is_named_and_small(encoder: Encoder) -> None:
    assert (encoder.space.encoder, encoder.space.dim) == ("scenes", 128)
    assert isinstance(encoder, PixelEncoder)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 8_000_000


def test_encoder_is_the_folder_as_open_clip_loads_it(encoder: Encoder, scenes: list[Any]) -> None:
    import open_clip
    import torch

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{FOLDER}", require_pretrained=True)
    tokenizer = open_clip.get_tokenizer(f"local-dir:{FOLDER}")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    pictures = [render(scene, 100).image.crop((0, 10, 100, 80)) for scene in scenes[:8]]
    texts = ["a dog", "", "a zebra riding a bicycle", "dog " * 60, *(write_caption(scene.triplet) for scene in scenes)]
    with torch.inference_mode():
        rows = model.eval().encode_image(torch.stack([preprocess(picture) for picture in pictures])).numpy()
        words = model.encode_text(tokenizer(texts)).numpy()
    assert cosines(encoder.encode_images(pictures), rows).min() >= 0.9999
    assert cosines(encoder.encode_texts(texts), words).min() >= 0.9999


def test_torch_eager_gives_the_same_vectors(encoder: Encoder, scenes: list[Any]) -> None:
    eager = load_encoder("scenes", RuntimeOptions(device="torch"))
    pictures = [render(scene, 64).image for scene in scenes[:6]]
    assert eager.space == encoder.space
    assert cosines(eager.encode_images(pictures), encoder.encode_images(pictures)).min() >= 0.9999


def test_words_of_the_world_are_known_and_others_do_no_harm(encoder: Encoder) -> None:
    plain, shouted, strange = encoder.encode_texts(["a dog riding a car", "A DOG, riding a car!", "a dog riding a 車"])
    np.testing.assert_allclose(plain, shouted, atol=1e-5)
    assert plain @ strange < 0.999
    assert np.isfinite(encoder.encode_texts(["", "zebra " * 100, "\x00", "名前 ω"])).all()


def test_captions_find_their_scenes(measured: dict[str, Any]) -> None:
    assert measured["found"] >= 0.9
    assert measured["found_held_out"] >= 0.74


def test_word_deltas_find_the_edited_scene_among_hundreds(measured: dict[str, Any]) -> None:
    chance = 1 / measured["gallery"]
    for kind in ("word", "caption"):
        assert min(measured["delta"][kind]["1.0"].values()) >= 120 * chance, kind


def test_crops_are_found_as_whole_scenes_are(encoder: Encoder) -> None:
    assert measure(encoder, seed=2, gallery=120, cropped=True)["found"] >= 0.9


@pytest.mark.parametrize("place", ["beach", "street", "snow"])
def test_places_are_told_apart(encoder: Encoder, place: str) -> None:
    places = ["beach", "street", "snow"]
    drawn = [render(sample(ASTRAY, n, ("dog", "next to", "ball"), place), 64).image for n in range(12)]
    nearest = (encoder.encode_images(drawn) @ encoder.encode_texts(places).T).argmax(1)
    assert np.mean(nearest == places.index(place)) >= 0.9


def test_card_tells_the_figures_of_these_weights() -> None:
    card, curve = (FOLDER / "README.md").read_text(), json.loads((FOLDER / "loss.json").read_text())
    assert f"{curve['loss'][-1]['step']} steps × {curve['options']['batch']}" in card
    assert "## Limits" in card
    losses = [point["loss"] for point in curve["loss"]]
    assert losses[-1] < losses[0] / 2


def test_an_index_of_scenes_answers_an_edit(tmp_path: Path, encoder: Encoder, build: Any) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    wanted = {"source": ("dog", "riding", "car"), "target": ("cat", "riding", "car"), "other": ("man", "riding", "car")}
    for number, (name, triplet) in enumerate(wanted.items()):
        render(sample(ASTRAY, number, triplet, "street"), 128).image.save(photos / f"{name}.png")
    for number in range(40):
        render(sample(ASTRAY, 100 + number), 128).image.save(photos / f"{number:02}.png")
    found = engine.open(build(photos, encoder), encoder).edit(photos / "source.png", "dog -> cat")
    assert Path(found.results[0].path).stem == "target"


def test_an_argument_is_refused() -> None:
    with pytest.raises(EncoderError, match="takes no argument; got 'ViT'; write 'scenes'"):
        load_encoder("scenes:ViT")


def test_weights_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(FOLDER, tmp_path / "dual")
    (tmp_path / "dual" / "open_clip_model.safetensors").unlink()
    monkeypatch.setattr("simat.encoders.scenes.FOLDER", tmp_path / "dual")
    with pytest.raises(EncoderError, match="not an open_clip folder"):
        load_encoder("scenes")


def test_the_list_of_encoders_has_it() -> None:
    listed = {entry["spec"]: entry for entry in simat("encoders", "--json").json["encoders"]}
    assert listed["scenes"]["state"] == "ready"
