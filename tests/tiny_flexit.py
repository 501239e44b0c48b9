"""What the tests of FlexIT share: the smallest networks and codecs that have gradients, and pictures for them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

BLOCKS = {"down": "DownEncoderBlock2D", "up": "UpDecoderBlock2D"}


class TinyNetwork:
    """A dual encoder of one smooth layer; words are hashed by their letters."""

    def __init__(self, seed: int, size: int = 8, dim: int = 6) -> None:
        draw = torch.Generator().manual_seed(seed)
        self.name, self.fingerprint, self.size = f"tiny-{seed}", f"{seed:064x}", size
        self._images = torch.randn(dim, 3 * size * size, generator=draw) / size
        self._words = torch.randn(dim, 26, generator=draw)

    def prepared(self, pictures: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(pictures, (self.size, self.size), mode="bicubic", antialias=True)

    def embed_images(self, pictures: torch.Tensor) -> torch.Tensor:
        rows = torch.tanh(pictures - 0.5).flatten(1) @ self._images.T.to(pictures)
        return functional.normalize(rows, dim=-1)

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        counts = torch.tensor([[text.count(letter) for letter in map(chr, range(97, 123))] for text in texts])
        return functional.normalize(counts.float() @ self._words.T, dim=-1)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small are faster on one thread, and shapes this small differ in the last bit on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_kl() -> Any:
    """An AutoencoderKL with random weights: 16 px to 2×8×8."""
    import diffusers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return diffusers.AutoencoderKL(**_layout(), latent_channels=2).eval()


def tiny_vq() -> Any:
    """A VQModel with random weights: 16 px to 2×8×8."""
    import diffusers

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return diffusers.VQModel(**_layout(), latent_channels=2, num_vq_embeddings=8, mid_block_add_attention=False)


def saved(module: Any, folder: Path) -> Path:
    """The folder of a module of diffusers."""
    module.save_pretrained(folder)
    return folder


def picture(seed: int = 0, size: int = 16) -> torch.Tensor:
    """A smooth random picture [1, 3, size, size] in [0, 1]."""
    draw = torch.Generator().manual_seed(seed)
    return functional.interpolate(torch.rand(1, 3, 4, 4, generator=draw), (size, size), mode="bilinear")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _layout() -> dict[str, Any]:
    return {
        "block_out_channels": (4, 4),
        "down_block_types": (BLOCKS["down"],) * 2,
        "up_block_types": (BLOCKS["up"],) * 2,
        "norm_num_groups": 2,
        "sample_size": 16,
    }


class TinyCodec(nn.Module):
    """A smooth codec whose gradients finite differences can follow: a fixed linear map and its transpose."""

    name, fingerprint, factor = "tiny", "0" * 64, 4

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        self.register_buffer("matrix", torch.randn(5, 3, 4, 4, generator=draw) / 8)

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(pictures - 0.5, self.matrix.to(pictures), stride=4)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return functional.conv_transpose2d(latents, self.matrix.to(latents), stride=4) + 0.5
