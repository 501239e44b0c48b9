"""``timm:MODEL.TAG``: the pooled features of any image network of timm, before its classifier.

``timm:resnet50.a1_in1k`` downloads the weights of that tag once; ``timm:resnet50//path/to/checkpoint`` takes your own,
with the preprocessing that timm states for the model (write ``timm:resnet50.a1_in1k//path`` for that of a tag).
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

from simat.encoders.checkpoints import first_line, mismatch, read_state, split_source
from simat.encoders.runtime import RuntimeOptions
from simat.encoders.towers import Backbone, FeatureTower
from simat.errors import EncoderError
from simat.files import sha256_file
from simat.images import ImageTransform

HELP = "write timm:MODEL.TAG or timm:MODEL//path/to/checkpoint"
_FILES = ("model.safetensors", "pytorch_model.bin")
_RESIZE: dict[str, Literal["shortest", "squash"]] = {"center": "shortest", "squash": "squash"}


def load(argument: str, options: RuntimeOptions) -> FeatureTower:
    """Entry point of ``timm``.

    Raises:
        EncoderError: unknown model or tag, no such file, a failed download, preprocessing we do not have.
    """
    model, extra, checkpoint = split_source(argument, HELP)
    if extra is not None:
        raise EncoderError("this names no model of timm", got=repr(argument), remedy=HELP)
    config = _config(model)
    file = checkpoint or _downloaded(model, config)
    transform = transform_of(config)
    fingerprint = f"timm {config['architecture']}\n{sha256_file(file)}"
    build = partial(build_features, model, file)
    return FeatureTower(Backbone(f"timm:{argument}", fingerprint, _dim(model, transform), transform, build), options)


def build_features(model: str, checkpoint: Path) -> Any:
    """A network of timm with the tensors of a checkpoint, whose classifier may have any number of classes or none."""
    import timm

    state = read_state(checkpoint)
    heads = _config(model)["classifier"]
    weight = state.get(f"{heads if isinstance(heads, str) else heads[0]}.weight")
    classes = 0 if weight is None else len(weight)
    try:  # timm renames what older releases named otherwise, then wants every tensor
        overlay = {"state_dict": state, "num_classes": classes}
        network = timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=classes)
    except Exception as error:
        raise mismatch(checkpoint, model, error) from error
    network.reset_classifier(0)
    return network


def transform_of(config: dict[str, Any]) -> ImageTransform:
    """The preprocessing of a configuration of timm, as its evaluation transform does it.

    Raises:
        EncoderError: a frame that is no square, or a way of cropping that we do not have.
    """
    _, height, width = config["input_size"]
    mode, fraction = config.get("crop_mode") or "center", config["crop_pct"]
    if height != width or mode not in _RESIZE or (mode == "squash" and fraction != 1):
        got = f"{height} × {width}, crop mode {mode} of {fraction}"
        raise EncoderError("timm states a preprocessing that we do not have", got=got, remedy="use another model")
    edge = math.floor(height / fraction)
    mean, std = tuple(config["mean"]), tuple(config["std"])
    return ImageTransform(height, width, edge, mean, std, _RESIZE[mode], config["interpolation"].upper())


def _config(model: str) -> dict[str, Any]:
    import timm

    try:
        return dict(timm.models.get_pretrained_cfg(model, allow_unregistered=False).to_dict())
    except (RuntimeError, AttributeError) as error:
        known = timm.models.get_arch_pretrained_cfgs(model.partition(".")[0])
        remedy = f"there are: {', '.join(known)}" if known else HELP
        raise EncoderError("timm has no such model", got=repr(model), remedy=remedy) from error


def _downloaded(model: str, config: dict[str, Any]) -> Path:
    import timm
    from huggingface_hub import hf_hub_download

    if "." not in model or not config.get("hf_hub_id"):  # nothing is downloaded that was not asked for by its name
        tags = ", ".join(timm.list_pretrained(f"{model}.*")) or "none"
        raise EncoderError("this names no weights", got=repr(model), remedy=f"{HELP}; there are: {tags}")
    names = (config["hf_hub_filename"],) if config.get("hf_hub_filename") else _FILES
    for name in names:
        try:
            return Path(hf_hub_download(config["hf_hub_id"], name))
        except (OSError, RuntimeError, ValueError) as error:
            failure = error
    raise EncoderError(f"cannot download {model}", got=first_line(failure), remedy=f"fetch it elsewhere and {HELP}")


def _dim(model: str, transform: ImageTransform) -> int:
    import timm
    import torch

    with torch.device("meta"), torch.inference_mode():  # shapes alone, no memory and no arithmetic
        network = timm.create_model(model, num_classes=0).eval()
        features = network(torch.empty(1, 3, transform.height, transform.width))
    if features.ndim != 2:
        raise EncoderError("this model of timm gives no pooled features", got=f"{model}, {tuple(features.shape)}")
    return int(features.shape[1])
