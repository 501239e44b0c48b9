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


class CausalTexts(nn.Module):
    """The text tower of a CLIP whose tokens see only those before them: the padding after a text may be cut off.

    Radford et al. 2021, section 2.4: the features of a text are those of its last token, which has the greatest id.
    """

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        """Unit rows [n, d] from token ids, int64 [n, length], of any length up to the context's."""
        clip, length = self.clip, tokens.shape[1]
        hidden = clip.token_embedding(tokens) + clip.positional_embedding[:length]
        hidden = clip.transformer(hidden, attn_mask=clip.attn_mask[:length, :length])
        last = clip.ln_final(hidden[torch.arange(tokens.shape[0]), tokens.argmax(-1)])
        return nn.functional.normalize(last @ clip.text_projection, dim=-1)

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether a model of open_clip has such a tower."""
        mask, projection = getattr(model, "attn_mask", None), getattr(model, "text_projection", None)
        if not (isinstance(mask, Tensor) and isinstance(projection, Tensor)):
            return False
        causal = bool(torch.isneginf(mask[torch.triu(torch.ones_like(mask), 1).bool()]).all())
        return causal and getattr(model, "text_pool_type", None) == "argmax"


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
