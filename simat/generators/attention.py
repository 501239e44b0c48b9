"""Text attention of a diffusion UNet: its maps recorded (eq. 6.2), and words painted where they belong.

Attention modules are told apart by what they attend to, not by name: blocks with ``only_cross_attention`` have two
that read the text. Every processor is put back when the context ends, however it ends. Imported only with torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from diffusers.models.attention_processor import Attention
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from simat.errors import QueryError

PAINT_FACTOR = 0.4  # of the largest logit, at weight 1 and σ = e − 1
EVERY = slice(None)

Part = Literal["all", "encoder", "decoder"]


@dataclass(frozen=True)
class Layer:
    """One attention module that reads the text.

    Attributes:
        name: of its processor.
        height, width: of its maps.
        part: ``encoder``, ``middle`` or ``decoder`` of the UNet.
    """

    name: str
    height: int
    width: int
    part: Literal["encoder", "middle", "decoder"]

    @property
    def resolution(self) -> int:
        """The longer side of its maps."""
        return max(self.height, self.width)


@dataclass(frozen=True)
class Paint:
    """Paint-with-words (Balaji et al. 2022): a bias that ties the words of a segment to its pixels.

    To the logits QKᵀ/√d of a head, at (pixel p, token n), is added ``strength · max(QKᵀ/√d, 0) · Σᵢ Sᵢ(p) [n ∈ Tᵢ]``,
    the maximum being over heads, pixels and tokens of one sample, and ``strength = 0.4 · weight · log(1 + σ_t)`` with
    σ_t = √((1 − ᾱ_t)/ᾱ_t) (:func:`paint_strength`).

    Attributes:
        masks: the segments Sᵢ, in [0, 1].
        tokens: the segments' tokens Tᵢ.
        strength: 0 paints nothing.
    """

    masks: Float[Tensor, "segments height width"]
    tokens: tuple[tuple[int, ...], ...]
    strength: float

    def bias(self, layer: Layer, tokens: int) -> Float[Tensor, "pixels tokens"]:
        """Σᵢ Sᵢ(p) [n ∈ Tᵢ] at the resolution of a layer, times the strength."""
        masks = resized(self.masks, layer.height, layer.width).flatten(1)
        bias = torch.zeros(masks.shape[1], tokens, dtype=torch.float32, device=masks.device)
        for mask, ids in zip(masks, self.tokens, strict=True):
            bias[:, list(ids)] += self.strength * mask[:, None]
        return bias


@dataclass
class Watch:
    """What the processors of a UNet do during the next pass, and the maps of the last one.

    Attributes:
        chosen: layers whose maps are kept.
        record: whether to keep them.
        paint: the bias, if any; maps are kept as they are without it.
        rows: the rows of the batch that all this concerns; None for every row.
        maps: of the chosen layers by name, in the order of the pass: softmax over *all* tokens, in float32.
    """

    chosen: tuple[Layer, ...]
    record: bool = False
    paint: Paint | None = None
    rows: slice = field(default_factory=lambda: EVERY)
    maps: dict[str, Float[Tensor, "rows heads h w tokens"]] = field(default_factory=dict)

    @contextmanager
    def on(self, record: bool, paint: Paint | None = None, rows: slice = EVERY) -> Iterator[Watch]:
        """Record and paint within this context; outside of it, the UNet is as it was."""
        self.maps = {}
        self.record, self.paint, self.rows = record, paint if paint and paint.strength else None, rows
        try:
            yield self
        finally:
            self.record, self.paint = False, None


def paint_strength(weight: float, alpha: float) -> float:
    """0.4 · weight · log(1 + σ_t), of ᾱ_t; falls with the noise."""
    return PAINT_FACTOR * weight * math.log1p(math.sqrt((1 - alpha) / alpha))


def text_layers(unet: Any, height: int, width: int) -> tuple[Layer, ...]:
    """Every attention module of a UNet that reads the text, in the order of the modules.

    Args:
        unet: a ``UNet2DConditionModel``.
        height, width: of the latents.
    """
    names = [n for n, m in unet.named_modules() if isinstance(m, Attention) and m.is_cross_attention]
    return tuple(_layer(f"{name}.processor", len(unet.config.block_out_channels), height, width) for name in names)


def choose_layers(
    layers: Sequence[Layer], grid: int, resolutions: Sequence[int] | None = None, part: Part = "all"
) -> tuple[Layer, ...]:
    """The layers of some resolutions and of one part of the UNet.

    Args:
        layers: all that read the text.
        grid: longer side of the latents.
        resolutions: longer sides of maps; None for the two finest that are coarser than the latents (16 and 32 for
            latents of 64, Table 6.4), or the two finest.
        part: which half of the UNet.

    Raises:
        QueryError: no layer is left; the error lists what there is.
    """
    there = sorted({layer.resolution for layer in layers}, reverse=True)
    coarser = [resolution for resolution in there if resolution < grid]
    wanted = (coarser if len(coarser) > 1 else there)[:2] if resolutions is None else resolutions
    unknown = set(wanted) - set(there)
    chosen = tuple(x for x in layers if x.resolution in wanted and part in {"all", x.part})
    if unknown or not chosen:
        raise QueryError(
            "the model attends to the text at other resolutions",
            got=", ".join(map(str, sorted(unknown or wanted))),
            remedy=f"there are {', '.join(map(str, there))}",
        )
    return chosen


@contextmanager
def watching(unet: Any, chosen: Sequence[Layer], every: Sequence[Layer]) -> Iterator[Watch]:
    """Let a UNet's attention to the text be watched and painted; its processors are put back at the end.

    Args:
        unet: a ``UNet2DConditionModel``.
        chosen: layers to record.
        every: all layers that read the text (:func:`text_layers`): they are painted.
    """
    watch = Watch(tuple(chosen))
    before = dict(unet.attn_processors)
    kept = {layer.name for layer in chosen}
    watched = {x.name: Watcher(watch, x, x.name in kept, before[x.name]) for x in every}
    try:
        unet.set_attn_processor({**before, **watched})
        yield watch
    finally:
        unet.set_attn_processor(dict(before))  # a copy: the setter empties what it is given


class Watcher:
    """An attention processor that hands its maps to a :class:`Watch` and takes the bias of its paint."""

    def __init__(self, watch: Watch, layer: Layer, recorded: bool, original: Any) -> None:
        self._watch, self._layer, self._recorded, self._original = watch, layer, recorded, original

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """The output of the module: its own processor's where nothing is painted."""
        watch = self._watch
        record = watch.record and self._recorded
        if not (record or watch.paint) or encoder_hidden_states is None:
            return self._original(attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs)
        words = attn.norm_encoder_hidden_states(encoder_hidden_states) if attn.norm_cross else encoder_hidden_states
        scores = _logits(attn, hidden_states, words, attention_mask)
        if record:
            maps = scores[watch.rows].softmax(-1)
            watch.maps[self._layer.name] = maps.reshape(*maps.shape[:2], self._layer.height, self._layer.width, -1)
        if watch.paint is None:
            return self._original(attn, hidden_states, encoder_hidden_states, attention_mask, temb, *args, **kwargs)
        return _attend(attn, hidden_states, words, painted(scores, watch.paint, self._layer, watch.rows))


