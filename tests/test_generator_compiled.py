"""The denoising network through OpenVINO: the same numbers as torch, and torch where gradients or maps are wanted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from simat.errors import ModelError
from simat.generators.model import Diffusion, load
from simat.generators.options import ModelOptions

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def both(tiny_folder: Path) -> tuple[Diffusion, Diffusion]:
    """The same model, compiled and in torch."""
    options = ModelOptions(str(tiny_folder), device="cpu", dtype="float32", runtime="openvino")
    return load(options), load(ModelOptions(str(tiny_folder), device="cpu", dtype="float32"))


def _latents(model: Diffusion, rows: int) -> torch.Tensor:
    shape = (rows, model.channels, model.grid, model.grid)
    return torch.randn(shape, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("timestep", [1, 481, 981])
def test_compiled_noise_is_that_of_torch(both: tuple[Diffusion, Diffusion], rows: int, timestep: int) -> None:
    compiled, plain = both
    latents, prompts = _latents(plain, rows), plain.embed(["a dog"] * rows)
    with torch.no_grad():
        expected = plain.noise(latents, timestep, prompts)
        torch.testing.assert_close(compiled.noise(latents, timestep, prompts), expected, atol=2e-4, rtol=1e-3)


def test_compiled_noise_does_not_depend_on_the_batch(both: tuple[Diffusion, Diffusion]) -> None:
    compiled, _ = both
    latents, prompts = _latents(compiled, 3), compiled.embed(["a dog", "a cat", ""])
    together = compiled.noise(latents, 500, prompts)
    for row in range(3):
        alone = compiled.noise(latents[row : row + 1], 500, type(prompts)(prompts.states[row : row + 1], {}))
        torch.testing.assert_close(alone[0], together[row], atol=1e-4, rtol=1e-3)


def test_gradients_go_through_torch(both: tuple[Diffusion, Diffusion]) -> None:
    compiled, plain = both
    prompts = plain.embed(["a dog"])
    slopes = []
    for model in (compiled, plain):
        latents = _latents(model, 1).requires_grad_()
        model.noise(latents, 500, prompts).square().sum().backward()
        slopes.append(latents.grad)
    torch.testing.assert_close(*slopes)
    assert slopes[0].abs().max() > 0


def test_a_watched_network_runs_in_torch(both: tuple[Diffusion, Diffusion]) -> None:
    compiled, plain = both
    seen = list[tuple[int, ...]]()
    hook = compiled.unet.register_forward_hook(lambda *_: seen.append((1,)))
    latents, prompts = _latents(plain, 1), plain.embed(["a dog"])
    with torch.no_grad():
        compiled.noise(latents, 500, prompts)
        assert not seen
        with compiled.watched():
            assert torch.equal(compiled.noise(latents, 500, prompts), plain.noise(latents, 500, prompts))
        assert len(seen) == 1
        compiled.noise(latents, 500, prompts)
    hook.remove()
    assert len(seen) == 1


def test_a_model_asks_for_its_runtime(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "asking"
    shutil.copytree(tiny_folder, folder)
    (folder / "simat.json").write_text(json.dumps({"runtime": "openvino"}))
    asked = load(ModelOptions(str(folder), device="cpu", dtype="float32"))
    refused = load(ModelOptions(str(folder), device="cpu", dtype="float32", runtime="torch"))
    assert asked._compiled is not None
    assert refused._compiled is None


def test_what_openvino_cannot_run_is_refused(tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"does not run through OpenVINO.*use runtime=torch"):
        load(ModelOptions(str(tiny_folder), device="cpu", dtype="float16", runtime="openvino"))
