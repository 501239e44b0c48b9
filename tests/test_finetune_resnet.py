"""The recipe for ResNets, on a small seeded one: what moves, what does not, and that parts give the whole gradient."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from building import Interrupted, Recorder, contents, save_blotches
from features import write_features, write_vectors
from helpers import unit_noise
from safetensors.torch import load_file, save_file

from finetune import resnet as recipe
from finetune.config import TrainConfig, TrainError
from finetune.losses import info_nce
from finetune.pairs import Features, open_features
from finetune.resnet import ResNetTraining
from finetune.train import train
from simat.encoders import load_tower
from simat.errors import SpaceMismatchError
from simat.heads import load_heads
from simat.images import load_image
from simat.manifest import read_embedding_manifest, write_manifest
from simat.progress import Silent

IMAGES = 8
CONFIG = TrainConfig(0.1, epochs=2, batch=3, lr=1e-3, head="mlp", dim=8, hidden=16, validation="val")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Features of a seeded ResNet-18 and of noise for texts; two of eight images are for validation."""
    place = tmp_path_factory.mktemp("resnet")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(torchvision.models.resnet18(weights=None).state_dict(), place / "r.safetensors")
    for path in save_blotches(place / "photos", IMAGES).iterdir():
        path.rename(path.with_name(f"{int(path.stem)}.png"))
    owners = np.repeat(np.arange(IMAGES), 2)
    splits = ["val" if owner >= 6 else "train" for owner in owners]
    cache = write_vectors(place / "cache", unit_noise(0, IMAGES, 512), unit_noise(1, 2 * IMAGES, 6), owners, splits)
    space = load_tower(f"torchvision:resnet18/{place / 'r.safetensors'}").space
    manifest = read_embedding_manifest(cache / "images")
    write_manifest(cache / "images", replace(manifest, space=space, root=str(place / "photos")))
    document = json.loads((cache / "cache.json").read_bytes())
    (cache / "cache.json").write_text(json.dumps({**document, "image_space": asdict(space)}))
    return open_features(cache)


@pytest.fixture(scope="module", autouse=True)
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "PART", 2)
        yield


@pytest.fixture(scope="module")
def trained(features: Features, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training."""
    folder = tmp_path_factory.mktemp("trained")
    train(features, folder, CONFIG, "cpu", recipe=ResNetTraining)
    return folder


def gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def test_gradient_by_parts_is_that_of_the_whole_batch(features: Features) -> None:
    training = ResNetTraining(features, CONFIG, "cpu", Silent())
    batch: Any = training.batch(np.arange(5), np.arange(0, 10, 2))
    loss = training.learn(batch)
    ours = gradients(training.module)
    training.optimizer.zero_grad(set_to_none=True)
    module = training.module
    whole = info_nce(module.image(module.features(batch.pixels)), module.text(batch.texts), CONFIG.tau)
    whole.backward()
    theirs = gradients(module)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("backbone.network.layer4") for name in ours)
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_last_block_and_heads_are_trained_and_nothing_else(features: Features, trained: Path) -> None:
    heads = load_heads(trained)
    curve = heads.details["curve"]
    assert curve[2]["loss"] < curve[1]["loss"]
    assert heads.details["identity"]["recipe"] == "resnet"
    before = load_file(features.folder.parent / "r.safetensors")
    after = load_file(trained / "backbone.safetensors")
    assert {name for name in before if not name.startswith("fc.")} == set(after)
    moved = {name for name in after if (after[name] != before[name]).any()}
    assert moved
    assert all(name.startswith("layer4.") and "running" not in name for name in moved)
    assert len(heads.image.layers) == 4


def test_trained_network_is_an_encoder_that_the_heads_follow(features: Features, trained: Path) -> None:
    heads = load_heads(trained)
    tower: Any = load_tower(heads.image_space.encoder)
    heads.check(tower.space, features.text_space)
    with pytest.raises(SpaceMismatchError, match="the heads follow the image space"):
        heads.check(features.image_space, features.text_space)
    training = ResNetTraining(features, CONFIG, "cpu", Silent())
    state = {f"network.{name}": tensor for name, tensor in load_file(trained / "backbone.safetensors").items()}
    training.module.backbone.load_state_dict(state, strict=False)
    pictures = [load_image(features.folder.parent / "photos" / f"{i}.png") for i in (3, 4)]
    np.testing.assert_allclose(training.image_features(np.array([3, 4])), tower.encode_images(pictures), atol=1e-4)


class Stop(Recorder):
    def advance(self, count: int) -> None:
        super().advance(count)
        if self.advanced["training"] == 3:
            raise Interrupted


def test_interrupted_training_ends_with_the_same_numbers(features: Features, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(features, tmp_path, CONFIG, "cpu", Stop.new(), ResNetTraining)
    recorder = Recorder.new()
    train(features, tmp_path, CONFIG, "cpu", recorder, ResNetTraining)
    assert "going on after epoch 1" in recorder.notes
    ours, theirs = contents(trained), contents(tmp_path)
    assert ours.keys() == theirs.keys()
    for name in ours.keys() - {"heads.json"}:  # which names the folder of its network
        assert ours[name] == theirs[name], name


def test_features_of_another_encoder_are_refused(tmp_path: Path) -> None:
    features = open_features(write_features(tmp_path / "cache"))
    with pytest.raises(TrainError, match="the recipe is for a ResNet of torchvision's; got features of unknown:16"):
        train(features, tmp_path / "heads", CONFIG, recipe=ResNetTraining)


def test_network_that_changed_since_its_features_is_refused(features: Features) -> None:
    other = replace(features, image_space=replace(features.image_space, fingerprint="f" * 64))
    with pytest.raises(SpaceMismatchError):
        ResNetTraining(other, CONFIG, "cpu", Silent())
