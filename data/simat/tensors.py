"""Tensor files of the release, read without running what a pickle says, and written as safetensors."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data.corpus import CorpusError
from simat.files import atomic

HEADS = ("img_head", "txt_head")


def read_words(path: Path) -> dict[str, Float[np.ndarray, " d"]]:
    """The words' text vectors, ``simat_words_clip.ptd``: a list of (word, float16 vector, …) tuples.

    Raises:
        CorpusError: missing, truncated, or holding anything else.
    """
    items = _load(path, [])
    try:
        words = {str(word): vector.detach().numpy() for word, vector, *_ in items}
    except (TypeError, ValueError, AttributeError) as error:
        raise CorpusError(f"{path.name} does not hold words and vectors", got=str(path)) from error
    if len({vector.shape for vector in words.values()}) != 1 or any(v.ndim != 1 for v in words.values()):
        raise CorpusError(f"{path.name} holds vectors of different shapes", got=str(path))
    return words


def read_heads(path: Path) -> dict[str, Float[np.ndarray, "*shape"]]:
    """The linear heads of one file, ``head_clip_t=….pt``, a pickle of two ``torch.nn.Linear``.

    Returns:
        ``img_head.weight`` float32[d, d], ``img_head.bias`` float32[d], and the same for ``txt_head``: the head maps
        x to weight @ x + bias.

    Raises:
        CorpusError: missing, truncated, or a pickle of anything but tensors and linear layers.
    """
    import torch

    layers = _load(path, [torch.nn.Linear])
    if not isinstance(layers, dict) or not all(isinstance(layers.get(name), torch.nn.Linear) for name in HEADS):
        raise CorpusError(f"{path.name} does not hold {' and '.join(HEADS)}", got=str(path))
    try:
        tensors = {
            f"{name}.{part}": getattr(layers[name], part).detach().float().numpy()
            for name in HEADS
            for part in ("weight", "bias")
        }
    except AttributeError as error:  # a layer without its bias, or stripped of its tensors
        raise CorpusError(f"{path.name} holds a head without weight or bias", got=str(path)) from error
    return tensors


def read_matrix(path: Path) -> Float[np.ndarray, "rows columns"]:
    """A matrix of scores: a tensor file or ``.npy``, as float32.

    Raises:
        CorpusError: missing, truncated, or no matrix.
    """
    if path.suffix == ".npy":
        try:
            matrix = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CorpusError(f"cannot read the matrix {path.name}", got=str(path)) from error
    else:
        loaded = _load(path, [])
        matrix = loaded.detach().float().numpy() if hasattr(loaded, "detach") else loaded
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind != "f":
        raise CorpusError(f"{path.name} does not hold one matrix of floating-point numbers", got=str(path))
    return matrix.astype(np.float32)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any] | None = None) -> None:
    """Write a safetensors file, whole or not at all; ``about`` goes into its header, each value as JSON."""
    from safetensors.numpy import save

    metadata = {name: json.dumps(value, ensure_ascii=False) for name, value in (about or {}).items()}
    arrays = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with atomic(path) as temporary:
        temporary.write_bytes(save(arrays, metadata or None))


def _load(path: Path, allowed: list[Any]) -> Any:
    import torch

    if not path.is_file():
        raise CorpusError(f"{path.name} is missing", got=str(path.parent))
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, AttributeError) as error:
        raise CorpusError(
            f"{path.name} is damaged, or holds more than tensors", got=str(path), remedy="get the file again"
        ) from error
