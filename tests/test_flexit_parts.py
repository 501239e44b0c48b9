"""The parts of FlexIT: views, codecs, networks, perceptual distances."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from tiny_flexit import generator, one_thread, picture, saved, tiny_kl, tiny_vq  # noqa: F401

from simat.errors import EncoderError, ModelError, QueryError
from simat.generators.augment import Augmentation, views
from simat.generators.codecs import KlCodec, PixelCodec, VqCodec, load_codec, soft_clamp
from simat.generators.networks import DualNetwork, load_networks
from simat.generators.perceptual import PerceptualDistance, load_perceptual

# Views


def test_views_are_seeded() -> None:
    first, again, other = (Augmentation().draw(generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_views_without_any_change_are_the_picture() -> None:
    maps = Augmentation(4, degrees=0.0, area=1.0, stretch=0.0, flips=0.0).draw(generator())
    for view in views(picture(), maps, 16):
        assert torch.allclose(view, picture()[0], atol=1e-5)


def test_views_with_flips_alone_are_mirror_images() -> None:
    maps = Augmentation(1, degrees=0.0, area=1.0, stretch=0.0, flips=1.0).draw(generator())
    assert torch.allclose(views(picture(), maps, 16), picture().flip(-1), atol=1e-5)


def test_views_by_a_quarter_turn_are_those_of_rot90() -> None:
    maps = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])
    assert torch.allclose(views(picture(), maps, 16), picture().rot90(1, (2, 3)), atol=1e-5)


@given(st.integers(0, 10_000))
def test_views_stay_within_what_the_thesis_says(seed: int) -> None:
    maps = Augmentation(4).draw(generator(seed))
    linear = maps[:, :, :2].double()
    area = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
    width, height = linear[:, :, 0].norm(dim=1), linear[:, :, 1].norm(dim=1)
    angle = torch.rad2deg(torch.atan2(linear[:, 1, 0], linear[:, 1, 1] * width / height))
    assert (area.abs() > 0.78).all(), "a crop of 0.8 whose long side was cut at the frame"
    assert (area.abs() <= 1 + 1e-6).all()
    assert ((width / height > 0.89) & (width / height < 1.12)).all()
    assert (angle.abs() <= 10 + 1e-4).all()


def test_views_of_a_crop_lie_inside_the_picture() -> None:
    maps = Augmentation(200, degrees=0.0).draw(generator())
    corners = torch.tensor([[x, y, 1.0] for x in (-1, 1) for y in (-1, 1)])
    assert (corners @ maps.transpose(1, 2)).abs().max() <= 1 + 1e-6


def test_views_of_a_large_picture_skip_no_pixel() -> None:
    stripes = torch.zeros(1, 3, 64, 64)
    stripes[..., ::2] = 1
    seen = views(stripes, Augmentation(4).draw(generator()), 16)
    assert (seen - 0.5).abs().max() < 0.1


def test_augmentation_refuses_a_negative_number() -> None:
    with pytest.raises(QueryError, match="cannot be negative; got -1"):
        Augmentation(-1)


# The soft clamp


@example(-0.4)  # where 1 − (1 − e⁻²¹) would be nothing in single precision
@example(1.4)
@given(st.floats(-8, 8))
def test_soft_clamp_stays_in_range_with_a_gradient_towards_it(value: float) -> None:
    at = torch.tensor(value, requires_grad=True)
    clamped = soft_clamp(at)
    clamped.backward()
    assert -1e-6 <= clamped.item() <= 1 + 1e-6
    assert at.grad is not None
    assert 0 <= at.grad.item() <= 1
    if -0.5 < value < 1.5:
        assert at.grad.item() > 0
    if 0.02 <= value <= 0.98:
        assert clamped.item() == pytest.approx(value, abs=1e-6)
        assert at.grad.item() == 1


def test_soft_clamp_is_smooth() -> None:
    around = torch.linspace(-0.2, 1.2, 57, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(soft_clamp, around)
    assert (soft_clamp(around).diff() > 0).all()


# Codecs


@pytest.mark.parametrize(("spec", "place"), [("scenes:vq", "vq"), ("scenes:kl", "diffusion/vae")])
def test_codecs_of_the_scene_world_bring_a_scene_back(spec: str, place: str) -> None:
    from data.scenes.render import render
    from data.scenes.scene import sample
    from simat.generators.codecs import SCENES

    if not (SCENES / place / "config.json").is_file():
        pytest.skip("the scene world's models are not made")
    codec = load_codec(spec)
    drawn = np.array(render(sample(900_001, 0), 128).image, np.float32) / 255
    pixels = torch.from_numpy(drawn).permute(2, 0, 1)[None]
    with torch.no_grad():
        latents = codec.encode(pixels)
        error = (codec.decode(latents).clamp(0, 1) - pixels).square().mean().item()
    assert codec.factor == 4
    assert latents.shape[2:] == (32, 32)
    assert -10 * np.log10(error) > 24, "dB"


def test_kl_codec_takes_the_mode_and_passes_gradients(tmp_path: Path) -> None:
    module = tiny_kl()
    codec = load_codec(str(saved(module, tmp_path / "kl")))
    assert isinstance(codec, KlCodec)
    with torch.no_grad():
        moments = module.quant_conv(module.encoder(picture() * 2 - 1))
    assert torch.allclose(codec.encode(picture()), moments[:, :2], atol=1e-6)
    latents = codec.encode(picture()).requires_grad_(True)
    codec.decode(latents).sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_vq_codec_does_not_quantise(tmp_path: Path) -> None:
    codec = load_codec(str(saved(tiny_vq(), tmp_path / "vq")))
    assert isinstance(codec, VqCodec)
    latents = codec.encode(picture())
    moved = latents + 1e-3
    assert not torch.equal(codec.decode(latents), codec.decode(moved)), "a quantised decoder would not see the step"
    latents.requires_grad_(True)
    codec.decode(latents).square().sum().backward()
    assert latents.grad is not None
    assert latents.grad.abs().sum() > 0


def test_codec_of_a_pipeline_is_its_autoencoder(tmp_path: Path) -> None:
    alone = load_codec(str(saved(tiny_kl(), tmp_path / "alone")))
    saved(tiny_kl(), tmp_path / "pipeline" / "vae")
    (tmp_path / "pipeline" / "model_index.json").write_text("{}")
    within = load_codec(str(tmp_path / "pipeline"))
    assert within.fingerprint == alone.fingerprint
    assert torch.equal(within.encode(picture()), alone.encode(picture()))


def test_codec_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    one, other = tiny_kl(), tiny_kl()
    with torch.no_grad():
        other.decoder.conv_out.bias.add_(1e-3)
    names = {
        load_codec(str(saved(module, tmp_path / str(n)))).fingerprint for n, module in enumerate((one, other, one))
    }
    assert len(names) == 2


def test_pixel_codec_is_the_identity() -> None:
    codec = load_codec("pixels")
    assert isinstance(codec, PixelCodec)
    assert torch.equal(codec.decode(codec.encode(picture())), picture())
    assert codec.encode(picture()).data_ptr() != picture().data_ptr()


def test_codec_of_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no autoencoder here; got .*nowhere; give the folder"):
        load_codec(str(tmp_path / "nowhere"))


def test_codec_of_the_scene_world_that_is_not_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simat.generators.codecs.SCENES", tmp_path)
    with pytest.raises(ModelError, match=r"not installed; got scenes:vq; make it with .* or take the other one"):
        load_codec("scenes:vq")


def test_codec_of_another_network_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(ModelError, match="no autoencoder that FlexIT knows; got UNet2DConditionModel"):
        load_codec(str(tmp_path))


@pytest.mark.parametrize("content", ["", "[1]", "\xff"])
def test_codec_with_a_broken_configuration_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match="cannot read"):
        load_codec(str(tmp_path))


def test_codec_with_damaged_weights_is_an_error(tmp_path: Path) -> None:
    folder = saved(tiny_kl(), tmp_path / "kl")
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load the autoencoder"):
        load_codec(str(folder))


# Networks


@pytest.fixture(scope="module")
def network() -> DualNetwork:
    return load_networks(["scenes"])[0]


def test_network_of_the_scene_world_agrees_with_the_encoder(network: DualNetwork) -> None:
    from simat.encoders import load_encoder

    encoder = load_encoder("scenes")
    rgb = (picture(2, 128)[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        ours = network.embed_images(network.prepared(pixels))[0].numpy()
    assert ours @ encoder.encode_images([Image.fromarray(rgb)])[0] > 0.9995
    texts = ["a dog riding a bicycle", "cat"]
    assert np.allclose(network.embed_texts(texts).numpy(), encoder.encode_texts(texts), atol=2e-3)


def test_network_passes_gradients_to_every_pixel_and_keeps_its_weights(network: Any) -> None:
    pixels = picture(1, 96).requires_grad_(True)
    network.embed_images(network.prepared(pixels))[0, 0].backward()
    assert pixels.grad is not None
    assert (pixels.grad != 0).float().mean() > 0.99
    assert not any(weight.requires_grad for weight in network._model.parameters())


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "no network to embed"),
        (["offline"], "no gradients pass through this encoder; got 'offline'"),
        (["scenes:small"], "no gradients pass"),
        (["open_clip:NoSuchNet/openai"], "open_clip has no such model"),
        (["open_clip:ViT-B-32/openai"], r"trained with another activation.*use ViT-B-32-quickgelu/openai"),
        (["open_clip:RN50//nowhere/weights.pt"], "no such checkpoint"),
        (["scenes", "scenes"], "a network is named twice; got scenes"),
    ],
)
def test_networks_that_cannot_be_had_are_errors(specs: list[str], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        load_networks(specs)


# Perceptual distances


@pytest.fixture(scope="module")
def distance() -> PerceptualDistance:
    return load_perceptual("efficientnet")


def test_perceptual_distance_of_the_wheel_is_a_distance(distance: PerceptualDistance) -> None:
    near, far = picture(0, 64) * 0.98, picture(1, 64)
    assert distance(picture(0, 64), picture(0, 64)).item() == 0
    assert 0 < distance(picture(0, 64), near).item() < distance(picture(0, 64), far).item()
    assert distance(picture(0, 64), far).item() == pytest.approx(distance(far, picture(0, 64)).item(), rel=1e-5)
    assert "EfficientNet" in distance.name


def test_perceptual_distance_has_a_finite_gradient_at_zero(distance: PerceptualDistance) -> None:
    pixels = picture(0, 64).requires_grad_(True)
    distance(pixels, picture(0, 64)).backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()


@pytest.fixture(scope="module")
def alexnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the layout of torchvision's AlexNet."""
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(0)
        file = tmp_path_factory.mktemp("alexnet") / "alexnet.pth"
        torch.save(torchvision.models.AlexNet().state_dict(), file)
    return file


