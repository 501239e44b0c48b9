"""Image towers of timm, torchvision and the wheel, against the libraries' own preprocessing and features."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from helpers import blotches, cosines
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from simat.encoders import load_encoder, load_tower
from simat.encoders.offline import classifier_weights
from simat.encoders.runtime import RuntimeOptions
from simat.encoders.timm import transform_of
from simat.encoders.torchvision import transform_of as torchvision_transform
from simat.encoders.towers import FeatureTower
from simat.errors import EncoderError
from simat.types import PixelImageEncoder, TextEncoder

PICTURES = [blotches(seed, size) for seed, size in enumerate([(90, 60), (60, 90), (300, 311), (500, 200)])]
TIMM, RESNET = "test_resnet.r160_in1k", "resnet18"  # the smallest of their kinds
CLOSE = 1 - 1e-6  # random features have much in common: two pictures have cosines up to 0.998


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Conversions of these weights are of no use to anyone else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def seeded(make: Callable[[], torch.nn.Module], seed: int = 0) -> Any:
    """A network with seeded weights, batch-norm statistics that are not the identity among them."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make()
        for name, value in network.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.1)
            if name.endswith("running_var"):
                value.uniform_(0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def timms() -> Any:
    return seeded(lambda: timm.create_model(TIMM))


@pytest.fixture(scope="module")
def resnet() -> Any:
    return seeded(lambda: torchvision.models.resnet18(weights=None))


@pytest.fixture(scope="module")
def files(timms: Any, resnet: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints of both networks."""
    folder = tmp_path_factory.mktemp("checkpoints")
    save_file(timms.state_dict(), folder / "timm.safetensors")
    torch.save(resnet.state_dict(), folder / "resnet.pth")
    return {"timm": folder / "timm.safetensors", "torchvision": folder / "resnet.pth"}


@pytest.fixture(scope="module")
def towers(files: dict[str, Path]) -> dict[str, FeatureTower]:
    return {
        "timm": load_tower(f"timm:{TIMM}/{files['timm']}"),
        "torchvision": load_tower(f"torchvision:{RESNET}/{files['torchvision']}"),
    }


def features_of_timm(network: Any, pictures: list[Image.Image]) -> np.ndarray:
    """timm's own transform and its features before the classifier."""
    prepare = timm.data.create_transform(**timm.data.resolve_data_config({}, model=network))
    with torch.inference_mode():
        maps = network.forward_features(torch.stack([prepare(picture) for picture in pictures]))
        return network.forward_head(maps, pre_logits=True).numpy()


def features_of_torchvision(network: Any, pictures: list[Image.Image], weights: Any) -> np.ndarray:
    """torchvision's own transform, and what its classifier is given."""
    given: list[Tensor] = []
    hook = network.fc.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with torch.inference_mode():
        network(torch.stack([weights.transforms()(picture) for picture in pictures]))
    hook.remove()
    return given[0].numpy()


# vectors


def test_timms_features_are_its_own(towers: dict[str, FeatureTower], timms: Any) -> None:
    found = towers["timm"].encode_images(PICTURES)
    assert cosines(found, features_of_timm(timms, PICTURES)).min() > CLOSE
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_torchvisions_features_are_its_own(towers: dict[str, FeatureTower], resnet: Any) -> None:
    found = towers["torchvision"].encode_images(PICTURES)
    expected = features_of_torchvision(resnet, PICTURES, torchvision.models.ResNet18_Weights.IMAGENET1K_V1)
    assert cosines(found, expected).min() > CLOSE
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_efficientnets_features_are_timms() -> None:
    network = timm.create_model("tf_efficientnet_lite0").eval()
    saved = torch.load(classifier_weights(), map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), saved.values(), strict=True)))
    tower = load_tower("efficientnet", RuntimeOptions(device="torch"))
    normalised = [(tower.transform.pixels(picture) / 255 - 0.498) / 0.502 for picture in PICTURES]
    with torch.inference_mode():
        maps = network.forward_features(torch.tensor(np.stack(normalised), dtype=torch.float32).permute(0, 3, 1, 2))
        expected = network.forward_head(maps, pre_logits=True).numpy()
    assert cosines(tower.encode_images(PICTURES), expected).min() > CLOSE
    assert (tower.space.encoder, tower.space.dim) == ("efficientnet", 1280)


@pytest.mark.parametrize("family", ["timm", "torchvision"])
def test_a_batch_is_its_singles(towers: dict[str, FeatureTower], family: str) -> None:
    tower = towers[family]
    singles = np.concatenate([tower.encode_images([picture]) for picture in PICTURES])
    np.testing.assert_array_equal(tower.encode_images(PICTURES), singles)
    pixels = np.stack([tower.transform.pixels(picture) for picture in PICTURES])
    np.testing.assert_array_equal(tower.encode_pixels(pixels), singles)
    assert tower.encode_images([]).shape == (0, tower.space.dim)


@pytest.mark.parametrize("family", ["timm", "torchvision"])
def test_torch_eager_gives_the_same_vectors(towers: dict[str, FeatureTower], family: str) -> None:
    eager = load_tower(towers[family].space.encoder, RuntimeOptions(device="torch"))
    assert eager.space == towers[family].space
    assert cosines(eager.encode_images(PICTURES), towers[family].encode_images(PICTURES)).min() > CLOSE


