"""Find a diffusers pipeline and load the parts of it that are used. Imported only with torch."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from simat.errors import ModelError
from simat.generators.options import ModelOptions

SCENES = Path(__file__).resolve().parents[1] / "models" / "scenes" / "diffusion"
INDEX = "model_index.json"
NEEDED = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
UNUSED = ("safety_checker", "feature_extractor", "image_encoder")
HELP = "give 'scenes', the folder of a diffusers pipeline, or a hub id such as owner/name"


def locate(model: str) -> Path:
    """The folder of a model: the one that comes with this package, a local one, or one fetched from the hub.

    Raises:
        ModelError: nothing of that name.
    """
    if model == "scenes":
        if not (SCENES / INDEX).is_file():
            raise ModelError(
                "the model of the scene world is not installed",
                got=str(SCENES),
                remedy="make it with 'simat train-scenes'",
            )
        return SCENES
    folder = Path(model).expanduser()
    if (folder / INDEX).is_file():
        return folder
    if folder.exists():
        raise ModelError("this is no pipeline of diffusers", got=str(folder), remedy=f"it has no {INDEX}; {HELP}")
    if model.count("/") != 1 or not all(model.split("/")) or model.startswith((".", "~")):
        raise ModelError("no such model", got=repr(model), remedy=HELP)
    return _fetched(model)


def load_pipeline(folder: Path, options: ModelOptions, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline of a folder on its device, frozen, ready to evaluate.

    Raises:
        ModelError: it is no text-conditional latent diffusion model, or a part cannot be read.
    """
    from diffusers import DiffusionPipeline

    parts = _parts(folder)
    with _quiet():
        try:
            unused: dict[str, Any] = {name: None for name in UNUSED if name in parts}
            pipe: Any = DiffusionPipeline.from_pretrained(
                folder,
                torch_dtype={"vae": torch.float32, "default": dtype},
                local_files_only=True,
                **_variant(folder),
                **unused,
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError) as error:
            reason = str(error).split("\n")[0]
            raise ModelError("this model cannot be loaded", got=str(folder), remedy=reason) from error
    for network in pipe.components.values():
        if isinstance(network, torch.nn.Module):
            network.requires_grad_(False).eval()
    if options.offload:
        pipe.enable_model_cpu_offload()
    else:
        pipe.to(device)
    if options.slicing:
        pipe.enable_attention_slicing()
    return pipe


def _parts(folder: Path) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads((folder / INDEX).read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise ModelError("the list of a model's parts cannot be read", got=str(folder / INDEX)) from error
    parts = {n: v for n, v in index.items() if isinstance(v, list) and len(v) == 2 and v[0]}
    missing = [name for name in NEEDED if name not in parts]
    if missing:
        raise ModelError(
            f"{folder.name} has no {', '.join(missing)}",
            got=str(index.get("_class_name")),
            remedy="generators need a text-conditional latent diffusion model, as Stable Diffusion is one",
        )
    if parts["unet"][1] != "UNet2DConditionModel":
        raise ModelError("the denoising network is of another kind", got=parts["unet"][1], remedy=HELP)
    return parts


def _variant(folder: Path) -> dict[str, str]:
    names = {path.name for path in (folder / "unet").glob("*.safetensors")}
    half = any(".fp16." in name for name in names) and all(".fp16." in name for name in names)
    return {"variant": "fp16"} if half else {}


def _fetched(model: str) -> Path:
    from diffusers import DiffusionPipeline

    with _quiet():
        try:
            return Path(DiffusionPipeline.download(model))
        except Exception as error:  # the hub's client raises whatever its transport does
            reason = str(error).strip().split("\n")[0]
            raise ModelError(
                "no such model on this disk or on the hub", got=repr(model), remedy=reason or HELP
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' bars and advice; only their errors."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [library.get_verbosity() for library in libraries]
    for library in libraries:
        library.set_verbosity(logging.ERROR)
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for library, level in zip(libraries, before, strict=True):
            library.set_verbosity(level)
            library.enable_progress_bar()
