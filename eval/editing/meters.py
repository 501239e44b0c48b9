"""What is measured of every answer to an edit: one meter per kind of knowledge, one number per answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from eval.editing.answers import Made
from eval.editing.cases import EditCase
from eval.judge import Judge
from eval.metrics.accuracy import Classifier, correct
from eval.metrics.clip_score import clip_scores
from eval.metrics.masks import dilated, grid_ceiling, mask_iou, resized
from eval.metrics.naming import metric_name
from eval.metrics.perceptual import Distance
from eval.metrics.pixels import change, pixels_of, psnr
from simat.types import Encoder

Values = Float[np.ndarray, " n"]
RADIUS = 1 / 16  # of the edge, by which true masks are dilated
TRIPLET = ("subject", "relation", "object")


@dataclass(frozen=True)
class Column:
    """A figure of every answer.

    Attributes:
        name: of the column in the table of answers.
        label: in reports.
        share: whether it is a share, shown in percent; else a plain number.
    """

    name: str
    label: str
    share: bool = True


@runtime_checkable
class Meter(Protocol):
    """Measures answers."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """What it measures."""
        ...

    def __call__(self, cases: Sequence[EditCase], made: Sequence[Made]) -> Mapping[str, Values]:
        """One number per answer under every column; NaN where it is unknown."""
        ...


class PixelMeter:
    """How much every pixel changes."""

    columns = (Column("change", "Change of pixels"),)

    def __call__(self, cases: Sequence[EditCase], made: Sequence[Made]) -> Mapping[str, Values]:
        """Mean absolute change of the channels, as a share of their range."""
        pairs = [(pixels_of(case.picture()), _shown(case, one)) for case, one in zip(cases, made, strict=True)]
        return {"change": np.array([change(before, after) for before, after in pairs])}


class ReconstructionMeter:
    """PSNR against the input: what an autoencoder keeps, where nothing is edited."""

    columns = (Column("psnr", "PSNR, dB", share=False),)

    def __call__(self, cases: Sequence[EditCase], made: Sequence[Made]) -> Mapping[str, Values]:
        """In decibels; NaN for a picture that is the input itself."""
        found = [psnr(pixels_of(case.picture()), _shown(case, one)) for case, one in zip(cases, made, strict=True)]
        return {"psnr": np.array([math.nan if math.isinf(value) else value for value in found])}


class DistanceMeter:
    """The perceptual distance to the input."""

    def __init__(self, distance: Distance) -> None:
        self._distance = distance
        self.columns = (Column("distance", metric_name("LPIPS", distance.name), share=False),)

    def __call__(self, cases: Sequence[EditCase], made: Sequence[Made]) -> Mapping[str, Values]:
        """LPIPS, or a distance like it, times 100."""
        found = self._distance([case.picture() for case in cases], pictures_of(made))
        return {"distance": found.astype(np.float64)}


class MaskMeter:
    """What the true mask of the thing to change tells.

    Attributes:
        radius: by how much the true mask is dilated, as a share of the picture's edge.
    """

    columns = (
        Column("mask_iou", "Mask IoU"),
        Column("mask_ceiling", "its ceiling on the grid"),
        Column("mask_reached", "share of the ceiling"),
        Column("outside", "Change outside the dilated true mask"),
    )

    def __init__(self, radius: float = RADIUS) -> None:
        self.radius = radius

    def __call__(self, cases: Sequence[EditCase], made: Sequence[Made]) -> Mapping[str, Values]:
        """IoU of the backend's mask with the true one, the most that its grid allows, and change elsewhere."""
        rows = [self._row(case, one) for case, one in zip(cases, made, strict=True)]
        return {column.name: np.array([row[n] for row in rows]) for n, column in enumerate(self.columns)}

    def _row(self, case: EditCase, made: Made) -> tuple[float, float, float, float]:
        if case.mask is None:
            return math.nan, math.nan, math.nan, math.nan
        picture = case.picture()
        far = ~dilated(case.mask, round(self.radius * picture.width))
        outside = change(pixels_of(picture), _shown(case, made), far)
        if made.mask is None or made.mask.all():  # whoever edits everywhere has found nothing
            return math.nan, math.nan, math.nan, outside
        iou = mask_iou(resized(made.mask, case.mask.shape), case.mask)
        ceiling = grid_ceiling(case.mask, _grid(made, case))
        return iou, ceiling, iou / ceiling, outside