def test_lpips_agrees_with_its_package(alexnet: Path) -> None:
    lpips = pytest.importorskip("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    backbone = {name: torch.load(alexnet)[f"features.{name.partition('.')[2]}"] for name in theirs.net.state_dict()}
    theirs.net.load_state_dict(backbone)
    ours = load_perceptual(f"alex:{alexnet}")
    pair = torch.cat([picture(0, 64), picture(1, 64)]), torch.cat([picture(2, 64), picture(1, 64) * 0.9])
    assert torch.allclose(ours(*pair), theirs(*pair, normalize=True).flatten(), atol=1e-6)
    assert ours.name == "LPIPS 0.1, AlexNet"


def test_lpips_of_a_black_picture_has_a_finite_gradient(alexnet: Path) -> None:
    pytest.importorskip("lpips")
    distance = load_perceptual(f"alex:{alexnet}")
    pixels = torch.zeros(1, 3, 64, 64, requires_grad=True)
    distance(pixels, picture(0, 64)).backward()
    assert pixels.grad is not None
    assert pixels.grad.isfinite().all()


def test_lpips_with_weights_of_another_network_is_an_error(tmp_path: Path) -> None:
    pytest.importorskip("lpips")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg.pth")
    with pytest.raises(ModelError, match=r"holds other weights than LPIPS needs; got no slice1\.0\.weight"):
        load_perceptual(f"alex:{tmp_path / 'vgg.pth'}")


def test_lpips_without_weights_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lpips")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ModelError, match="the weights of vgg are not at hand"):
        load_perceptual("vgg")
    with pytest.raises(ModelError, match="no such perceptual distance; got 'ssim'"):
        load_perceptual("ssim")
