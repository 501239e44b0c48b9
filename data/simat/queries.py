"""Transformation queries: an image, a word that it shows, and the word to put there (thesis, section 3.2).

Columns are named and counted as in the released ``transfos.csv``, which leaves two things unsaid that published scores
rest on: ``norm2`` counts a word over all queries, whatever their domain and field, and there are two orders of the
regions, by number and by text (:func:`region_rows`, :func:`matrix_rows`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from jaxtyping import Bool, Float, Int

from data.regions import Region, Triplet
from data.simat.rules import neighbours
from data.simat.vocabulary import FIELDS, Field, changed, replaced

PER_PAIR = 5  # regions drawn per ordered pair of triplets, by the released files
Split = Literal["image", "region"]
SPLITS: tuple[Split, ...] = ("image", "region")


@dataclass(frozen=True)
class Query:
    """Change the word in slot ``field`` of a region's triplet to ``target``."""

    region: Region
    field: Field
    target: str

    @property
    def value(self) -> str:
        """The word to change."""
        return self.region.triplet[FIELDS.index(self.field)]

    @property
    def goal(self) -> Triplet:
        """The triplet that a right answer shows."""
        return replaced(self.region.triplet, self.field, self.target)

    @property
    def order(self) -> tuple[int, int, str]:
        """Queries are kept in the order of region, field, target."""
        return self.region.region_id, FIELDS.index(self.field), self.target


def candidate_queries(regions: Iterable[Region], triplets: Collection[Triplet]) -> Iterator[Query]:
    """Every query from a region of one triplet to a triplet at Hamming distance 1."""
    steps = _steps(triplets)
    for region in regions:
        for field, word in steps.get(region.triplet, ()):
            yield Query(region, field, word)


def draw_queries(
    regions: Iterable[Region], triplets: Collection[Triplet], rng: np.random.Generator, per_pair: int = PER_PAIR
) -> list[Query]:
    """Draw at most ``per_pair`` regions, without replacement, for each ordered pair of neighbouring triplets.

    The draw depends on the seed and on the regions, not on their order.

    Returns:
        Queries in their order: region, field, target.
    """
    by_triplet: dict[Triplet, list[Region]] = defaultdict(list)
    for region in sorted(regions, key=lambda region: region.region_id):
        by_triplet[region.triplet].append(region)
    queries = []
    for source, steps in _steps(sorted(triplets)).items():
        pool = by_triplet[source]
        for field, word in steps:
            chosen = rng.choice(len(pool), min(len(pool), per_pair), replace=False)
            queries += [Query(pool[i], field, word) for i in chosen]
    return sorted(queries, key=lambda query: query.order)


def caption_lines(captions: Mapping[Triplet, str]) -> dict[Triplet, int]:
    """The 0-based line of each triplet's caption in the captions file, which is sorted by code point."""
    return {t: line for line, t in enumerate(sorted(captions, key=lambda t: (captions[t], t)))}


def region_rows(regions: Iterable[Region], lines: Mapping[Triplet, int]) -> dict[int, int]:
    """Rank of each region id by (caption line, id): ``dataset_id`` of ``transfos.csv``."""
    ordered = sorted(regions, key=lambda region: (lines[region.triplet], region.region_id))
    return {region.region_id: row for row, region in enumerate(ordered)}


def matrix_rows(regions: Iterable[Region], lines: Mapping[Triplet, int]) -> dict[int, int]:
    """Rank of each region id by (caption line, id as text): ``dataset_id`` of ``triplets.csv``, rows of the oracle."""
    ordered = sorted(regions, key=lambda region: (lines[region.triplet], str(region.region_id)))
    return {region.region_id: row for row, region in enumerate(ordered)}


def neighbour_counts(queries: Sequence[Query], triplets: Collection[Triplet]) -> list[int]:
    """``norm``: triplets at Hamming distance 1 from each query's source triplet."""
    near = neighbours(triplets)
    return [len(near[query.region.triplet]) for query in queries]


def value_counts(queries: Sequence[Query]) -> list[int]:
    """``norm2``: how many of the queries, of any domain and field, change the same word."""
    counts = Counter(query.value for query in queries)
    return [counts[query.value] for query in queries]


def score_weights(norm2: Int[np.ndarray, " n"], is_test: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Weights norm2^(-1/2) of the SIMAT score, normalised inside each domain: dev and test each sum to 1."""
    weights = 1 / np.sqrt(norm2)
    for domain in (is_test, ~is_test):
        weights[domain] /= weights[domain].sum() if domain.any() else 1
    return cast("Float[np.ndarray, ' n']", weights)


def draw_test_regions(regions: Sequence[Region], by: Split, rng: np.random.Generator) -> frozenset[int]:
    """Ids of the regions of the test domain: those of half of the images, or half of the regions.

    Args:
        by: ``image`` keeps the regions of one image in one domain; ``region`` lets an image leak into both, as the
            release does.
    """
    if by == "region":
        return frozenset(_half([region.region_id for region in regions], rng))
    images = _half({region.image_id for region in regions}, rng)
    return frozenset(region.region_id for region in regions if region.image_id in images)


def _half(ids: Collection[int], rng: np.random.Generator) -> set[int]:
    ordered = sorted(ids)
    return {ordered[i] for i in rng.permutation(len(ordered))[: len(ordered) // 2]}


def _steps(triplets: Collection[Triplet]) -> dict[Triplet, list[tuple[Field, str]]]:
    """What leads from each triplet to each of its neighbours: a slot and the word to put there."""
    return {source: [changed(source, goal) for goal in goals] for source, goals in neighbours(triplets).items()}