class FactsMeter:
    """Whether a judge sees in the answer what it shall show."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.columns = (
            Column("edited", f"Edited word seen by {judge.name}"),
            Column("success", f"Edit success by {judge.name}"),
            Column("place", f"Place kept, by {judge.name}"),
        )

    def __call__(self, cases: Sequence[EditCase], made: Sequence[Made]) -> Mapping[str, Values]:
        """Success: subject, relation and object are all right; a judge that tells fewer is asked for these."""
        seen = self._judge.facts(pictures_of(made))
        pairs = list(zip(cases, seen, strict=True))
        return {
            "edited": np.array([_right(case, facts, [case.changed]) for case, facts in pairs]),
            "success": np.array([_right(case, facts, TRIPLET) for case, facts in pairs]),
            "place": np.array([_right(case, facts, ["place"]) for case, facts in pairs]),
        }

    def reliability(self, cases: Sequence[EditCase]) -> Values:
        """Whether the judge sees the true triplet in every input: what its verdicts are worth."""
        seen = self._judge.facts([case.picture() for case in cases])
        source = [{**case.facts, case.changed: case.edits.partition(" -> ")[0]} for case in cases]
        right = [all(facts.get(n) == true.get(n) for n in TRIPLET) for facts, true in zip(seen, source, strict=True)]
        return np.array(right, np.float64)


class AccuracyMeter:
    """Whether a classifier sees the target class first among the classes of the protocol (thesis 4.4.1)."""

    def __init__(self, classifier: Classifier, allowed: Sequence[int]) -> None:
        self._classifier, self._allowed = classifier, allowed
        self.columns = (Column("success", metric_name("Accuracy", classifier.name)),)

    def __call__(self, cases: Sequence[EditCase], made: Sequence[Made]) -> Mapping[str, Values]:
        """1 or 0."""
        targets = np.array([case.target[0] for case in cases if case.target is not None], np.int64)
        assert len(targets) == len(cases), "every case has a target class"
        return {
            "success": correct(self._classifier.logits(pictures_of(made)), targets, self._allowed).astype(np.float64)
        }


class ClipMeter:
    """How well the answer and its text agree."""

    def __init__(self, encoder: Encoder, name: str) -> None:
        self._encoder = encoder
        self.columns = (Column("clip", metric_name("CLIPScore", name), share=False),)

    def __call__(self, cases: Sequence[EditCase], made: Sequence[Made]) -> Mapping[str, Values]:
        """100·cos."""
        return {"clip": clip_scores(self._encoder, pictures_of(made), [case.text for case in cases])}


def pictures_of(made: Sequence[Made]) -> list[Image.Image]:
    """The pictures of answers; none of them refused."""
    pictures = [one.picture for one in made if one.picture is not None]
    assert len(pictures) == len(made), "a refused answer has no picture"
    return pictures


def measure(meters: Sequence[Meter], cases: Sequence[EditCase], made: Sequence[Made]) -> dict[str, Values]:
    """Everything that the meters tell of the answers, by column; NaN for answers that were refused."""
    kept = [n for n, one in enumerate(made) if one.refused is None]
    found: dict[str, Values] = {}
    for meter in meters:
        values = meter([cases[n] for n in kept], [made[n] for n in kept]) if kept else {}
        for column in meter.columns:
            found[column.name] = spread(values.get(column.name, np.empty(0)), kept, len(made))
    return found


def spread(values: Values, rows: Sequence[int], count: int) -> Float[np.ndarray, " answers"]:
    """Numbers in their places among ``count`` answers, NaN everywhere else."""
    full = np.full(count, np.nan)
    full[list(rows)] = values
    return full


def columns_of(meters: Sequence[Meter]) -> tuple[Column, ...]:
    """All columns of several meters."""
    return tuple(column for meter in meters for column in meter.columns)


def _shown(case: EditCase, made: Made) -> np.ndarray:
    assert made.picture is not None, "a refused answer has no picture"
    return pixels_of(made.picture, case.picture().size)


def _grid(made: Made, case: EditCase) -> tuple[int, int]:
    """The grid of the mask; a mask of the picture's own size was enlarged from the coarsest grid that it fits."""
    assert made.mask is not None and case.mask is not None, "both masks are known"
    height, width = made.mask.shape
    truth_height, truth_width = case.mask.shape
    if truth_height % height or truth_width % width:
        return truth_height, truth_width
    return height, width


def _right(case: EditCase, seen: Mapping[str, str], names: Sequence[str]) -> float:
    asked = [name for name in names if name in case.facts and name in seen]
    return float(all(seen[name] == case.facts[name] for name in asked)) if asked else math.nan
