"""Torch modules around the networks: pixels or tokens in, float rows out. Imported only with torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from simat.images import ImageTransform


class FromPixels(nn.Module):
    """Normalise uint8 pixels [n, h, w, 3] inside the graph, then apply a network to [n, 3, h, w]."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, transform: ImageTransform) -> None:
        super().__init__()
        self.network = network
        mean, std = torch.tensor(transform.mean), torch.tensor(transform.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """One row per image."""
        rows: Tensor = self.network(pixels.permute(0, 3, 1, 2).float() * self.scale + self.shift)
        return rows


class ClassProbabilities(nn.Module):
    """Softmax over the logits of a classifier."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities [n, classes]."""
        logits: Tensor = self.classifier(images)
        return logits.softmax(-1)


class Method(nn.Module):
    """One method of a module as the forward pass of another: ``encode_image`` or ``encode_text`` of CLIP."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, rows: Tensor) -> Tensor:
        """Unit rows [n, d]."""
        unit: Tensor = getattr(self.module, self.name)(rows, normalize=True)
        return unit


class MeanPooled(nn.Module):
    """The sentence embedding of a BERT-like encoder: the mean over real tokens, normalised."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Unit rows [n, d] from token ids and attention mask, both int64 [n, length]."""
        hidden: Tensor = self.encoder(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = (hidden * weights).sum(1) / weights.sum(1)
        return nn.functional.normalize(pooled, dim=-1)
