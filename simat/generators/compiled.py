"""The denoising network through OpenVINO: half the time of torch on a CPU, but no gradients and no attention maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32

from simat.encoders.runtime import Network, OpenVinoRuntime, RuntimeOptions
from simat.files import sha256_file, sha256_text
from simat.generators.options import ModelOptions

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}
BATCH = 1024  # rows at once: all that are asked for


class Compiled:
    """A UNet that takes latents, one timestep and one text per row."""

    def __init__(self, unet: Any, folder: Path, dtype: torch.dtype, tokens: int) -> None:
        weights = sorted(folder.glob("*.safetensors"))
        key = sha256_text("\n".join(sha256_file(path) for path in [folder / "config.json", *weights]))[:16]
        config, size = unet.config, unet.config.sample_size

        def build() -> torch.nn.Module:
            return _Called(_in_single_precision(folder))

        def example() -> tuple[np.ndarray, ...]:
            latents = np.zeros((2, config.in_channels, size, size), np.float32)
            return latents, np.full(2, 500), np.zeros((2, tokens, config.cross_attention_dim), np.float32)

        network = Network(f"unet-{key}", build, example, BATCH, fixed=False, rows_only=True)
        options = RuntimeOptions(precision=PRECISIONS[dtype], threads=torch.get_num_threads())  # type: ignore[arg-type]
        self._runtime = OpenVinoRuntime(network, options)

    def __call__(
        self, latents: Float32[torch.Tensor, "n c h w"], timestep: int, states: Float[torch.Tensor, "n tokens d"]
    ) -> Float32[torch.Tensor, "n c h w"]:
        """What the network predicts: noise, velocity or picture."""
        times = np.full(len(latents), timestep)
        return torch.from_numpy(self._runtime(latents.numpy(), times, states.float().numpy()))


def compilable(pipe: Any, folder: Path, options: ModelOptions, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether the network can run compiled: on a CPU, whole, with plain text conditions and its weights in files."""
    return (
        device.type == "cpu"
        and dtype in PRECISIONS
        and not options.slicing
        and getattr(pipe, "text_encoder_2", None) is None
        and isinstance(pipe.unet.config.sample_size, int)
        and any((folder / "unet").glob("*.safetensors"))
    )


def _in_single_precision(folder: Path) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32, local_files_only=True).eval()


class _Called(torch.nn.Module):
    def __init__(self, unet: Any) -> None:
        super().__init__()
        self._unet = unet

    def forward(self, latents: Any, timesteps: Any, states: Any) -> Any:
        """Positional, and a tensor only, as the tracer wants it."""
        return self._unet(latents, timesteps, states, return_dict=False)[0]
