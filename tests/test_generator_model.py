"""One contract for diffusion models: against the pipelines of diffusers, and every way to name none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel
from tiny_diffusion import GRID, SIZE, loaded, picture, scheduler

from simat.errors import ModelError
from simat.generators import model as models
from simat.generators import pipelines
from simat.generators.model import Prompts, load
from simat.generators.options import ModelOptions
from simat.generators.schedule import Schedule, down, guided_noise, seeded_noise

pytestmark = pytest.mark.usefixtures("one_thread")


def opened(folder: Path, **options: Any) -> models.Diffusion:
    return load(ModelOptions(str(folder), **{"device": "cpu", "dtype": "float32", **options}))


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    """A model that a test may spoil."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


@pytest.mark.parametrize("name", ["tiny_folder", "tiny_v_folder", "tiny_xl_folder"])
def test_sampling_gives_the_picture_of_the_pipeline_of_diffusers(name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(name)
    model, steps, start = loaded(folder), 4, seeded_noise((1, 4, GRID, GRID), 3)
    theirs = DiffusionPipeline.from_pretrained(folder, safety_checker=None)
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        "a dog", num_inference_steps=steps, guidance_scale=5.0, latents=start, output_type="latent"
    ).images
    schedule, latents = Schedule.of(model.alphas, steps), start
    for level in range(steps, 0, -1):
        timestep = schedule.timestep(level)
        with torch.no_grad():
            noise = guided_noise(model, latents, timestep, model.embed(["a dog"]), model.embed([""]), 5.0)
        latents = down(schedule, latents, noise, level)
    assert torch.allclose(latents, expected, atol=2e-3), float((latents - expected).abs().max())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_noise_is_what_the_scheduler_of_diffusers_takes_it_for(tiny: Any, prediction: str) -> None:
    output, latents, timestep = seeded_noise((2, 4, 3, 3), 1), seeded_noise((2, 4, 3, 3), 2), 481
    theirs = scheduler(prediction)
    theirs.set_timesteps(50)
    clean = theirs.step(output, timestep, latents).pred_original_sample
    alpha = float(theirs.alphas_cumprod[timestep])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "_prediction", prediction)
        noise = tiny._epsilon(output, latents, alpha)
    assert torch.allclose(alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise, latents, atol=1e-4)


