"""Heads as torch modules: made, seeded, and turned into the form that is saved."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from finetune.config import TrainConfig
from simat.heads import Head, Heads, Layer
from simat.types import EmbeddingSpace

NOISE = 0.01
"""Length of the random part of each row of a near-identity."""
MLP_LAYERS = 4


class HeadPair(nn.Module):
    """The head of each side; see :class:`finetune.config.TrainConfig` for their shapes."""

    def __init__(self, image_dim: int, text_dim: int, config: TrainConfig) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(config.seed)
        widths = [config.hidden] * (MLP_LAYERS - 1) if config.head == "mlp" else []
        self.image = build_head([image_dim, *widths, config.dim], draw)
        self.text = build_head([text_dim, config.dim], draw)


def build_head(widths: list[int], draw: torch.Generator) -> nn.Sequential:
    """Linear layers of ``widths``, a ReLU between each two, biases zero.

    A single square layer begins near the identity, where two encoders of one space already agree; another last layer
    begins with orthogonal rows, which keep angles as well as they can; those before it after He et al. 2015.
    """
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(widths), 2):
        layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")  # leaves the global seed alone
        nn.init.zeros_(layer.bias)
        _fill(layer.weight, len(widths) == 2 and inputs == outputs, number == len(widths), draw)
        layers += [nn.ReLU(), layer] if layers else [layer]
    return nn.Sequential(*layers)


def _fill(weight: torch.Tensor, square: bool, last: bool, draw: torch.Generator) -> None:
    with torch.no_grad():
        if square:
            noise = torch.randn(weight.shape, generator=draw) * (NOISE / weight.shape[1] ** 0.5)
            weight.copy_(torch.eye(len(weight)) + noise)
        elif last:
            nn.init.orthogonal_(weight, generator=draw)
        else:
            nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=draw)


def heads_of(
    module: HeadPair,
    image_space: EmbeddingSpace,
    text_space: EmbeddingSpace,
    config: TrainConfig,
    details: dict[str, Any],
) -> Heads:
    """The heads with the module's present weights."""
    kind: Any = config.head
    return Heads(_head(module.image), _head(module.text), kind, config.tau, image_space, text_space, details)


def _head(layers: nn.Sequential) -> Head:
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    arrays = [[p.detach().float().cpu().numpy().copy() for p in (layer.weight, layer.bias)] for layer in linear]
    return Head(tuple(Layer(weight, bias) for weight, bias in arrays))
