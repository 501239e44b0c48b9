"""Recall of images by captions and of captions by images, against sorting every score."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import unit_noise
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simat import retrieval
from simat.retrieval import recall_both_ways


@given(st.integers(0, 1000), st.lists(st.integers(1, 4), min_size=2, max_size=30))
def test_recall_is_what_sorting_all_scores_gives(seed: int, counts: list[int]) -> None:
    owners = np.repeat(np.arange(len(counts)), counts)
    images, texts = unit_noise(seed, len(counts), 5), unit_noise(seed + 1, len(owners), 5)
    scores = images.astype(np.float64) @ texts.T
    found = recall_both_ways(images, texts, owners, (1, 3))
    for k in (1, 3):
        of_texts = [owner in np.argsort(-scores[:, i])[:k] for i, owner in enumerate(owners)]
        assert found["text_to_image"][str(k)] == pytest.approx(np.mean(of_texts))
        # An own caption is found if fewer than k foreign ones stand before the best of them.
        best = [scores[i, owners == i].max() for i in range(len(counts))]
        of_images = [(scores[i, owners != i] > best[i]).sum() < k for i in range(len(counts))]
        assert found["image_to_text"][str(k)] == pytest.approx(np.mean(of_images))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = unit_noise(0, 50, 6), unit_noise(1, 100, 6), np.repeat(np.arange(50), 2)
    whole = recall_both_ways(*arguments)
    monkeypatch.setattr(retrieval, "BLOCK", 7)
    assert recall_both_ways(*arguments) == whole
    assert 0 < whole["text_to_image"]["1"] < whole["text_to_image"]["10"] < 1


def test_vectors_that_say_nothing_find_nothing() -> None:
    same = np.repeat(unit_noise(0, 1, 4), 20, 0)
    nothing = {"1": 0.0, "5": 0.0, "10": 0.0}
    assert recall_both_ways(same, same, np.arange(20)) == {"text_to_image": nothing, "image_to_text": nothing}
    broken = np.full((20, 4), np.nan, np.float32)
    assert recall_both_ways(broken, same, np.arange(20))["text_to_image"]["10"] == 0


def test_own_vectors_are_always_found() -> None:
    rows = unit_noise(0, 300, 8)
    assert recall_both_ways(rows, rows, np.arange(300))["image_to_text"] == {"1": 1.0, "5": 1.0, "10": 1.0}


# Small integers: sums are exact in every order, and ties are many.
coarse = st.tuples(st.integers(1, 12), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=st.integers(-2, 2).map(float))] * 2)
)


@given(pair=coarse, k=st.integers(1, 14))
def test_ties_count_against_a_pair_as_in_the_slow_loop(pair: tuple[np.ndarray, np.ndarray], k: int) -> None:
    texts, images = pair
    found = 0
    for i, text in enumerate(texts):
        before = sum(j != i and float(text @ image) >= float(text @ images[i]) for j, image in enumerate(images))
        found += before < k
    recall = recall_both_ways(images, texts, np.arange(len(texts)), (k,))["text_to_image"][str(k)]
    assert recall == pytest.approx(found / len(texts))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), k=st.integers(1, 40))
def test_order_of_the_pairs_makes_no_difference(seed: int, count: int, k: int) -> None:
    texts, images = unit_noise(seed, count, 8), unit_noise(seed + 1, count, 8)
    order = np.random.default_rng(seed).permutation(count)
    rows = np.arange(count)
    assert recall_both_ways(images[order], texts[order], rows, (k,)) == recall_both_ways(images, texts, rows, (k,))


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 30))
def test_recall_never_falls_as_k_grows_and_ends_at_1(seed: int, count: int) -> None:
    ks = range(1, count + 1)
    found = recall_both_ways(unit_noise(seed, count, 4), unit_noise(seed + 1, count, 4), np.arange(count), ks)
    for way in found.values():
        shares = [way[str(k)] for k in ks]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


def test_a_copy_of_an_image_stands_before_it() -> None:
    images = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    assert recall_both_ways(images, images, np.arange(3), (1, 2))["text_to_image"] == {"1": 1 / 3, "2": 1.0}
