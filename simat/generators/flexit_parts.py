"""What FlexIT runs on: codec, networks and perceptual distance of a model, loaded once. Imported only with torch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from simat.errors import ModelError, QueryError
from simat.generators.codecs import Codec, load_codec
from simat.generators.model import defaults_of, device_of
from simat.generators.networks import DualNetwork, load_networks
from simat.generators.options import ModelOptions
from simat.generators.perceptual import PerceptualDistance, load_perceptual
from simat.generators.pipelines import locate

SCENES = "scenes"
THESIS_NETWORKS = tuple(f"open_clip:{name}-quickgelu/openai" for name in ("RN50", "RN50x4", "ViT-B-32"))
THESIS_SIZE, SCENES_SIZE = 288, 128
KINDS = ("vq", "kl")
T = TypeVar("T")


@dataclass(frozen=True)
class Parts:
    """Everything frozen that an objective needs.

    Attributes:
        codec: the space of the optimisation.
        networks: the multimodal encoder.
        perceptual: None where its term is off.
        size: edge of a picture where the settings name none.
        device: where they are.
    """

    codec: Codec
    networks: tuple[DualNetwork, ...]
    perceptual: PerceptualDistance | None
    size: int
    device: torch.device

    def pixels(self, picture: Image.Image) -> Float[Tensor, "1 3 height width"]:
        """A square picture as the codec takes it.

        Raises:
            QueryError: its edge is no multiple of what one latent covers.
        """
        if picture.width % self.codec.factor:
            raise QueryError(
                f"the size of the picture must be a multiple of {self.codec.factor} for this autoencoder",
                got=picture.width,
            )
        array = torch.from_numpy(np.array(picture, dtype=np.float32) / 255)
        return array.permute(2, 0, 1)[None].contiguous().to(self.device)

    def identities(self) -> dict[str, str]:
        """Fingerprints by role."""
        found = {"codec": f"{self.codec.name} {self.codec.fingerprint}"}
        found |= {f"network {network.name}": network.fingerprint for network in self.networks}
        if self.perceptual:
            found["perceptual"] = f"{self.perceptual.name} {self.perceptual.fingerprint}"
        return found


class Shelf:
    """Loads the parts that the options and settings name, each once; safe to share between threads."""

    def __init__(self, options: ModelOptions) -> None:
        self._options, self._lock = options, threading.Lock()
        self._device = device_of(options)
        self._loaded: dict[tuple[str, ...], Any] = {}

    @cached_property
    def defaults(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings by backend that suit this model better than the method's own."""
        return defaults_of(self._folder)

    def parts(self, codec: str, perceptual: str | None) -> Parts:
        """The parts for a codec and a perceptual distance, as the settings write them.

        Raises:
            EncoderError: a network cannot be loaded.
            ModelError: an autoencoder or a perceptual distance cannot.
        """
        scenes, device = self._options.model == SCENES, str(self._device)
        specs = self._options.networks or ((SCENES,) if scenes else THESIS_NETWORKS)
        with self._lock:
            loaded = self._once(("codec", codec), lambda: self._load_codec(codec, device))
            networks = self._once(("networks", *specs), lambda: load_networks(specs, device))
            distance = None
            if perceptual is not None:
                spec = ("efficientnet" if scenes else "vgg") if perceptual == "auto" else perceptual
                distance = self._once(("perceptual", spec), lambda: load_perceptual(spec, device))
        return Parts(loaded, networks, distance, SCENES_SIZE if scenes else THESIS_SIZE, self._device)

    def _load_codec(self, codec: str, device: str) -> Codec:
        if self._options.model == SCENES and codec in {"auto", *KINDS}:
            return load_codec("scenes:vq" if codec == "auto" else f"scenes:{codec}", device)
        loaded = load_codec(str(self._folder) if codec in {"auto", *KINDS} else codec, device)
        if codec in KINDS and not loaded.name.startswith(codec):
            raise ModelError(
                f"the model {self._options.model} has no autoencoder of the kind {codec!r}",
                got=loaded.name,
                remedy="name the folder of one with codec=FOLDER",
            )
        return loaded

    @cached_property
    def _folder(self) -> Path:
        """Of the pipeline; or of a lone autoencoder, which is all that FlexIT needs."""
        lone = Path(self._options.model).expanduser()
        return lone if (lone / "config.json").is_file() else locate(self._options.model)

    def _once(self, key: tuple[str, ...], load: Callable[[], T]) -> T:
        if key not in self._loaded:
            self._loaded[key] = load()
        found: T = self._loaded[key]
        return found


def as_image(picture: Float[Tensor, "1 3 height width"]) -> Image.Image:
    """A picture in [0, 1] as one to look at."""
    rows = (picture[0] * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(rows))