def test_encoding_is_the_mode_and_draws_nothing(tiny: Any) -> None:
    pixels = torch.from_numpy(np.asarray(picture(1), np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.no_grad():
        expected = tiny.vae.encode(pixels).latent_dist.mode() * tiny.vae.config.scaling_factor
    assert torch.allclose(tiny.encode([picture(1)]), expected, atol=1e-5)
    assert tiny.encode([picture(1)]).equal(tiny.encode([picture(1)]))


def test_pictures_are_the_decoded_pixels(tiny: Any) -> None:
    latents = tiny.encode([picture(1), picture(2)])
    with torch.no_grad():
        pixels = tiny.decode(latents)
    assert pixels.shape == (2, 3, SIZE, SIZE)
    assert 0 <= float(pixels.min()) <= float(pixels.max()) <= 1
    second = np.asarray(tiny.pictures(latents)[1], np.float32) / 255
    assert np.allclose(second, pixels[1].permute(1, 2, 0).numpy(), atol=0.51 / 255)


def test_decoding_has_a_gradient_in_the_latents(tiny: Any) -> None:
    latents = tiny.encode([picture(1)]).clone().requires_grad_()
    tiny.decode(latents).mean().backward()
    assert float(latents.grad.abs().max()) > 0


def test_noise_has_a_gradient_in_the_latents_and_none_in_the_weights(tiny: Any) -> None:
    latents = seeded_noise((1, 4, GRID, GRID), 1).requires_grad_()
    tiny.noise(latents, 481, tiny.embed(["a dog"])).square().mean().backward()
    assert float(latents.grad.abs().max()) > 0
    assert all(weight.grad is None for weight in tiny.unet.parameters())


def test_every_row_has_its_own_text(tiny: Any) -> None:
    row = seeded_noise((1, 4, GRID, GRID), 1)
    with torch.no_grad():
        both = tiny.noise(row.repeat(2, 1, 1, 1), 481, tiny.embed(["a dog", "a cat"]))
        alone = tiny.noise(row, 481, tiny.embed(["a cat"]))
    assert torch.allclose(both[1:], alone, atol=1e-4)
    assert float((both[0] - both[1]).abs().mean()) > 1e-3


def test_prompts_are_repeated_and_joined_row_by_row(tiny_xl: Any) -> None:
    two = tiny_xl.embed(["a dog", "a cat"])
    repeated = two.repeated(2)
    assert len(repeated) == 4
    assert repeated.states[1].equal(two.states[0])
    assert repeated.added["text_embeds"][2].equal(two.added["text_embeds"][1])
    joined = Prompts.joined([two, repeated])
    assert len(joined) == len(joined.added["time_ids"]) == 6


def test_the_empty_text_of_sdxl_is_zero(tiny_xl: Any) -> None:
    prompts = tiny_xl.embed(["", "a dog"])
    assert not prompts.states[0].any()
    assert not prompts.added["text_embeds"][0].any()
    assert prompts.states[1].any()


def test_model_tells_its_sizes(tiny: Any, tiny_xl: Any) -> None:
    assert (tiny.size, tiny.grid, tiny.factor, tiny.channels) == (SIZE, GRID, 4, 4)
    assert (len(tiny.tokenizers), len(tiny_xl.tokenizers)) == (1, 2)


def test_time_inside_the_network_is_counted(tiny: Any) -> None:
    before = tiny.unet_seconds
    with torch.no_grad():
        tiny.noise(seeded_noise((1, 4, GRID, GRID), 1), 481, tiny.embed(["a dog"]))
    assert tiny.unet_seconds > before


def test_preview_shows_the_colours_of_the_picture(tiny: Any) -> None:
    latents = tiny.encode([picture(1)])
    with torch.no_grad():
        small = torch.nn.functional.adaptive_avg_pool2d(tiny.decode(latents), GRID)[0].permute(1, 2, 0).numpy()
    shown = np.asarray(tiny.preview(latents), np.float32) / 255
    assert shown.shape == (GRID, GRID, 3)
    assert np.abs(shown - small).mean() < np.abs(small - small.mean((0, 1))).mean() + 0.02


def test_fingerprint_is_that_of_the_content(tiny: Any, copied: Path) -> None:
    assert opened(copied).fingerprint == tiny.fingerprint
    config = copied / "unet" / "config.json"
    config.write_text(config.read_text() + "\n")
    assert opened(copied).fingerprint != tiny.fingerprint


def test_a_model_may_bring_settings(tiny: Any, copied: Path) -> None:
    assert tiny.defaults == {}
    (copied / "simat.json").write_text(json.dumps({"settings": {"diffedit": {"guidance": 2.5}}}))
    assert opened(copied).defaults == {"diffedit": {"guidance": 2.5}}
    assert opened(copied).fingerprint == tiny.fingerprint
    (copied / "simat.json").write_text('{"settings": []}')
    with pytest.raises(ModelError, match="settings of a model cannot be read"):
        _ = opened(copied).defaults


@pytest.mark.parametrize("more", [{"dtype": "bfloat16"}, {"slicing": True}])
def test_other_ways_to_run_predict_nearly_the_same(tiny: Any, tiny_folder: Path, more: dict[str, Any]) -> None:
    other, latents = opened(tiny_folder, **more), seeded_noise((1, 4, GRID, GRID), 1)
    with torch.no_grad():
        expected = tiny.noise(latents, 481, tiny.embed(["a dog"]))
        noise = other.noise(latents, 481, other.embed(["a dog"]))
    assert noise.dtype == torch.float32
    assert float((noise - expected).abs().mean()) < 0.02 * float(expected.abs().mean())


def test_the_autoencoder_stays_in_single_precision(tiny: Any, tiny_folder: Path) -> None:
    half = opened(tiny_folder, dtype="bfloat16")
    assert half.unet.dtype == torch.bfloat16
    assert torch.allclose(half.encode([picture(1)]), tiny.encode([picture(1)]), atol=1e-6)


@pytest.mark.parametrize(("flags", "dtype"), [("avx2 amx_bf16", torch.bfloat16), ("avx2", torch.float32)])
def test_dtype_auto_is_half_where_the_cpu_multiplies_it(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, dtype: torch.dtype
) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
    monkeypatch.setattr(models, "CPU", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert opened(tiny_folder, dtype="auto").dtype == dtype


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("more", [{"dtype": "float16"}, {"dtype": "bfloat16"}, {"dtype": "float16", "offload": True}])
def test_cuda_predicts_nearly_the_same(tiny: Any, tiny_folder: Path, more: dict[str, Any]) -> None:
    other, latents = opened(tiny_folder, device="cuda", **more), seeded_noise((1, 4, GRID, GRID), 1)
    with torch.no_grad():
        expected = tiny.noise(latents, 481, tiny.embed(["a dog"]))
        noise = other.noise(latents.cuda(), 481, other.embed(["a dog"])).cpu()
    assert float((noise - expected).abs().mean()) < 0.05 * float(expected.abs().mean())


@pytest.mark.parametrize("name", ["/nowhere/at/all", "./nowhere", "nowhere", "a/b/c", ""])
def test_a_model_that_is_not_there_is_told(name: str) -> None:
    with pytest.raises(ModelError, match=r"no such model|no pipeline of diffusers"):
        load(ModelOptions(name))


def test_a_hub_id_that_cannot_be_fetched_is_told() -> None:
    with pytest.raises(ModelError, match="on this disk or on the hub; got 'nobody/nothing'"):
        load(ModelOptions("nobody/nothing"))


def test_a_folder_without_a_pipeline_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no pipeline of diffusers.*no model_index\.json"):
        load(ModelOptions(str(tmp_path)))


def test_the_model_of_the_scene_world_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "SCENES", tmp_path)
    with pytest.raises(ModelError, match=r"scene world is not installed.*simat train-scenes"):
        load(ModelOptions())


def test_a_pipeline_without_a_text_encoder_is_refused(tmp_path: Path) -> None:
    blocks: Any = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = UNet2DModel(sample_size=8, block_out_channels=(8,), norm_num_groups=4, layers_per_block=1, **blocks)
    DDPMPipeline(unet, DDPMScheduler()).save_pretrained(tmp_path / "ddpm")
    with pytest.raises(ModelError, match="ddpm has no vae, text_encoder, tokenizer; got DDPMPipeline"):
        load(ModelOptions(str(tmp_path / "ddpm")))


def test_a_pipeline_whose_text_encoder_is_left_out_is_refused(copied: Path) -> None:
    index = copied / "model_index.json"
    document = json.loads(index.read_text())
    index.write_text(json.dumps({**document, "text_encoder": [None, None]}))
    with pytest.raises(ModelError, match="model has no text_encoder"):
        opened(copied)


@pytest.mark.parametrize("spoil", ["weights", "config", "index", "gone"])
def test_a_damaged_model_is_told(copied: Path, spoil: str) -> None:
    if spoil == "weights":
        (copied / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no weights")
    elif spoil == "config":
        (copied / "unet" / "config.json").write_text("{")
    elif spoil == "index":
        (copied / "model_index.json").write_text("[")
    else:
        shutil.rmtree(copied / "vae")
    with pytest.raises(ModelError, match="cannot be"):
        opened(copied)


@pytest.mark.parametrize("options", [{"device": "tpu"}, {"dtype": "int8"}])
def test_unknown_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="unknown option"):
        ModelOptions(**options)


def test_what_needs_a_gpu_is_refused_without_one(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ModelError, match="no CUDA device"):
        opened(tiny_folder, device="cuda")
    with pytest.raises(ModelError, match="offloading"):
        opened(tiny_folder, offload=True)
