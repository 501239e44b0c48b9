"""``torchvision:resnet50`` and its sisters: the pooled features of ImageNet ResNets (He et al. 2016; thesis 3.4.2).

``torchvision:resnet50`` takes the weights ``IMAGENET1K_V1``, the ones there were when the thesis was written;
``torchvision:resnet50/IMAGENET1K_V2`` any other of torchvision's; ``torchvision:resnet50//path/to/checkpoint`` your
own. Released weights are downloaded once.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from simat.encoders.checkpoints import fill, first_line, read_state, split_source
from simat.encoders.runtime import RuntimeOptions
from simat.encoders.towers import Backbone, FeatureTower
from simat.errors import EncoderError
from simat.files import sha256_file
from simat.images import ImageTransform

DIMS = {"resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "resnet152": 2048}
DEFAULT = "IMAGENET1K_V1"
HELP = f"write torchvision:MODEL, MODEL/WEIGHTS or MODEL//path/to/checkpoint, MODEL one of {', '.join(DIMS)}"


def load(argument: str, options: RuntimeOptions) -> FeatureTower:
    """Entry point of ``torchvision``.

    Raises:
        EncoderError: unknown model or weights, no such file, a failed download.
    """
    model, tag, checkpoint = split_source(argument, HELP)
    if model not in DIMS:
        raise EncoderError("no such ResNet", got=repr(model), remedy=HELP)
    weights = _weights(model, tag or DEFAULT)
    file = checkpoint or _downloaded(weights)
    fingerprint = f"torchvision {model}\n{sha256_file(file)}"
    transform = transform_of(weights)
    spec = f"torchvision:{argument}"
    return FeatureTower(Backbone(spec, fingerprint, DIMS[model], transform, partial(build, model, file)), options)


def build(model: str, checkpoint: Path) -> Any:
    """A ResNet without its classifier, with the tensors of a checkpoint."""
    import torch
    from torchvision.models import get_model

    network = get_model(model, weights=None)
    network.fc = torch.nn.Identity()
    fill(network, read_state(checkpoint), "fc", checkpoint)
    return network


def transform_of(weights: Any) -> ImageTransform:
    """The preprocessing that torchvision states for released weights."""
    preset = weights.transforms()
    (size,), (edge,) = preset.crop_size, preset.resize_size
    interpolation = preset.interpolation.value.upper()
    return ImageTransform(size, size, edge, tuple(preset.mean), tuple(preset.std), interpolation=interpolation)


def _weights(model: str, tag: str) -> Any:
    from torchvision.models import get_model_weights

    known = get_model_weights(model)
    if tag not in known.__members__:
        raise EncoderError(
            f"{model} has no such weights", got=repr(tag), remedy=f"there are: {', '.join(known.__members__)}"
        )
    return known[tag]


def _downloaded(weights: Any) -> Path:
    import torch

    name = weights.url.rpartition("/")[2]
    path: Path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = name.rpartition("-")[2].partition(".")[0]  # torchvision's names end in the start of the file's SHA-256
    try:
        torch.hub.download_url_to_file(weights.url, str(path), hash_prefix=digest, progress=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderError(
            f"cannot download {weights}", got=first_line(error), remedy=f"fetch it elsewhere and {HELP}"
        ) from error
    return path
