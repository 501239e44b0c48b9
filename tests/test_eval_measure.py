"""The score over λ and its interval: perfect and empty vectors, ties, the choice on dev."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from triplet_world import TRIPLETS, WORDS, TripletEncoder, triplet_corpus

from data.corpus import Corpus
from eval.bench import Bench, open_bench
from eval.intervals import difference, estimate, estimates
from eval.measure import margin, measure, outcome_chart, outcome_table
from eval.methods import METHODS, Setting, few_captions, find_methods, foreign_captions, set_up
from eval.scales import Curve, check_scales, scale_curve
from eval.simat_score import Score, Steps, Task, chance, nearest_along, nearest_others, read_task, score
from eval.spaces import Space, Towers
from simat.errors import QueryError
from simat.vectors import unit_rows


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return triplet_corpus(tmp_path_factory.mktemp("triplets"), copies=5)


@pytest.fixture(scope="module")
def bench(corpus: Corpus) -> Bench:
    return open_bench(corpus)


def setting_of(bench: Bench, encoder: TripletEncoder) -> Setting:
    return set_up(bench, Space("triplets", Towers(encoder, encoder)))


@pytest.fixture
def perfect(bench: Bench, own_cache: Path) -> Setting:
    return setting_of(bench, TripletEncoder())


@pytest.fixture
def constant(bench: Bench, own_cache: Path) -> Setting:
    return setting_of(bench, TripletEncoder(constant=True, fingerprint="8" * 64))


def random_task(rng: np.random.Generator, images: int, queries: int) -> Task:
    weights = rng.uniform(0.1, 1, queries)
    sources = rng.integers(images, size=queries)
    edits = [("a", "b")] * queries
    return Task(sources, rng.integers(4, size=queries), weights / weights.sum(), rng.integers(3, size=queries), edits)


@pytest.mark.parametrize("method", ["delta", "own_sentences", "image_text_image", "target_caption"])
def test_one_hot_triplets_score_100(perfect: Setting, method: str) -> None:
    outcome = measure(perfect, METHODS[method], perfect.bench.test)
    assert outcome.score(1.0).total == pytest.approx(1.0)
    assert outcome.score(1.0).success.all()
    assert outcome.estimate(perfect, 1.0).low == pytest.approx(1.0)


def test_vectors_that_say_nothing_score_what_chance_predicts(constant: Setting) -> None:
    task = read_task(constant.bench.corpus, "all")
    judge, regions = constant.bench.oracle.judge, len(constant.images)
    for k in (1, 5):
        found = METHODS["delta"].find(constant, task, [1.0], k)[0]
        got, expected = score(found, task, judge), chance(task, judge, regions, k)
        spread = np.sqrt(expected * (1 - expected) * (task.weights**2).sum())
        assert abs(got.total - expected) < 4 * spread
        assert 0 < expected < 1


def test_chance_is_the_share_of_the_images_that_show_the_target() -> None:
    shown = np.array([0, 1, 1, 2, 2, 2])
    task = Task(np.array([0, 1]), np.array([1, 2]), np.array([0.25, 0.75]), np.array([0, 0]), [("a", "b")] * 2)

    def judge(rows: np.ndarray, goals: np.ndarray) -> np.ndarray:
        return (shown[rows] == goals).astype(np.float64)

    assert chance(task, judge, 6) == pytest.approx(0.25 * 2 / 5 + 0.75 * 3 / 5)
    missed = [0.25 * (3 / 5) * (2 / 4), 0.75 * (2 / 5) * (1 / 4)]
    assert chance(task, judge, 6, 2) == pytest.approx(1 - sum(missed))


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5))
def test_images_along_a_step_are_those_nearest_to_the_sum(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    images = unit_rows(rng.normal(size=(12, 6)).astype(np.float32))
    steps = Steps(rng.normal(size=(4, 6)).astype(np.float32), rng.integers(4, size=25))
    sources, scales = rng.integers(12, size=25), (0.0, 1.0, 2.5)
    found = nearest_along(images, steps, sources, scales, k)
    for scale, one in zip(scales, found, strict=True):
        queries = images[sources] + np.float32(scale) * steps.vectors[steps.which]
        assert (one == nearest_others(images, queries, sources, k)).all()
        assert not (one == sources[:, None]).any()
        assert all(len(set(row)) == k for row in one.tolist())


def test_images_that_cannot_be_told_apart_are_drawn_evenly() -> None:
    images = np.repeat(unit_rows(np.array([[1, 0], [0, 1]], np.float32)), [5, 3], axis=0)
    queries, sources = np.tile(np.array([[0, 1]], np.float32), (3000, 1)), np.zeros(3000, np.int64)
    found = nearest_others(images, queries, sources, 1, np.random.default_rng(1))[:, 0]
    shares = np.bincount(found, minlength=8) / 3000
    assert not shares[:5].any()
    np.testing.assert_allclose(shares[5:], 1 / 3, atol=0.04)
    assert (found == nearest_others(images, queries, sources, 1, np.random.default_rng(1))[:, 0]).all()


def test_scale_is_chosen_on_dev_and_of_equals_the_one_nearest_to_one() -> None:
    def curve(*values: float) -> Curve:
        return Curve((0.5, 1.0, 1.5, 3.0), tuple(Score(v, {}, np.zeros(1, bool)) for v in values))

    assert curve(0.1, 0.2, 0.5, 0.4).best == 1.5
    assert curve(0.1, 0.5, 0.5, 0.5).best == 1.0
    assert curve(0.5, 0.1, 0.1, 0.5).best == 0.5
    assert curve(0.1, 0.2, 0.5, 0.4).at(3.0).total == 0.4


def test_curve_has_the_scores_of_its_scales(perfect: Setting) -> None:
    task, judge = perfect.bench.dev, perfect.bench.oracle.judge
    steps = perfect.word_steps(task)
    curve = scale_curve(perfect.images, steps, task, judge, (2.0, 0.0, 1.0))
    assert curve.scales == (0.0, 1.0, 2.0)
    assert curve.values[0] == 0.0  # the copies of the query image itself
    assert curve.values[1:] == pytest.approx([1.0, 1.0])
    assert curve.best == 1.0


@pytest.mark.parametrize("scales", [(), (1.0, float("nan")), (float("inf"),)])
def test_scales_that_are_no_numbers_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(QueryError, match="the scales must be finite numbers; got"):
        check_scales(scales)


def test_interval_holds_the_score_and_shrinks_with_images() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for images in (30, 3000):
        task = random_task(rng, images, 3 * images)
        success = rng.random(len(task)) < 0.3
        found = estimate(success, task, np.random.default_rng(1))
        assert found.low < found.value < found.high
        assert found.value == pytest.approx(float((task.weights * success).sum()))
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 5


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng, truth, covered = np.random.default_rng(2), 0.4, 0
    for _ in range(200):
        of_image = rng.random(80) < truth  # queries of one image succeed together
        task = random_task(rng, 80, 400)
        found = estimate(of_image[task.sources], task, rng, draws=200)
        covered += found.low <= truth <= found.high
    assert 0.88 < covered / 200 <= 1.0


def test_interval_of_a_difference_is_paired() -> None:
    rng = np.random.default_rng(3)
    task = random_task(rng, 300, 900)
    first = rng.random(900) < 0.5
    same = difference(first, first, task, np.random.default_rng(0))
    assert (same.value, same.low, same.high) == (0, 0, 0)
    better = first | (rng.random(900) < 0.2)
    found = difference(better, first, task, np.random.default_rng(0))
    assert 0 < found.low < found.value < found.high < 0.2


def test_same_seed_gives_the_same_interval(perfect: Setting) -> None:
    task = perfect.bench.test
    success = np.arange(len(task)) % 3 == 0
    assert estimate(success, task, perfect.bench.rng()) == estimate(success, task, perfect.bench.rng())


def test_queries_of_one_image_are_drawn_together(bench: Bench) -> None:
    task = bench.test
    ids = bench.corpus.table("regions")["image_id"].to_numpy()
    assert task.images is not None
    assert (task.images == ids[task.sources]).all()


def test_table_reports_the_chosen_scale_apart_and_chance(perfect: Setting) -> None:
    outcomes = [measure(perfect, method, perfect.bench.test) for method in find_methods(["delta", "target_caption"])]
    table = outcome_table(perfect, outcomes, (1, 5), "test")
    assert table.column("λ is") == ["fixed", "chosen on dev", None, None]
    assert table.column("λ") == [1.0, 1.0, None, None]
    assert table.shown(table.rows[0][3]) == "100.0 [100.0, 100.0]"
    expected = 100 * chance(perfect.bench.test, perfect.bench.oracle.judge, len(perfect.images))
    assert table.rows[-1][3] == pytest.approx(expected)
    assert margin(perfect, outcomes[1], outcomes[0]).value == 0.0
    assert outcome_chart(perfect, outcomes).png().startswith(b"\x89PNG")


def test_one_target_word_keeps_its_queries_alone(bench: Bench) -> None:
    task = bench.test.only("dog")
    assert {edit[1] for edit in task.edits} == {"dog"}
    assert task.weights.sum() == pytest.approx(1.0)
    assert 0 < len(task) < len(bench.test)
    with pytest.raises(QueryError, match=r"no query of the corpus has this target word; got 'zebra'; it has: .*cat"):
        bench.test.only("zebra")


def test_unknown_composer_is_refused_with_those_there_are() -> None:
    with pytest.raises(QueryError, match=r"no such composer; got magic; there are: .*delta"):
        find_methods(["delta", "magic"])


def test_every_word_and_caption_is_encoded_once(perfect: Setting) -> None:
    encoder = perfect.space.towers.text
    assert isinstance(encoder, TripletEncoder)
    asked: list[str] = []
    original = encoder.encode_texts
    encoder.encode_texts = lambda texts: asked.extend(texts) or original(texts)  # type: ignore[method-assign]
    for _ in range(2):
        perfect.word_steps(perfect.bench.test)
        perfect.sentence_steps(perfect.bench.test)
    assert len(asked) == len(set(asked)) <= len(WORDS) + len(TRIPLETS)


def test_few_captions_speak_for_every_word() -> None:
    captions = [f"a {word} number {n}" for n in range(10) for word in ("cat", "dog")] + ["a cat and a dog", "a catfish"]
    found = few_captions(captions, ["cat", "dog", "emu"], per_word=3)
    assert len(found) == len(set(found)) <= 6
    assert all(sum(word in text.split() for text in found) >= 2 for word in ("cat", "dog"))
    assert few_captions(captions, ["fish"]) == []


def test_perfect_encoder_shows_what_it_reads() -> None:
    from triplet_world import picture

    encoder = TripletEncoder()
    rows = encoder.encode_images([picture(triplet) for triplet in TRIPLETS])
    texts = encoder.encode_texts([f"A {s} {r} a {o}." for s, r, o in TRIPLETS])
    np.testing.assert_array_equal(rows, texts)


def test_curve_of_intervals_is_each_interval_alone() -> None:
    rng = np.random.default_rng(3)
    task = random_task(rng, 30, 200)
    successes = [rng.random(200) < share for share in (0.1, 0.5, 0.9)]
    together = estimates(successes, task, np.random.default_rng(0))
    for one, success in zip(together, successes, strict=True):
        alone = estimate(success, task, np.random.default_rng(0))
        assert vars(one) == pytest.approx(vars(alone))
        assert one.low < one.value < one.high


def test_foreign_captions_are_none_of_our_own_whatever_case_and_stops() -> None:
    own = ["A cat biting a bus.", "A dog."]
    found = foreign_captions(["a cat biting a bus", "A DOG!", "a cat biting a bus at night", "dog", "dog"], own)
    assert found == ["a cat biting a bus at night", "dog"]
    with pytest.raises(QueryError, match="every caption of the other corpus is one of the evaluation's own; give an"):
        foreign_captions(["a dog"], own)


def test_other_captions_describe_images_and_leave_the_own_ones_alone(bench: Bench, own_cache: Path) -> None:
    encoder = TripletEncoder()
    space = Space("triplets", Towers(encoder, encoder))
    bank = [f"{s} {r} {o} at night" for s, r, o in TRIPLETS]
    plain, both = set_up(bench, space), set_up(bench, space, bank=bank)
    misleading = set_up(bench, space, bank=["cat licking van, drawn"])
    for name in ("image_text_image", "edited_caption", "pdv"):
        own = [measure(setting, METHODS[name], bench.test, [1.0]).score(1.0) for setting in (plain, both, misleading)]
        assert own[0].total == own[1].total == own[2].total == pytest.approx(1.0)
        other = f"{name}:other"
        assert measure(both, METHODS[other], bench.test, [1.0]).score(1.0).total == pytest.approx(1.0)
        assert measure(misleading, METHODS[other], bench.test, [1.0]).score(1.0).total < 0.7
        with pytest.raises(QueryError, match="there are no captions of another corpus; give a corpus with --bank"):
            METHODS[other].find(plain, bench.test, [1.0], 1)
