"""Checkpoint files of single networks: where a spec points, and the tensors inside, without running what they hold."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simat.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

_WRAPPERS = ("state_dict", "model")  # what training scripts put the tensors under
_PREFIX = "module."  # of models trained on several devices


def split_source(argument: str, help: str) -> tuple[str, str | None, Path | None]:
    """Split ``MODEL``, ``MODEL/TAG`` or ``MODEL//path/to/checkpoint`` (``MODEL/./path`` for a relative one).

    Args:
        argument: of the spec.
        help: how to write it; the remedy of the error.

    Returns:
        Model, tag and checkpoint, None where there is none.

    Raises:
        EncoderError: no model is named, or the checkpoint does not exist.
    """
    model, slash, source = argument.partition("/")
    if not model or bool(slash) != bool(source):
        raise EncoderError("this names no model", got=repr(argument), remedy=help)
    if not source.startswith(("/", "./", "../", "~")):
        return model, source or None, None
    checkpoint = Path(source).expanduser()
    if not checkpoint.is_file():
        raise EncoderError("no such checkpoint", got=str(checkpoint), remedy=help)
    return model, None, checkpoint


def read_tensors(path: Path) -> dict[str, Any]:
    """What a safetensors file holds, or a torch file of tensors and plain values and nothing that runs.

    Raises:
        EncoderError: cut short, no checkpoint at all, or a pickle of anything else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the error says what is wrong
            return _load(path)
    except Exception as error:  # bytes that are no weights make the readers raise anything
        raise EncoderError(f"cannot read the checkpoint {path}", got=first_line(error)) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of :func:`read_tensors`, by the names they have in the network itself."""
    content = read_tensors(path)
    inside = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), dict)), content)
    return {name.removeprefix(_PREFIX): value for name, value in inside.items()}


def fill(module: Any, state: dict[str, Tensor], head: str, path: Path) -> None:
    """Load a backbone's tensors, all of them; the classifier's may be there or not.

    Args:
        module: the network without its classifier.
        state: tensors by name.
        head: name of the classifier in a full checkpoint.
        path: of the checkpoint, for the error.

    Raises:
        EncoderError: tensors are missing, left over, or of another shape.
    """
    body = {name: value for name, value in state.items() if name.rpartition(".")[0] != head}
    try:
        module.load_state_dict(body)
    except Exception as error:
        raise mismatch(path, type(module).__name__, error) from error


def mismatch(path: Path, network: str, error: Exception) -> EncoderError:
    """The error for weights of another architecture."""
    return EncoderError(f"the checkpoint {path} does not fit {network}", got=first_line(error))


def first_line(error: Exception) -> str:
    """What an error says, on one line of bounded length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__


def _load(path: Path) -> dict[str, Any]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, dict):
        raise TypeError(f"a {type(content).__name__} instead of tensors by name")
    return content
