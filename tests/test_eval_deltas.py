"""Deltas of words and sentences, and what they do to captions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from triplet_world import SLOTS, TRIPLETS, TripletEncoder

from eval.baselines import nearest_rows, text_delta_success, text_to_image
from eval.deltas import caption_pairs, sentence_deltas, word_deltas
from eval.simat_score import Steps, Task, edit_steps
from simat.vectors import unit_rows

CAPTIONS = [f"A {s} {r} a {o}." for s, r, o in TRIPLETS]


def encode(texts: Sequence[str]) -> np.ndarray:
    return TripletEncoder().encode_texts(list(texts))


def task_of(pairs: list[tuple[int, int]]) -> Task:
    """Queries from the region of one triplet to another one's caption; region i shows triplet i."""
    edits = []
    for source, goal in pairs:
        ((before, after),) = [(a, b) for a, b in zip(TRIPLETS[source], TRIPLETS[goal], strict=True) if a != b]
        edits.append((before, after))
    count = len(pairs)
    sources, goals = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    return Task(sources, goals, np.full(count, 1 / count), np.zeros(count, np.int64), edits)


def neighbouring() -> list[tuple[int, int]]:
    return [
        (i, j) for i, a in enumerate(TRIPLETS) for j, b in enumerate(TRIPLETS)
        if sum(x != y for x, y in zip(a, b, strict=True)) == 1
    ]  # fmt: skip


def test_pairs_of_captions_differ_by_the_edit_alone_and_are_all_there() -> None:
    pairs = caption_pairs(TRIPLETS, CAPTIONS)
    assert sum(map(len, pairs.values())) == len(neighbouring())
    for (source, target), found in pairs.items():
        assert all(first.replace(source, target) == second != first for first, second in found)
    assert len(pairs["cat", "dog"]) == len(SLOTS[1]) * len(SLOTS[2])


def test_a_word_that_stands_in_two_slots_is_edited_in_both() -> None:
    triplets = [("man", "biting", "cup"), ("boy", "biting", "cup"), ("cat", "biting", "man"), ("cat", "biting", "boy")]
    pairs = caption_pairs(triplets, ["a", "b", "c", "d"])
    assert sorted(pairs["man", "boy"]) == [("a", "b"), ("c", "d")]


@given(st.integers(0, 100))
def test_sentence_delta_is_the_mean_over_its_pairs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = {text: rng.normal(size=3).astype(np.float32) for text in ("s", "t", "u", "v", "a", "b", "c")}
    pairs = {("a", "b"): [("s", "t"), ("u", "v")]}
    found = sentence_deltas([("a", "b"), ("b", "c")], pairs, lambda texts: np.stack([vectors[t] for t in texts]))
    slow = (vectors["t"] - vectors["s"] + vectors["v"] - vectors["u"]) / 2
    np.testing.assert_allclose(found[0], slow, atol=1e-6)
    np.testing.assert_allclose(found[1], vectors["c"] - vectors["b"], atol=1e-6)  # no pair: its words


def test_edits_and_their_opposites_have_opposite_deltas() -> None:
    edits = [("cat", "dog"), ("dog", "cat")]
    pairs = caption_pairs(TRIPLETS, CAPTIONS)
    for deltas in (word_deltas(edits, encode), sentence_deltas(edits, pairs, encode)):
        np.testing.assert_allclose(deltas[0], -deltas[1], atol=1e-6)


def test_steps_are_asked_for_once_per_edit() -> None:
    task = task_of(neighbouring())
    asked: list[tuple[str, str]] = []

    def deltas(edits: list[tuple[str, str]]) -> np.ndarray:
        asked.extend(edits)
        return word_deltas(edits, encode)

    steps = edit_steps(task, deltas)
    assert len(asked) == len(set(asked)) == len(set(task.edits))
    assert [asked[i] for i in steps.which] == list(task.edits)


@given(st.integers(0, 1000), st.booleans())
def test_text_delta_success_is_its_definition(seed: int, exclude: bool) -> None:
    rng = np.random.default_rng(seed)
    captions = unit_rows(rng.normal(size=(len(TRIPLETS), 5)).astype(np.float32))
    task = task_of([neighbouring()[i] for i in rng.integers(len(neighbouring()), size=20)])
    steps = Steps(rng.normal(size=(6, 5)).astype(np.float32), rng.integers(6, size=20))
    shown = np.arange(len(TRIPLETS))
    found = text_delta_success(captions, shown, steps, task, 0.7, exclude)
    for number, success in enumerate(found):
        scores = captions @ (captions[task.sources[number]] + np.float32(0.7) * steps.vectors[steps.which[number]])
        if exclude:
            scores[task.sources[number]] = -np.inf
        assert success == (scores.argmax() == task.goals[number])


def test_captions_of_one_hot_words_are_transformed_without_fail() -> None:
    task = task_of(neighbouring())
    steps = edit_steps(task, lambda edits: word_deltas(edits, encode))
    assert text_delta_success(encode(CAPTIONS), np.arange(len(TRIPLETS)), steps, task).all()
    stays = Steps(np.zeros_like(steps.vectors), steps.which)
    assert not text_delta_success(encode(CAPTIONS), np.arange(len(TRIPLETS)), stays, task).any()


def test_target_caption_finds_what_it_says() -> None:
    task = task_of(neighbouring())
    found = text_to_image(encode(CAPTIONS), encode(CAPTIONS), task)
    assert (found[:, 0] == task.goals).all()


def test_nearest_rows_takes_the_first_of_equals_and_leaves_out_what_it_is_told() -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    queries = np.array([[1, 0], [1, 0]], np.float32)
    assert nearest_rows(rows, queries).tolist() == [0, 0]
    assert nearest_rows(rows, queries, np.array([0, 1])).tolist() == [1, 0]


def test_encoder_of_the_world_knows_its_captions() -> None:
    assert encode(CAPTIONS) @ encode(CAPTIONS).T == pytest.approx(
        np.array([[sum(x == y for x, y in zip(a, b, strict=True)) / 3 for b in TRIPLETS] for a in TRIPLETS])
    )
