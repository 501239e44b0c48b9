"""What is measured of all answers of a setting together: Fréchet distances to real pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from eval.metrics.features import Extractor
from eval.metrics.frechet import KINDS, csfid, fid, sfid
from eval.metrics.naming import metric_name

Features = Float[np.ndarray, "n d"]


@dataclass(frozen=True)
class Reals:
    """Real pictures, as features.

    Attributes:
        extractor: what they were looked at through.
        features: one row per picture.
        classes: the class of each; empty where classes do not matter.
    """

    extractor: Extractor
    features: Features
    classes: tuple[str, ...] = ()

    def distances(self, pictures: list[Image.Image], targets: Sequence[str] = ()) -> dict[str, float]:
        """How far what was made is from what is real, by the metric's name.

        Args:
            pictures: what was made.
            targets: the class that each shall show; where these are known the distances are those of thesis 4.4.1
                (SFID and CSFID, each by means alone and with variances), else it is FID.
        """
        made = self.extractor(pictures)
        if not targets:
            return {self.name("FID"): fid(made, self.features)}
        found = {}
        for kind in KINDS:
            found[f"{self.name('CSFID')} ({kind})"] = csfid(made, targets, self.features, self.classes, kind)
            found[f"{self.name('SFID')} ({kind})"] = sfid(made, self.features, kind)
        return found

    def name(self, metric: str) -> str:
        """A metric's name through this extractor."""
        return metric_name(metric, self.extractor.name)


def look_at(extractor: Extractor, pictures: Mapping[str, Sequence[Image.Image]] | Sequence[Image.Image]) -> Reals:
    """Real pictures through an extractor.

    Args:
        pictures: by their classes, or a plain list.
    """
    if not isinstance(pictures, Mapping):
        return Reals(extractor, extractor(list(pictures)))
    classes = tuple(name for name, of_class in pictures.items() for _ in of_class)
    return Reals(extractor, extractor([picture for of_class in pictures.values() for picture in of_class]), classes)
