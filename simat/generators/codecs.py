"""The spaces that FlexIT optimises in: the latents of an autoencoder, or the pixels themselves.

Imported only with torch. All arithmetic is in single precision: in half precision the gradient of the soft clamp
under- and overflows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from simat.errors import ModelError
from simat.files import sha256_file, sha256_text
from simat.generators.augment import Pictures

SCENES = Path(__file__).resolve().parents[1] / "models" / "scenes"
KNEE = 0.02
"""How far from black and white the soft clamp begins to bend."""
HELP = "give the folder of an AutoencoderKL or a VQModel of diffusers, a pipeline's folder, or 'pixels'"
MAKE = "make it with 'simat train-scenes', or take the other one with codec=kl or codec=vq"
Latents = Float[Tensor, "n channels rows columns"]


@runtime_checkable
class Codec(Protocol):
    """An encoder E and a decoder D; gradients pass through D."""

    @property
    def name(self) -> str:
        """What kind of space this is, and where it came from."""
        ...

    @property
    def fingerprint(self) -> str:
        """Names architecture and weights."""
        ...

    @property
    def factor(self) -> int:
        """Pixels per latent, along each side: sizes of pictures are multiples of it."""
        ...

    def encode(self, pictures: Pictures) -> Latents:
        """Latents of pictures in [0, 1], without gradients."""
        ...

    def decode(self, latents: Latents) -> Pictures:
        """Pictures, nominally in [0, 1] but not clamped."""
        ...


class PixelCodec:
    """The pixels themselves (Couairon 2023, section 4.4.3: optimisation over raw pixels)."""

    name, fingerprint, factor = "pixels", sha256_text("pixels"), 1

    def encode(self, pictures: Pictures) -> Latents:
        """The pictures."""
        return pictures.detach().clone()

    def decode(self, latents: Latents) -> Pictures:
        """The latents, which are pictures."""
        return latents


class _Autoencoder:
    """What the codecs of diffusers have in common.

    Attributes:
        name: kind and origin.
        fingerprint: of configuration and weights, or of the name where there is no file.
        factor: pixels per latent, along each side.
    """

    def __init__(self, module: Any, name: str, fingerprint: str | None = None) -> None:
        self._module = module.eval().requires_grad_(False)
        self.name, self.fingerprint = name, fingerprint or sha256_text(f"{name}\n{module.config}")
        self.factor = 2 ** (len(module.config.block_out_channels) - 1)


class KlCodec(_Autoencoder):
    """An ``AutoencoderKL`` of diffusers, whose latents are the mode of the posterior."""

    @torch.no_grad()
    def encode(self, pictures: Pictures) -> Latents:
        """The mode of the posterior, as the network gives it: not scaled."""
        latents: Tensor = self._module.encode(pictures * 2 - 1).latent_dist.mode()
        return latents

    def decode(self, latents: Latents) -> Pictures:
        """Pictures, nominally in [0, 1] but not clamped."""
        pictures: Tensor = self._module.decode(latents).sample
        return pictures / 2 + 0.5


class VqCodec(_Autoencoder):
    """A ``VQModel`` of diffusers, whose latents are taken before they are quantised (Couairon 2023, section 4.3)."""

    @torch.no_grad()
    def encode(self, pictures: Pictures) -> Latents:
        """Latents that are not quantised."""
        latents: Tensor = self._module.encode(pictures * 2 - 1).latents
        return latents

    def decode(self, latents: Latents) -> Pictures:
        """Pictures of latents as they are, nominally in [0, 1] but not clamped; diffusers quantises by default."""
        pictures: Tensor = self._module.decode(latents, force_not_quantize=True).sample
        return pictures / 2 + 0.5


def soft_clamp(values: Tensor, knee: float = KNEE) -> Tensor:
    """Map to [0, 1]: the identity between ``knee`` and 1 − ``knee``, exponential outside, once differentiable.

    No pixel that can still be seen to move has a zero gradient, as it would have beyond a hard clamp.
    """
    low = knee * torch.exp((values - knee).clamp(max=0) / knee)
    high = 1 - knee * torch.exp((1 - knee - values).clamp(max=0) / knee)
    return torch.where(values < knee, low, torch.where(values > 1 - knee, high, values))


def load_codec(spec: str, device: str = "cpu") -> Codec:
    """Load a codec in single precision.

    Args:
        spec: ``pixels``; ``scenes:vq`` or ``scenes:kl`` for those of the scene world; or a folder of diffusers: of an
            ``AutoencoderKL``, of a ``VQModel``, or of a pipeline that has one as its ``vae`` or ``vqvae``.
        device: of torch.

    Raises:
        ModelError: no such folder, no autoencoder in it, or weights that do not fit.
    """
    if spec == "pixels":
        return PixelCodec()
    own = {"scenes:vq": SCENES / "vq", "scenes:kl": SCENES / "diffusion" / "vae"}.get(spec)
    if own and not (own / "config.json").is_file():
        raise ModelError("this autoencoder of the scene world is not installed", got=spec, remedy=MAKE)
    folder = own or _autoencoder_folder(Path(spec).expanduser())
    kinds: dict[str, tuple[str, type[KlCodec] | type[VqCodec]]] = {
        "AutoencoderKL": ("kl", KlCodec),
        "VQModel": ("vq", VqCodec),
    }
    name = _class_name(folder)
    if name not in kinds:
        raise ModelError(f"{folder} holds no autoencoder that FlexIT knows", got=name, remedy=HELP)
    kind, codec = kinds[name]
    return codec(_module(name, folder).to(device), f"{kind} {spec}", _fingerprint(folder))


def _autoencoder_folder(folder: Path) -> Path:
    for inside in (folder, folder / "vae", folder / "vqvae"):
        if (inside / "config.json").is_file():
            return inside
    raise ModelError("no autoencoder here", got=str(folder), remedy=HELP)


def _class_name(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8")).get("_class_name"))
    except (ValueError, AttributeError, OSError) as error:
        raise ModelError(f"cannot read {folder / 'config.json'}", got=type(error).__name__, remedy=HELP) from error


def _module(name: str, folder: Path) -> Any:
    import diffusers

    try:
        return getattr(diffusers, name).from_pretrained(
            str(folder), torch_dtype=torch.float32, low_cpu_mem_usage=False, local_files_only=True
        )
    except Exception as error:  # bytes that are no weights make the readers raise anything
        reason = str(error).strip().splitlines()
        got = reason[0] if reason else type(error).__name__
        raise ModelError(f"cannot load the autoencoder in {folder}", got=got, remedy=HELP) from error


def _fingerprint(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.suffix in {".json", ".safetensors", ".bin"})
    return sha256_text("\n".join(f"{path.name} {sha256_file(path)}" for path in files))