def test_an_image_tower_reads_no_texts(towers: dict[str, FeatureTower]) -> None:
    for tower in towers.values():
        assert isinstance(tower, PixelImageEncoder) and not isinstance(tower, TextEncoder)
        with pytest.raises(EncoderError, match=r"this encoder reads images only; .*combined:image=t"):
            load_encoder(tower.space.encoder)


# preprocessing


@pytest.mark.parametrize(
    "model",
    ["resnet50.a1_in1k", "resnet50.tv_in1k", "tf_efficientnet_lite0.in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"],
)
def test_timms_preprocessing_is_its_own(model: str) -> None:
    config = timm.models.get_pretrained_cfg(model).to_dict()
    ours = transform_of(config)
    theirs = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=config))
    mean, std = np.array(ours.mean, np.float32), np.array(ours.std, np.float32)
    for picture in PICTURES:
        pixels = np.rint((theirs(picture).numpy().transpose(1, 2, 0) * std + mean) * 255).astype(np.uint8)
        np.testing.assert_array_equal(ours.pixels(picture), pixels)


def test_timms_squashing_is_its_own() -> None:
    config = {**timm.models.get_pretrained_cfg(TIMM).to_dict(), "crop_mode": "squash", "crop_pct": 1.0}
    theirs = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=config), normalize=False)
    for picture in PICTURES:
        np.testing.assert_array_equal(transform_of(config).pixels(picture), theirs(picture).permute(1, 2, 0).numpy())


@pytest.mark.parametrize(
    "change",
    [{"crop_mode": "border"}, {"crop_mode": "squash", "crop_pct": 0.9}, {"input_size": (3, 160, 224)}],
)
def test_preprocessing_that_we_do_not_have_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(EncoderError, match=r"a preprocessing that we do not have; got .*crop mode"):
        transform_of({**timm.models.get_pretrained_cfg(TIMM).to_dict(), **change})


@pytest.mark.parametrize("name", ["ResNet50_Weights.IMAGENET1K_V1", "ResNet152_Weights.IMAGENET1K_V2"])
def test_torchvisions_preprocessing_is_its_own(name: str) -> None:
    weights = torchvision.models.get_weight(name)
    ours = torchvision_transform(weights)
    mean, std = np.array(ours.mean, np.float32), np.array(ours.std, np.float32)
    for picture in PICTURES:
        theirs = weights.transforms()(picture).numpy().transpose(1, 2, 0)
        np.testing.assert_array_equal(ours.pixels(picture), np.rint((theirs * std + mean) * 255).astype(np.uint8))


# checkpoints of every kind


def eager(spec: str) -> np.ndarray:
    """Vectors without any conversion."""
    tower = load_tower(spec, RuntimeOptions(device="torch"))
    return tower.encode_images(PICTURES[:2])


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize(
    ("spec", "family"),
    [(f"timm:{TIMM}", "timm"), ("timm:test_resnet", "timm"), (f"torchvision:{RESNET}", "torchvision")],
)
def test_classifiers_of_any_size_wrapped_or_not_give_the_same_features(
    timms: Any, resnet: Any, towers: dict[str, FeatureTower], tmp_path: Path, spec: str, family: str, suffix: str
) -> None:
    whole = {"timm": timms, "torchvision": resnet}[family].state_dict()
    body = {name: value for name, value in whole.items() if not name.startswith("fc.")}
    width = whole["fc.weight"].shape[1]
    if suffix == "pth":  # without a classifier, from a training script on several devices
        content = {"epoch": 3, "state_dict": {f"module.{name}": value for name, value in body.items()}}
        torch.save(content, tmp_path / "x.pth")
    else:
        save_file({**body, "fc.weight": torch.ones(7, width), "fc.bias": torch.ones(7)}, tmp_path / "x.safetensors")
    found = eager(f"{spec}/{tmp_path}/x.{suffix}")
    assert cosines(found, towers[family].encode_images(PICTURES[:2])).min() > CLOSE


@pytest.mark.parametrize(("model", "dim"), [("resnet50", 2048), ("resnet152", 2048)])
@pytest.mark.parametrize("family", ["timm", "torchvision"])
def test_the_resnets_of_the_thesis_have_2048_features(
    files: dict[str, Path], family: str, model: str, dim: int
) -> None:
    assert load_tower(f"{family}:{model}/{files[family]}").space.dim == dim  # the file is opened with the first image


def test_space_is_that_of_the_contents(files: dict[str, Path], towers: dict[str, FeatureTower], tmp_path: Path) -> None:
    for family, model, other in (("timm", TIMM, "test_resnet"), ("torchvision", RESNET, None)):
        copy = tmp_path / files[family].name
        copy.write_bytes(files[family].read_bytes())
        spec = f"{family}:{other or model}/{copy}"
        space = load_tower(spec).space
        assert (space.encoder, space.fingerprint) == (spec, towers[family].space.fingerprint)
        copy.write_bytes(files[family].read_bytes() + b"\0")
        assert load_tower(spec).space.fingerprint != space.fingerprint
    weights = files["torchvision"]
    assert load_tower(f"torchvision:resnet34/{weights}").space.fingerprint != towers["torchvision"].space.fingerprint


