"""The SIMAT score against a slow reading of its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from corpora import region, regions
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpus import Corpus
from data.simat.build import Options, build_corpus
from eval.simat_score import (
    FIELDS,
    Task,
    annotation_judge,
    delta_score,
    nearest_others,
    read_task,
    score,
    word_deltas,
)
from simat.errors import QueryError
from simat.vectors import unit_rows

TRIPLETS = [(s, r, o) for s in ("cat", "dog") for r in ("biting", "licking") for o in ("bus", "cup", "van")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("simat") / "corpus"
    build_corpus(regions(*TRIPLETS, copies=6), folder, Options())
    return Corpus(folder, "simat")


def small_task(rng: np.random.Generator, images: int, queries: int) -> Task:
    weights = rng.uniform(0.1, 1, queries)
    return Task(
        rng.integers(images, size=queries),
        rng.integers(4, size=queries),
        weights / weights.sum(),
        rng.integers(3, size=queries),
        [("a", "b")] * queries,
    )


def slow_score(images: np.ndarray, deltas: np.ndarray, task: Task, shown: np.ndarray, scale: float, k: int) -> float:
    """Eq. 3.1 as it is written."""
    total = 0.0
    for source, goal, weight, delta in zip(task.sources, task.goals, task.weights, deltas, strict=True):
        x = images[source] + scale * delta
        others = [i for i in range(len(images)) if i != source]
        ranked = sorted(others, key=lambda i: -float(images[i] @ x))
        total += weight * any(shown[i] == goal for i in ranked[:k])
    return total


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.0, 0.5, 1.0, 3.0]), k=st.integers(1, 5))
def test_score_is_the_definition(seed: int, scale: float, k: int) -> None:
    rng = np.random.default_rng(seed)
    images = unit_rows(rng.normal(size=(9, 5)).astype(np.float32))
    task = small_task(rng, 9, 20)
    deltas = rng.normal(size=(20, 5)).astype(np.float32)
    shown = rng.integers(4, size=9)
    found = delta_score(images, deltas, task, lambda rows, goals: (shown[rows] == goals) * 1.0, scale, k)
    assert found.total == pytest.approx(slow_score(images, deltas, task, shown, scale, k))
    parts = [found.by_field[name] * task.weights[task.fields == i].sum() for i, name in enumerate(FIELDS)
             if name in found.by_field]  # fmt: skip
    assert sum(parts) == pytest.approx(found.total)


def test_more_answers_never_lower_the_score() -> None:
    rng = np.random.default_rng(1)
    images = unit_rows(rng.normal(size=(30, 8)).astype(np.float32))
    task, deltas, shown = (
        small_task(rng, 30, 200),
        rng.normal(size=(200, 8)).astype(np.float32),
        rng.integers(4, size=30),
    )
    totals = [
        delta_score(images, deltas, task, lambda rows, goals: (shown[rows] == goals) * 1.0, 1.0, k).total
        for k in (1, 2, 5, 29)
    ]
    assert totals == sorted(totals)
    assert totals[0] < totals[-1] == pytest.approx(1.0)


def test_perfect_vectors_score_one_and_the_image_itself_nothing(corpus: Corpus) -> None:
    task, judge = read_task(corpus, "all"), annotation_judge(corpus)
    words = sorted({word for triplet in TRIPLETS for word in triplet})
    axis = dict(zip(words, np.eye(len(words), dtype=np.float32), strict=True))
    rows = corpus.table("regions").to_pylist()
    images = np.stack([axis[row["subj"]] + axis[row["rel"]] + axis[row["obj"]] for row in rows])
    deltas = word_deltas(task, lambda texts: np.stack([axis[text] for text in texts]))
    assert delta_score(images, deltas, task, judge).total == pytest.approx(1.0)
    unchanged = delta_score(images, deltas, task, judge, scale=0.0)
    assert unchanged.total == 0.0
    assert not unchanged.success.any()


def test_task_has_the_domain_and_its_weights(corpus: Corpus) -> None:
    both, dev, test = (read_task(corpus, domain) for domain in ("all", "dev", "test"))
    assert len(both) == len(dev) + len(test) == corpus.manifest.counts["queries"]
    for task in (both, dev, test):
        assert task.weights.sum() == pytest.approx(1.0)
    assert not set(dev.sources) & set(test.sources)
    rows = {row["dataset_id"]: row for row in corpus.table("queries").to_pylist()}
    assert all(rows[source]["is_test"] for source in test.sources)
    assert set(dev.edits) <= {(a, b) for t in TRIPLETS for a in t for u in TRIPLETS for b in u if a != b}


def test_deltas_are_target_minus_source(corpus: Corpus) -> None:
    task = read_task(corpus, "dev")
    asked: list[list[str]] = []

    def encode(texts: list[str]) -> np.ndarray:
        asked.append(texts)
        return np.array([[len(text), ord(text[0])] for text in texts], np.float32)

    deltas = word_deltas(task, encode)
    for (source, target), delta in zip(task.edits, deltas, strict=True):
        assert delta.tolist() == [len(target) - len(source), ord(target[0]) - ord(source[0])]
    assert len(asked) == 1 and len(set(asked[0])) == len(asked[0])


def test_a_probability_of_one_half_is_no_success() -> None:
    task = Task(np.array([0]), np.array([0]), np.array([1.0]), np.array([2]), [("a", "b")])
    found = np.array([[1]])
    assert score(found, task, lambda rows, goals: np.full(len(rows), 0.5)).total == 0.0
    assert score(found, task, lambda rows, goals: np.full(len(rows), 0.51)).total == 1.0


@pytest.mark.parametrize("k", [0, 3])
def test_k_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(QueryError, match=rf"k must be in \[1, 2\]; got {k}"):
        nearest_others(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32), np.arange(3), k)


def test_an_empty_domain_is_refused(tmp_path: Path) -> None:
    one_image = [region(number, triplet, image=1) for number, triplet in enumerate(TRIPLETS * 2)]
    build_corpus(one_image, tmp_path / "corpus", Options(split="image"), oracle="none")
    corpus = Corpus(tmp_path / "corpus")
    assert len(read_task(corpus, "dev")) > 0
    with pytest.raises(QueryError, match=r"the corpus has no queries in the domain test; got .*corpus"):
        read_task(corpus, "test")
    with pytest.raises(QueryError, match=r"no such domain; got 'val'; use dev, test or all"):
        read_task(corpus, "val")
