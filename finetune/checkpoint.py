"""The state of a training after an epoch, in one safetensors file: weights, optimiser, the best weights, the curve.

Its header holds ``state``: epochs done, curve, what was asked for, and the SHA-256 of the tensors. It is written whole
or not at all, so that a training that was killed goes on from the last whole epoch, with the very numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from finetune.config import TrainError
from finetune.modules import HeadPair
from simat.files import atomic

NAME = "checkpoint.safetensors"
Tensors = dict[str, torch.Tensor]


@dataclass
class State:
    """How far a training is.

    Attributes:
        epoch: epochs done.
        curve: one entry per epoch, from 0, before the first.
        best: weights of the epoch with the best recall, where the training keeps them.
    """

    epoch: int = 0
    curve: list[dict[str, Any]] = field(default_factory=list)
    best: Tensors = field(default_factory=dict)


def save_checkpoint(
    folder: Path, state: State, module: HeadPair, optimizer: torch.optim.Optimizer, identity: Mapping[str, Any]
) -> None:
    """Write ``folder/checkpoint.safetensors``."""
    from safetensors.torch import save_file

    tensors = {f"head.{name}": tensor for name, tensor in module.state_dict().items()}
    for number, slots in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in slots.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {"epoch": state.epoch, "curve": state.curve, "identity": dict(identity), "sha256": _digest(tensors)}
    with atomic(folder / NAME) as temporary:
        save_file(tensors, temporary, {"state": json.dumps(header)})


def load_checkpoint(
    folder: Path, module: HeadPair, optimizer: torch.optim.Optimizer, identity: Mapping[str, Any]
) -> State:
    """Put a training back where its checkpoint was; where there is none, at its beginning.

    Raises:
        TrainError: the checkpoint is damaged or cut short, or of a training that was asked for something else.
    """
    if not (folder / NAME).exists():
        return State()
    header, tensors = _read(folder / NAME)
    before = header["identity"]
    changed = [
        f"{name} {before.get(name)!r}, now {value!r}" for name, value in identity.items() if before.get(name) != value
    ]
    if changed:
        remedy = "repeat the same command to go on, or give a new folder"
        raise TrainError(f"a training of other settings was begun in {folder}", got="; ".join(changed), remedy=remedy)
    try:
        module.load_state_dict(_part(tensors, "head."))
        slots: dict[int, Tensors] = {}
        for name, tensor in _part(tensors, "optimizer.").items():
            number, _, slot = name.partition(".")
            slots.setdefault(int(number), {})[slot] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
        return State(header["epoch"], header["curve"], _part(tensors, "best."))
    except (RuntimeError, KeyError, ValueError) as error:
        raise _damaged(folder / NAME) from error


def _read(path: Path) -> tuple[dict[str, Any], Tensors]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if header["sha256"] != _digest(tensors):
            raise _damaged(path)
        return header, tensors
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path) from error


def _part(tensors: Tensors, prefix: str) -> Tensors:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _digest(tensors: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].float().numpy().tobytes())
    return digest.hexdigest()


def _damaged(path: Path) -> TrainError:
    return TrainError("the checkpoint is cut short or damaged", got=str(path), remedy="remove it to train anew")