# downloads


def test_a_tag_of_timm_is_fetched_once_and_is_the_file(
    files: dict[str, Path], towers: dict[str, FeatureTower], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        if name.endswith(".safetensors"):
            raise OSError("no such entry")
        return str(files["timm"])

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    space = load_tower(f"timm:{TIMM}").space
    assert asked == [(f"timm/{TIMM}", "model.safetensors"), (f"timm/{TIMM}", "pytorch_model.bin")]
    assert (space.encoder, space.fingerprint) == (f"timm:{TIMM}", towers["timm"].space.fingerprint)


def test_weights_of_torchvision_are_fetched_once_and_checked(
    files: dict[str, Path], towers: dict[str, FeatureTower], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(url: str, path: str, hash_prefix: str, progress: bool) -> None:
        asked.append((url.rpartition("/")[2], hash_prefix, progress))
        Path(path).write_bytes(files["torchvision"].read_bytes())

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    spaces = [load_tower(spec).space for spec in ("torchvision:resnet18", "torchvision:resnet18/IMAGENET1K_V1")]
    assert asked == [("resnet18-f37072fd.pth", "f37072fd", False)]
    assert {space.fingerprint for space in spaces} == {towers["torchvision"].space.fingerprint}


@pytest.mark.parametrize("spec", [f"timm:{TIMM}", "torchvision:resnet152/IMAGENET1K_V2"])
def test_a_failed_download_is_one_line(spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand much more")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(EncoderError, match=r"cannot download .*; got no route to host.*; fetch it elsewhere") as error:
        load_tower(spec)
    assert "\n" not in str(error.value)


# what is refused


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:", "this names no model; got ''; write timm:MODEL.TAG or timm:MODEL//path/to/checkpoint"),
        ("timm:resnet50/", "this names no model"),
        ("timm:resnet50/a1_in1k", "this names no model of timm; got 'resnet50/a1_in1k'"),
        ("timm:resnet50", r"this names no weights; got 'resnet50'; .*there are: resnet50\.a1_in1k"),
        ("timm:resnet50.x", r"timm has no such model; got 'resnet50\.x'; there are: resnet50\.a1_in1k"),
        ("timm:resnet5000", "timm has no such model; got 'resnet5000'; write timm:"),
        ("timm:resnet50//nowhere.pth", "no such checkpoint; got /nowhere.pth"),
        ("torchvision:", "this names no model; got ''; write torchvision:MODEL"),
        ("torchvision:vgg16", "no such ResNet; got 'vgg16'; .*resnet50, resnet101, resnet152"),
        ("torchvision:resnet50/V9", "resnet50 has no such weights; got 'V9'; there are: IMAGENET1K_V1, IMAGENET1K_V2"),
        ("torchvision:resnet50/./nowhere.pth", "no such checkpoint; got nowhere.pth"),
        ("efficientnet:b7", "the encoder efficientnet takes no argument; got 'b7'; leave it out"),
    ],
)
def test_specs_that_name_nothing_are_refused(spec: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    with pytest.raises(EncoderError, match=message):
        load_tower(spec)


@pytest.mark.parametrize(("spec", "family"), [(f"timm:{TIMM}", "timm"), (f"torchvision:{RESNET}", "torchvision")])
def test_checkpoints_that_are_none_are_refused(files: dict[str, Path], tmp_path: Path, spec: str, family: str) -> None:
    path = tmp_path / files[family].name
    whole = files[family].read_bytes()
    for content in (b"", b"these are no weights", whole[:100], whole[: len(whole) // 2], pickle.dumps([1, 2])):
        path.write_bytes(content)
        with pytest.raises(EncoderError, match="cannot read the checkpoint") as error:
            eager(f"{spec}/{path}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("spec", "family"), [(f"timm:{TIMM}", "timm"), (f"torchvision:{RESNET}", "torchvision")])
def test_weights_of_another_architecture_are_refused(
    timms: Any, resnet: Any, tmp_path: Path, spec: str, family: str
) -> None:
    state = {"timm": timms, "torchvision": resnet}[family].state_dict()
    first = next(iter(state))
    missing = {name: value for name, value in state.items() if name != first}
    for wrong in (missing, {**state, "more": torch.ones(2)}, {**state, first: torch.ones(2)}, {"x": torch.ones(1)}):
        torch.save(wrong, tmp_path / "x.pth")
        with pytest.raises(EncoderError, match=r"the checkpoint .*x\.pth does not fit"):
            eager(f"{spec}/{tmp_path}/x.pth")


@pytest.mark.parametrize("spec", [f"timm:{TIMM}", f"torchvision:{RESNET}"])
def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, spec: str) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "was here",))

    torch.save({"state_dict": Hostile()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"conv1.weight": Hostile()}))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(EncoderError, match="cannot read the checkpoint"):
            eager(f"{spec}/{tmp_path}/{name}")
    assert not (tmp_path / "was here").exists()
