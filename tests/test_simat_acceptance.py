"""The released files of SIMAT, rebuilt: the oracle of the rules, the queries and their columns."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from corpora import released

from data.simat.captions import write_caption
from data.simat.queries import (
    PER_PAIR,
    candidate_queries,
    caption_lines,
    draw_queries,
    matrix_rows,
    neighbour_counts,
    region_rows,
    score_weights,
    value_counts,
)
from data.simat.release import Release
from data.simat.rules import RULES, choose_triplets, neighbours


@pytest.fixture(scope="module")
def release() -> Release:
    return Release(released())


def test_release_rule_chooses_exactly_the_released_triplets(release: Release) -> None:
    chosen = choose_triplets(release.annotations, RULES["release"])

    assert len(release.annotations) == 11_160
    assert len(chosen) == len(set(chosen)) == 645
    assert set(chosen) == set(release.triplets)


def test_paper_rule_chooses_489_of_the_released_triplets(release: Release) -> None:
    chosen = choose_triplets(release.annotations, RULES["paper"])

    assert len(chosen) == 489
    assert set(chosen) < set(release.triplets)


def test_candidate_queries_hold_every_released_query(release: Release) -> None:
    chosen = choose_triplets(release.annotations, RULES["release"])
    near = neighbours(chosen)
    queries = {(row.query.region.region_id, row.query.field, row.query.target) for row in release.queries}
    starting = {number for number, _, _ in queries}
    sources = [region for region in release.regions if region.region_id in starting]
    candidates = {(q.region.region_id, q.field, q.target) for q in candidate_queries(sources, chosen)}

    assert len(queries) == 17_996
    assert len(candidates) == sum(len(near[region.triplet]) for region in sources)
    assert queries <= candidates
    assert sum(len(near.get(region.triplet, ())) for region in release.annotations) == 155_097
    assert sum(len(near[region.triplet]) for region in release.regions) == 118_720


def test_draw_takes_five_regions_per_ordered_pair_as_the_release_did(release: Release) -> None:
    chosen = choose_triplets(release.annotations, RULES["release"])
    drawn = draw_queries(release.annotations, chosen, np.random.default_rng(0))

    assert sum(map(len, neighbours(chosen).values())) == 9_718
    assert len({(q.region.region_id, q.field, q.target) for q in drawn}) == len(drawn) == 39_682
    for queries in (drawn, [row.query for row in release.queries]):
        assert max(Counter((q.region.triplet, q.field, q.target) for q in queries).values()) == PER_PAIR


def test_columns_of_every_released_query_are_reproduced(release: Release) -> None:
    rows, queries = release.queries, [row.query for row in release.queries]
    lines = caption_lines(release.captions)
    ranks = region_rows(release.regions, lines)

    assert neighbour_counts(queries, release.triplets) == [row.norm for row in rows]
    assert value_counts(queries) == [row.norm2 for row in rows]
    assert [lines[query.region.triplet] for query in queries] == [row.query_ids for row in rows]
    assert [lines[query.goal] for query in queries] == [row.target_ids for row in rows]
    assert [ranks[query.region.region_id] for query in queries] == [row.dataset_id for row in rows]


def test_both_orders_of_the_released_regions_are_reproduced(release: Release) -> None:
    lines = caption_lines(release.captions)
    by_text, by_number = matrix_rows(release.regions, lines), region_rows(release.regions, lines)

    assert by_text == release.matrix_rows
    assert sorted(by_number.values()) == sorted(by_text.values()) == [*range(5_859)]
    differing = sum(by_number[r.query.region.region_id] != by_text[r.query.region.region_id] for r in release.queries)
    assert differing / len(release.queries) == pytest.approx(0.742, abs=5e-4)


@pytest.mark.parametrize(
    ("is_test", "queries", "regions", "total", "shares"),
    [
        (False, 8_933, 1_580, 613.0750, (0.7824, 0.1585, 0.0590)),
        (True, 9_063, 1_557, 618.8263, (0.7810, 0.1595, 0.0595)),
    ],
)
def test_domains_and_weights_are_those_of_the_published_scores(
    release: Release, is_test: bool, queries: int, regions: int, total: float, shares: tuple[float, ...]
) -> None:
    domain = np.array([row.is_test for row in release.queries])
    norm2 = np.array([row.norm2 for row in release.queries])
    weights = score_weights(norm2, domain)
    rows = [(row, w) for row, w in zip(release.queries, weights, strict=True) if row.is_test == is_test]

    assert len(rows) == queries
    assert len({row.query.region.region_id for row, _ in rows}) == regions
    assert (norm2[domain == is_test] ** -0.5).sum() == pytest.approx(total, abs=5e-5)
    for field, share in zip(("obj", "subj", "rel"), shares, strict=True):
        assert sum(w for row, w in rows if row.query.field == field) == pytest.approx(share, abs=5e-5)


def test_grammar_writes_most_released_captions_word_for_word(release: Release) -> None:
    same = [write_caption(triplet) == caption for triplet, caption in release.captions.items()]

    assert np.mean(same) > 0.75
