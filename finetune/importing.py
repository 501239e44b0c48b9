"""Released heads, pickles of two linear layers, as a folder of heads; nothing that a pickle says is run."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from data.simat.tensors import read_heads
from finetune.config import TrainError
from simat.files import sha256_file
from simat.heads import UNKNOWN, Head, Heads, Layer, save_heads
from simat.types import EmbeddingSpace

ENCODER = "open_clip:ViT-B-32-quickgelu/openai"
"""The encoder of the released heads: the CLIP of the thesis."""
_TAU = re.compile(r"t(?:au)?=([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)")


def import_heads(
    file: Path, folder: Path, tau: float | None = None, encoder: str = ENCODER, norm: float = 1.0
) -> Heads:
    """Write the heads of ``file`` (``head_clip_t=0.1.pt``) into ``folder``.

    The released heads were trained on CLIP's vectors at the length that they come with, about 10. A head with a bias
    maps unit vectors, which encoders give here, to other directions: ``norm`` divides the biases, so that a unit
    vector goes where one of length ``norm`` went before. Over the released words, whose mean length is 10.4, a norm
    of 10 leaves a cosine of 0.9999 to the exact map, and none one of 0.60.

    Args:
        file: a dict of ``img_head`` and ``txt_head``, each a linear layer.
        folder: new or empty.
        tau: the temperature, where the name of the file does not say it.
        encoder: spec of the encoder that they follow; the weights go by this name alone.
        norm: length of the vectors that they were trained on; 1 leaves the biases as they are.

    Returns:
        The heads, as saved.

    Raises:
        CorpusError: no such file, damaged, or a pickle of anything else.
        TrainError: no temperature, or a norm that is no positive number.
        StorageError: something at ``folder`` already.
    """
    if not (np.isfinite(norm) and norm > 0):
        raise TrainError("the norm must be a positive number", got=norm)
    released = read_heads(file)
    tau = tau if tau is not None else _tau(file)
    image, text = (_head(released[f"{s}.weight"], released[f"{s}.bias"] / norm) for s in ("img_head", "txt_head"))
    spaces = [EmbeddingSpace(encoder, UNKNOWN, head.inputs) for head in (image, text)]
    details = {"source": {"name": file.name, "sha256": sha256_file(file)}, "norm": norm}
    heads = Heads(image, text, "linear", tau, spaces[0], spaces[1], details)
    save_heads(folder, heads)
    return heads


def _tau(file: Path) -> float:
    found = _TAU.search(file.stem)
    if found is None:
        raise TrainError("the name of the file tells no temperature", got=file.name, remedy="give it with --tau")
    return float(found[1])


def _head(weight: np.ndarray, bias: np.ndarray) -> Head:
    return Head((Layer(weight.astype(np.float32), bias.astype(np.float32)),))
