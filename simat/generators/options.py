"""How generative models run: which, where, and how precisely."""

from __future__ import annotations

from dataclasses import dataclass

from simat.errors import ModelError

DEVICES = ("auto", "cpu", "cuda")
RUNTIMES = ("auto", "torch", "openvino")
DTYPES = ("auto", "float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ModelOptions:
    """Which generative model and how it runs.

    Attributes:
        model: ``scenes``, the folder of a diffusers pipeline, or a hub id.
        device: ``auto`` (CUDA where torch sees it), ``cpu`` or ``cuda``.
        dtype: of the denoising network; ``auto`` is float16 on CUDA, bfloat16 on CPUs that multiply it in hardware,
            float32 elsewhere. Latents stay float32.
        runtime: of the denoising network where neither gradients nor attention are asked for: ``openvino`` (CPU),
            ``torch``, or ``auto``: what the model's own settings say, else torch.
        slicing: attend in slices: less memory, more time.
        offload: keep on the GPU only the network that runs; needs CUDA.
        networks: open_clip networks of methods that use some; empty for the method's own.
    """

    model: str = "scenes"
    device: str = "auto"
    dtype: str = "auto"
    slicing: bool = False
    offload: bool = False
    networks: tuple[str, ...] = ()
    runtime: str = "auto"

    def __post_init__(self) -> None:
        for value, allowed in ((self.device, DEVICES), (self.dtype, DTYPES), (self.runtime, RUNTIMES)):
            if value not in allowed:
                raise ModelError("unknown option of a generative model", got=value, remedy=f"use {', '.join(allowed)}")