def painted(
    logits: Float[Tensor, "batch heads pixels tokens"], paint: Paint, layer: Layer, rows: slice = EVERY
) -> Float[Tensor, "batch heads pixels tokens"]:
    """Logits with the bias of paint-with-words in some rows; the maximum carries no gradient."""
    largest = logits.detach().amax((1, 2, 3), keepdim=True).clamp(min=0)
    where = torch.zeros_like(largest)
    where[rows] = 1
    return logits + where * largest * paint.bias(layer, logits.shape[-1])


def resized(
    masks: Float[Tensor, "*n from_height from_width"], height: int, width: int
) -> Float[Tensor, "*n height width"]:
    """Masks at another resolution: the share of each cell that a segment covers."""
    return adaptive_avg_pool2d(masks, (height, width))


def _layer(name: str, blocks: int, height: int, width: int) -> Layer:
    # Each block but the last halves the grid on the way down; each but the last doubles it on the way up.
    found = re.match(r"(down|up)_blocks\.(\d+)\.", name)
    if found is None:
        return Layer(name, *_halved(height, width, blocks - 1), "middle")
    number = int(found[2])
    if found[1] == "down":
        return Layer(name, *_halved(height, width, number), "encoder")
    return Layer(name, *_halved(height, width, blocks - 1 - number), "decoder")


def _halved(height: int, width: int, times: int) -> tuple[int, int]:
    return -(-height // 2**times), -(-width // 2**times)


def _logits(attn: Any, hidden: Tensor, words: Tensor, mask: Tensor | None) -> Tensor:
    """QKᵀ/√d in float32, batch × heads × pixels × tokens."""
    query, key = _heads(attn, attn.to_q(hidden)), _heads(attn, attn.to_k(words))
    scores: Tensor = torch.matmul(query.float(), key.float().transpose(-1, -2)) * attn.scale
    if mask is None:
        return scores
    prepared: Tensor = attn.prepare_attention_mask(mask, words.shape[1], len(words))
    return scores + prepared.view(len(words), attn.heads, -1, prepared.shape[-1]).float()


def _attend(attn: Any, hidden: Tensor, words: Tensor, scores: Tensor) -> Tensor:
    """The module's output for given logits, as the plain processor of diffusers makes it."""
    value = _heads(attn, attn.to_v(words))
    mixed = (scores.softmax(-1).to(value.dtype) @ value).transpose(1, 2).flatten(2)
    output: Tensor = attn.to_out[1](attn.to_out[0](mixed))
    if attn.residual_connection:
        output = output + hidden
    rescaled: Tensor = output / attn.rescale_output_factor
    return rescaled


def _heads(attn: Any, states: Tensor) -> Tensor:
    return states.reshape(*states.shape[:2], attn.heads, -1).transpose(1, 2)
