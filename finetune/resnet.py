"""The recipe for ResNets (thesis 3.3.3): all but the last block frozen, the last and an MLP trained, from images.

A batch goes through the network in small parts, twice: without gradients for the vectors of the whole batch, whose
loss has its gradient in closed form; then part by part with gradients (GradCache, Gao et al. 2021). So the memory does
not grow with the batch, and the gradient is that of the whole. Batch normalisation keeps the statistics it came with.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import nn
from torch.nn.functional import normalize

from finetune.config import TrainConfig, TrainError
from finetune.modules import HeadPair
from finetune.pairs import IMAGES, Features
from finetune.train import BACKBONE, Batch, Training
from simat.embeddings import EmbeddingSet, join_path
from simat.encoders import load_tower
from simat.encoders.networks import FromPixels
from simat.encoders.towers import FeatureTower
from simat.files import atomic
from simat.images import load_image
from simat.progress import Progress
from simat.types import EmbeddingSpace

FAMILY, LAST_BLOCK = "torchvision:", "layer4"
PART = 32
"""Images that go through the network at once."""


class ResNetPair(HeadPair):
    """The heads of each side, with the network before the image head."""

    def __init__(self, network: nn.Module, tower: FeatureTower, text_dim: int, config: TrainConfig) -> None:
        super().__init__(tower.space.dim, text_dim, config)
        self.backbone = FromPixels(network, tower.transform).eval().requires_grad_(False)
        getattr(network, LAST_BLOCK).requires_grad_(True)

    def features(self, pixels: UInt8[torch.Tensor, "b h w 3"]) -> Float32[torch.Tensor, "b d"]:
        """Unit rows of the network, as its tower gives them."""
        return normalize(self.backbone(pixels), dim=1)


@dataclass(frozen=True)
class PixelBatch(Batch):
    """A batch whose images are pixels; ``images`` is empty."""

    pixels: UInt8[torch.Tensor, "b h w 3"]


class ResNetTraining(Training):
    """Trains the last block of a torchvision ResNet with the heads; for :func:`finetune.train.train`.

    The features of the cache's images are not used, but name the network and the files of the images.

    Raises:
        TrainError: features of another image encoder than a ResNet of torchvision's.
        ImageError: a file of an image that is gone or can no longer be read.
    """

    name = "resnet"
    module: ResNetPair

    def __init__(self, features: Features, config: TrainConfig, device: str, progress: Progress) -> None:
        spec = features.image_space.encoder
        tower = load_tower(spec) if spec.startswith(FAMILY) else None
        if not isinstance(tower, FeatureTower):
            remedy = "make them with 'simat finetune cache --encoder combined:image=torchvision:resnet50,text=…'"
            raise TrainError("the recipe is for a ResNet of torchvision's", got=f"features of {spec}", remedy=remedy)
        features.image_space.require(tower.space)
        self._tower, self._paths = tower, _paths(EmbeddingSet(features.folder / IMAGES))
        super().__init__(features, config, device, progress)

    def make_module(self) -> HeadPair:
        """The network as the tower has it, and heads with their first weights."""
        network = self._tower.backbone.build()
        return ResNetPair(network, self._tower, self._features.text_space.dim, self._config)

    def batch(self, images: Int64[np.ndarray, " b"], captions: Int64[np.ndarray, " b"]) -> Batch:
        """The pixels of some images and the features of some texts."""
        texts = self._rows(self._features.texts, captions)
        return PixelBatch(texts.new_empty(len(texts), 0), texts, self._pixels(images))

    def learn(self, batch: Batch) -> torch.Tensor:
        """The loss of a batch, and its gradient in the parameters."""
        assert isinstance(batch, PixelBatch)
        with torch.no_grad():
            image = torch.cat([self._mapped(batch.pixels[part]) for part in _parts(len(batch.pixels))])
        text = self.module.text(batch.texts)
        loss, to_image, to_text = self.contrast(image, text)
        torch.autograd.backward([text], [to_text])
        for part in _parts(len(batch.pixels)):
            torch.autograd.backward([self._mapped(batch.pixels[part])], [to_image[part]])
        return loss

    def image_features(self, rows: Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b d"]:
        """Unit rows of the network as it is at present."""
        with torch.no_grad():
            parts = [self.module.features(self._pixels(rows[part]).to(self._device)) for part in _parts(len(rows))]
        return torch.cat(parts).cpu().numpy()

    def image_space(self, folder: Path) -> EmbeddingSpace:
        """Write the network into ``folder``; the space of the encoder that loads it from there."""
        from safetensors.torch import save_file

        state = {name: tensor.cpu().contiguous() for name, tensor in self.module.backbone.network.state_dict().items()}
        with atomic(folder / BACKBONE) as temporary:
            save_file(state, temporary)
        model = self._features.image_space.encoder.removeprefix(FAMILY).partition("/")[0]
        return load_tower(f"{FAMILY}{model}/{(folder / BACKBONE).absolute()}").space

    def _mapped(self, pixels: torch.Tensor) -> torch.Tensor:
        mapped: torch.Tensor = self.module.image(self.module.features(pixels.to(self._device)))
        return mapped

    def _pixels(self, rows: Int64[np.ndarray, " b"]) -> UInt8[torch.Tensor, "b h w 3"]:
        def read(row: int) -> np.ndarray:
            return self._tower.transform.pixels(load_image(self._paths[row]))

        with ThreadPoolExecutor() as pool:
            return torch.from_numpy(np.stack([*pool.map(read, rows.tolist())]))


def _parts(count: int) -> Iterator[slice]:
    return (slice(start, start + PART) for start in range(0, count, PART))


def _paths(stored: EmbeddingSet) -> list[Path]:
    import pyarrow.parquet as pq

    paths: list[Path] = []
    for entry in stored.manifest.parts:
        cells: dict[str, Any] = pq.read_table(stored.folder / entry.name, columns=["path", "path_bytes"]).to_pydict()
        names = map(join_path, cells["path"], cells["path_bytes"])
        paths += [stored.root / name for name in names]
    return paths
