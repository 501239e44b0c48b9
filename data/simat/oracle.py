"""Oracles: how probable it is that a caption describes a crop, and the queries that pass (thesis, section 3.2)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from data.corpus import CorpusError
from data.regions import Box, Region, Triplet
from data.simat.queries import Query

SHOWN_ABOVE, ABSENT_BELOW = 0.9, 0.1
VISIBLE = 0.5  # of an annotation's boxes, to be seen in another region's crop

Pair = tuple[Region, str]
"""A crop and a caption."""


@runtime_checkable
class Oracle(Protocol):
    """Judges pairs of a crop and a caption.

    Attributes:
        name: what it is, for the provenance of a corpus.
    """

    name: str

    def probabilities(self, pairs: Sequence[Pair]) -> Float[np.ndarray, " n"]:
        """The probability, in [0, 1], that each caption describes its crop."""
        ...


class AnnotationOracle:
    """Knows what was annotated: 1 where the crop shows a region of the caption's triplet, else 0.

    A crop shows its own region, and every other of its image whose subject and object lie in it by half of their area.

    Args:
        regions: every annotation of the images, whether or not it is asked for.
        captions: the caption of each triplet.
    """

    name = "annotation"

    def __init__(self, regions: Iterable[Region], captions: Mapping[Triplet, str]) -> None:
        self._captions = captions
        self._by_image: dict[int, list[Region]] = defaultdict(list)
        for region in regions:
            if region.triplet in captions:
                self._by_image[region.image_id].append(region)

    def probabilities(self, pairs: Sequence[Pair]) -> Float[np.ndarray, " n"]:
        """1.0 or 0.0 for each pair."""
        shown: dict[int, set[str]] = {}
        for region, _ in pairs:
            if region.region_id not in shown:
                shown[region.region_id] = self._shown(region)
        return np.array([float(caption in shown[region.region_id]) for region, caption in pairs], dtype=np.float64)

    def _shown(self, region: Region) -> set[str]:
        others = self._by_image[region.image_id]
        return {
            self._captions[other.triplet]
            for other in others
            if other.region_id == region.region_id
            or min(_inside(box, region.crop) for box in (other.subject_box, other.object_box)) >= VISIBLE
        }


class MatrixOracle:
    """Looks probabilities up in a matrix computed before, such as the released one by OSCAR.

    Args:
        matrix: one row per region, one column per caption.
        rows: row of each region id.
        columns: column of each caption.

    Raises:
        CorpusError: the matrix is of another shape, or has numbers outside [0, 1].
    """

    def __init__(
        self,
        matrix: Float[np.ndarray, "regions captions"],
        rows: Mapping[int, int],
        columns: Mapping[str, int],
        name: str = "matrix",
    ) -> None:
        expected = (len(rows), len(columns))
        if matrix.shape != expected:
            raise CorpusError("the oracle's matrix has another shape", got=f"{matrix.shape} instead of {expected}")
        if not ((matrix >= 0) & (matrix <= 1)).all():  # false for NaN, too
            raise CorpusError("the oracle's matrix has numbers outside [0, 1]", got=f"{matrix.min()} to {matrix.max()}")
        self.name, self._matrix, self._rows, self._columns = name, matrix, rows, columns

    def probabilities(self, pairs: Sequence[Pair]) -> Float[np.ndarray, " n"]:
        """The probability of each pair.

        Raises:
            CorpusError: a region or a caption that the matrix does not cover.
        """
        try:
            rows = np.array([self._rows[region.region_id] for region, _ in pairs], dtype=np.int64)
            columns = np.array([self._columns[caption] for _, caption in pairs], dtype=np.int64)
        except KeyError as error:
            raise CorpusError(
                "the oracle's matrix does not cover every region and caption", got=error.args[0]
            ) from error
        return self._matrix[rows, columns].astype(np.float64)


def passing(queries: Sequence[Query], captions: Mapping[Triplet, str], oracle: Oracle) -> list[Query]:
    """The queries whose crop shows their source triplet, P > 0.9, and not their goal, P < 0.1.

    Raises:
        CorpusError: the oracle gives something else than one probability per pair.
    """
    sources = judged(oracle, [(query.region, captions[query.region.triplet]) for query in queries])
    goals = judged(oracle, [(query.region, captions[query.goal]) for query in queries])
    kept = (sources > SHOWN_ABOVE) & (goals < ABSENT_BELOW)
    return [query for query, keep in zip(queries, kept, strict=True) if keep]


def judged(oracle: Oracle, pairs: Sequence[Pair]) -> Float[np.ndarray, " n"]:
    """The oracle's probabilities, checked.

    Raises:
        CorpusError: not one number in [0, 1] per pair.
    """
    found = oracle.probabilities(pairs)
    if found.shape != (len(pairs),) or not ((found >= 0) & (found <= 1)).all():
        raise CorpusError(f"the oracle {oracle.name!r} does not give one number in [0, 1] per pair", got=found.shape)
    return found


def _inside(box: Box, crop: Box) -> float:
    """Share of the box's area that lies in the crop."""
    width = min(box[2], crop[2]) - max(box[0], crop[0])
    height = min(box[3], crop[3]) - max(box[1], crop[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(width, 0) * max(height, 0) / area if area > 0 else 0.0
