"""One frozen text-conditional latent diffusion model behind one contract. Imported only with torch.

A model is a folder in the layout of diffusers: Stable Diffusion 1.x and 2.x (one text encoder), Stable Diffusion XL
(two, and added conditions), or a small one of the same layout, such as ``scenes``. Latents are float32 whatever the
network computes in; the autoencoder runs in float32, where its reconstruction is the floor of every edit.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float32
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from simat.errors import ModelError
from simat.files import sha256_file, sha256_text
from simat.generators.compiled import Compiled, compilable
from simat.generators.options import ModelOptions
from simat.generators.pipelines import load_pipeline, locate

Latents = Float32[torch.Tensor, "n c h w"]
Pixels = Float32[torch.Tensor, "n 3 height width"]
CPU = Path("/proc/cpuinfo")
DEFAULTS = "simat.json"  # in a model's folder: {"settings": {backend: {name: value}}, "runtime": "openvino"}


@dataclass(frozen=True)
class Prompts:
    """Texts as the network takes them.

    Attributes:
        states: hidden states of the text encoder(s), row by row of a batch.
        added: pooled states and sizes of models that take them (Stable Diffusion XL), else nothing.
    """

    states: Float[torch.Tensor, "n tokens d"]
    added: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.states)

    def repeated(self, count: int) -> Prompts:
        """Every text ``count`` times in a row: a a b b."""
        added = {name: value.repeat_interleave(count, 0) for name, value in self.added.items()}
        return Prompts(self.states.repeat_interleave(count, 0), added)

    @staticmethod
    def joined(parts: Sequence[Prompts]) -> Prompts:
        """Batches one after another."""
        added = {name: torch.cat([part.added[name] for part in parts]) for name in parts[0].added}
        return Prompts(torch.cat([part.states for part in parts]), added)


class Diffusion:
    """A loaded model; hold :attr:`lock` while an answer is made.

    Attributes:
        name: the spec it was loaded by.
        pipe: the diffusers pipeline that holds the parts.
        unet: the denoising network.
        vae: the autoencoder, float32.
        alphas: ᾱ of every training timestep.
        device: where latents live.
        dtype: what the denoising network computes in.
        unet_seconds: time spent inside the denoising network so far.
        lock: held by whoever makes an answer: settings of the attention and the clock are the model's own.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        pipe: Any,
        device: torch.device,
        dtype: torch.dtype,
        compiled: Compiled | None = None,
    ) -> None:
        from diffusers import DDIMScheduler

        self.name, self.folder, self.pipe, self.device, self.dtype = name, folder, pipe, device, dtype
        self.unet, self.vae = pipe.unet, pipe.vae
        scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        self.alphas: Float[torch.Tensor, " T"] = scheduler.alphas_cumprod.double()
        self._prediction: str = scheduler.config.prediction_type
        self.unet_seconds, self.lock = 0.0, threading.RLock()
        self._compiled, self._watched = compiled, False

    @property
    def factor(self) -> int:
        """Pixels per latent, along one axis."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def grid(self) -> int:
        """Latents along one axis of a picture."""
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def size(self) -> int:
        """Edge of a picture in pixels."""
        return self.grid * self.factor

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        return int(self.vae.config.latent_channels)

    @property
    def tokenizers(self) -> tuple[Any, ...]:
        """The tokenizers, in the order of the text encoders."""
        found = (getattr(self.pipe, name, None) for name in ("tokenizer", "tokenizer_2"))
        return tuple(tokenizer for tokenizer in found if tokenizer is not None)

    @property
    def tokenizer(self) -> Any:
        """The first tokenizer; the second of a model that has two cuts texts the same way."""
        return self.tokenizers[0]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the configuration and weights of its parts, and of nothing else that lies in its folder."""
        parts = (folder for folder in self.folder.iterdir() if folder.is_dir())
        found = (p for part in parts for p in part.iterdir() if p.suffix in {".json", ".safetensors", ".bin", ".txt"})
        files = sorted([*found, *self.folder.glob("model_index.json")])
        return sha256_text("\n".join(f"{p.relative_to(self.folder)} {sha256_file(p)}" for p in files))

    @cached_property
    def defaults(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings by backend that suit this model better than the method's own; see :func:`defaults_of`."""
        return defaults_of(self.folder)

    @torch.no_grad()
    def encode(self, images: Sequence[Image.Image]) -> Latents:
        """Latents of pictures of :attr:`size`: the mode of the posterior × the scaling factor, no random draw."""
        from diffusers.image_processor import VaeImageProcessor

        pixels = VaeImageProcessor(vae_scale_factor=self.factor).preprocess(list(images))
        mode = self.vae.encode(pixels.to(self.device, torch.float32)).latent_dist.mode()
        latents: Latents = (mode - self._shift) * self.vae.config.scaling_factor
        return latents

    def decode(self, latents: Latents) -> Pixels:
        """Pixels in [0, 1]; differentiable where they do not reach beyond."""
        decoded = self.vae.decode(latents / self.vae.config.scaling_factor + self._shift, return_dict=False)[0]
        pixels: Pixels = (decoded.float() / 2 + 0.5).clamp(0, 1)
        return pixels

    @torch.no_grad()
    def pictures(self, latents: Latents) -> list[Image.Image]:
        """The pictures of latents."""
        rows = (self.decode(latents) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        return [Image.fromarray(row) for row in rows]

    @torch.no_grad()
    def preview(self, latents: Latents) -> Image.Image:
        """A small picture of one latent, without the autoencoder: a linear map of its channels to colours."""
        colours = latents[0].permute(1, 2, 0).float() @ self._colours[:-1] + self._colours[-1]
        return Image.fromarray((colours.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())

    @cached_property
    def _colours(self) -> Float32[torch.Tensor, "channels_and_one 3"]:
        """Least squares from latents to the colours they decode to, on smooth noise."""
        coarse = torch.randn(1, self.channels, 8, 8, generator=torch.Generator("cpu").manual_seed(0))
        latents = interpolate(coarse, (self.grid, self.grid), mode="bicubic").to(self.device)
        colours = adaptive_avg_pool2d(self.decode(latents), self.grid)[0].flatten(1).T
        inputs = latents[0].flatten(1).T
        ones = torch.ones(len(inputs), 1, device=self.device)
        fitted: torch.Tensor = torch.linalg.lstsq(torch.cat([inputs, ones], 1), colours).solution
        return fitted

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> Prompts:
        """Texts for the network; what is longer than the context is cut, as the model was trained."""
        encoded = self.pipe.encode_prompt(
            prompt=list(texts), device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        states = encoded[0].to(self.device, self.dtype)
        if len(self.tokenizers) == 1:
            return Prompts(states, {})
        return self._added(texts, states, encoded[2].to(self.device, self.dtype))

    def noise(self, latents: Latents, timestep: int, prompts: Prompts) -> Latents:
        """ε(x_t, text, t), whatever the network predicts; differentiable in the latents.

        Args:
            latents: x_t.
            timestep: t, a training timestep.
            prompts: one row per row of the latents.
        """
        self._tick()
        started = time.perf_counter()
        if self._compiled is None or self._watched or latents.requires_grad:
            output = self.unet(
                latents.to(self.dtype),
                torch.tensor(timestep, device=self.device),
                encoder_hidden_states=prompts.states,
                added_cond_kwargs=dict(prompts.added) or None,
                return_dict=False,
            )[0]
        else:
            output = self._compiled(latents, timestep, prompts.states)
        self._tick()
        self.unet_seconds += time.perf_counter() - started
        return self._epsilon(output.float(), latents, float(self.alphas[timestep]))

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Run the network in torch, where its attention can be read; hold :attr:`lock`."""
        self._watched = True
        try:
            yield
        finally:
            self._watched = False

    def _epsilon(self, output: Latents, latents: Latents, alpha: float) -> Latents:
        if self._prediction == "epsilon":
            return output
        if self._prediction == "v_prediction":  # v = √ᾱ·ε − √(1 − ᾱ)·x0 (Salimans and Ho 2022)
            epsilon: Latents = alpha**0.5 * output + (1 - alpha) ** 0.5 * latents
            return epsilon
        epsilon = (latents - alpha**0.5 * output) / (1 - alpha) ** 0.5
        return epsilon

    def _added(self, texts: Sequence[str], states: torch.Tensor, pooled: torch.Tensor) -> Prompts:
        if self.pipe.config.get("force_zeros_for_empty_prompt"):
            empty = torch.tensor([not text for text in texts], device=self.device)
            states, pooled = states.masked_fill(empty[:, None, None], 0), pooled.masked_fill(empty[:, None], 0)
        sizes = torch.tensor([self.size, self.size, 0, 0, self.size, self.size], dtype=self.dtype, device=self.device)
        return Prompts(states, {"text_embeds": pooled, "time_ids": sizes.expand(len(texts), -1)})

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0

    def _tick(self) -> None:
        if self.device.type == "cuda":  # else the clock would measure how fast work is queued
            torch.cuda.synchronize(self.device)


def load(options: ModelOptions) -> Diffusion:
    """Load the model that the options name.

    Raises:
        ModelError: no such model, a pipeline without what text-conditional latent diffusion needs, no such device.
    """
    folder = locate(options.model)
    device = device_of(options)
    dtype = _dtype(options, device)
    pipe = load_pipeline(folder, options, device, dtype)
    runtime = str(_document(folder).get("runtime", "torch")) if options.runtime == "auto" else options.runtime
    if runtime != "openvino":
        return Diffusion(options.model, folder, pipe, device, dtype)
    if compilable(pipe, folder, options, device, dtype):
        compiled = Compiled(pipe.unet, folder / "unet", dtype, pipe.tokenizer.model_max_length)
        return Diffusion(options.model, folder, pipe, device, dtype, compiled)
    if options.runtime == "openvino":
        raise ModelError(
            "this network does not run through OpenVINO", got=f"{device.type}, {dtype}", remedy="use runtime=torch"
        )
    return Diffusion(options.model, folder, pipe, device, dtype)


def defaults_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Settings by backend that a model's folder asks for in its ``simat.json``; nothing where there is none.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        return {str(name): dict(values) for name, values in _document(folder).get("settings", {}).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ModelError("the settings of a model cannot be read", got=str(folder / DEFAULTS)) from error


def _document(folder: Path) -> dict[str, Any]:
    path = folder / DEFAULTS
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError, OSError) as error:
        raise ModelError("the settings of a model cannot be read", got=str(path)) from error


def device_of(options: ModelOptions) -> torch.device:
    """Where the options want networks to run.

    Raises:
        ModelError: CUDA is wanted and not there.
    """
    found = torch.cuda.is_available()
    if options.device == "cuda" and not found:
        raise ModelError("no CUDA device", got="device=cuda", remedy="use device=cpu or install a CUDA torch")
    if options.offload and (options.device == "cpu" or not found):
        raise ModelError("offloading moves networks to a GPU and back", got="no CUDA device", remedy="leave it out")
    return torch.device("cuda" if found and options.device != "cpu" else "cpu")


def _dtype(options: ModelOptions, device: torch.device) -> torch.dtype:
    if options.dtype != "auto":
        chosen: torch.dtype = getattr(torch, options.dtype)
        return chosen
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if _multiplies_bfloat16() else torch.float32


def _multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for it; where it has none, bfloat16 is emulated and slow."""
    flags = CPU.read_text("utf-8").split() if CPU.is_file() else []
    return not {"amx_bf16", "avx512_bf16"}.isdisjoint(flags)
