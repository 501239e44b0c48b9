"""Measures of geometry: slow definitions, spaces whose shape is known, and the published figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from corpora import released
from hypothesis import given
from hypothesis import strategies as st

from eval import geometry, probes
from eval.geometry_words import after_heads, deltas_of, relation_table, word_measures, word_plane, word_table
from eval.words import RELATIONS, Edits, Words, read_edits, read_pairs, read_words_of
from simat.errors import QueryError, SimatError

Spaces = dict[str, Words]


def noise(seed: int, count: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, dim))


@given(st.integers(0, 1000), st.integers(2, 12))
def test_anisotropy_is_the_mean_cosine_of_all_pairs(seed: int, count: int) -> None:
    rows = noise(seed, count, 5) + 0.5
    cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for i, a in enumerate(rows) for b in rows[i + 1 :]]
    assert geometry.anisotropy(rows) == pytest.approx(np.mean(cosines))
    assert geometry.anisotropy(rows * 7) == pytest.approx(np.mean(cosines))


def test_anisotropy_of_one_direction_is_one_and_of_even_ones_zero() -> None:
    assert geometry.anisotropy(np.tile([[3.0, 4.0]], (5, 1))) == pytest.approx(1.0)
    assert geometry.anisotropy(np.eye(6)) == pytest.approx(0.0)
    assert geometry.mean_length(np.tile([[3.0, 4.0]], (5, 1))) == pytest.approx(1.0)
    assert geometry.mean_length(np.eye(4)) == pytest.approx(0.5)


def test_modality_gap_is_the_distance_of_the_means() -> None:
    images, texts = np.array([[2.0, 0, 0], [0, 3, 0]]), np.array([[0, 0, 5.0]])
    assert geometry.modality_gap(images, texts) == pytest.approx(np.sqrt(0.25 + 0.25 + 1))
    assert geometry.modality_gap(images, images[::-1]) == pytest.approx(0.0)


def test_mean_norm_takes_weights() -> None:
    deltas = np.array([[3.0, 4.0], [0.0, 1.0]])
    assert geometry.mean_norm(deltas) == pytest.approx(3.0)
    assert geometry.mean_norm(deltas, np.array([1.0, 3.0])) == pytest.approx(2.0)


def test_parallelogram_error_knows_its_three_cases() -> None:
    step = np.array([1.0, 2.0, 2.0])
    assert geometry.parallelogram_error(np.stack([step, step])) == pytest.approx(0.0)
    assert geometry.parallelogram_error(np.stack([step, -step])) == pytest.approx(1.0)
    assert geometry.parallelogram_error(np.eye(3)) == pytest.approx(np.sqrt(0.5))


@given(st.integers(0, 1000))
def test_parallelogram_error_is_its_definition(seed: int) -> None:
    deltas = noise(seed, 5, 4)
    slow = [
        np.linalg.norm(a - b) / (np.linalg.norm(a) + np.linalg.norm(b))
        for i, a in enumerate(deltas)
        for b in deltas[i + 1 :]
    ]
    assert geometry.parallelogram_error(deltas) == pytest.approx(float(np.mean(slow)))


def grid(step: float, seed: int = 0) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Four stems and the same four a step further along one axis of their own."""
    stems = np.concatenate([noise(seed, 4, 6), np.zeros((4, 1))], axis=1)
    stems /= np.linalg.norm(stems, axis=1, keepdims=True)
    moved = stems + step * np.eye(7)[6]
    return np.concatenate([stems, moved]), [(i, i + 4) for i in range(4)]


def test_analogies_of_a_grid_are_answered_with_or_without_the_inputs() -> None:
    rows, pairs = grid(1.0)
    assert geometry.analogies(rows, pairs, exclude=True) == (12, 12)
    assert geometry.analogies(rows, pairs, exclude=False) == (12, 12)


def test_leaving_the_inputs_out_hides_steps_that_are_too_short() -> None:
    rows, pairs = grid(1.0)
    short = np.concatenate([rows[:4], geometry.unit(rows[4:] - 0.9 * np.eye(7)[6])])
    backward = [(b, a) for a, b in pairs]
    spread = noise(3, 8, 7) * 0.02 + short
    excluded, asked = geometry.analogies(spread, pairs + backward, exclude=True)
    included, _ = geometry.analogies(spread, pairs + backward, exclude=False)
    assert asked == 56
    assert included < excluded


def test_nearest_and_neighbour_differ_by_the_word_itself() -> None:
    rows = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert geometry.nearest(rows, 0, np.array([0.1, 0.0])) == (0, pytest.approx(1.0))
    best, cosine = geometry.neighbour(rows, 0)
    assert (best, cosine) == (1, pytest.approx(0.9 / np.hypot(0.9, 0.1)))


@pytest.mark.parametrize("dim", [2, 4, 8])
def test_two_nn_finds_the_dimension_of_a_ball_in_a_wide_space(dim: int) -> None:
    points = np.random.default_rng(0).uniform(-1, 1, size=(3000, dim))
    inside = np.concatenate([points * 0.2, np.ones((len(points), 1))], axis=1)  # one more axis: rows are normalised
    turned = inside @ np.linalg.qr(noise(1, 40, 40))[0][: dim + 1]
    assert geometry.two_nn(turned) == pytest.approx(dim, rel=0.12)


def test_participation_ratio_counts_the_axes_that_share_the_variance() -> None:
    rows = noise(0, 4000, 10) * np.array([1.0] * 3 + [0.0] * 7) + 5
    assert geometry.participation_ratio(rows) == pytest.approx(3, rel=0.05)


def test_plane_is_fitted_to_the_first_rows_and_has_no_free_sign() -> None:
    rows = noise(2, 30, 6)
    flat = geometry.plane(rows)
    units = geometry.unit(rows)
    values = np.linalg.svd(units - units.mean(0), compute_uv=False)
    np.testing.assert_allclose(np.linalg.norm(flat, axis=0), values[:2])
    assert all(column[np.abs(column).argmax()] > 0 for column in flat.T)
    few = geometry.plane(rows, 10)
    np.testing.assert_allclose(few[:10], geometry.plane(rows[:10]), atol=1e-9)


@pytest.mark.parametrize(
    ("measure", "rows", "message"),
    [
        (geometry.anisotropy, np.ones((1, 3)), "anisotropy needs two vectors; got 1"),
        (geometry.parallelogram_error, np.ones((1, 3)), "a parallelogram needs two pairs; got 1"),
        (geometry.two_nn, np.eye(9), "needs ten different vectors; got 9"),
        (geometry.two_nn, np.ones((50, 3)), "needs ten different vectors; got 1"),
        (geometry.participation_ratio, np.ones((5, 3)), "all the same: they have no dimension"),
        (geometry.unit, np.array([[1.0, 0], [0, 0]]), "a vector has no direction; got row 1"),
        (geometry.unit, np.array([[np.nan, 0], [1, 0]]), "a vector has no direction; got row 0"),
    ],
)
def test_rows_without_the_measured_thing_are_refused(
    measure: Callable[[np.ndarray], object], rows: np.ndarray, message: str
) -> None:
    with pytest.raises(QueryError, match=message):
        measure(rows)


def test_pairs_are_all_of_few_rows_and_a_sample_of_many() -> None:
    rng = np.random.default_rng(0)
    assert len(geometry.distinct_pairs(5, 100, rng)) == 10
    drawn = geometry.distinct_pairs(50, 100, rng)
    assert drawn.shape == (100, 2)
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert drawn.max() < 50


def test_shared_direction_is_whole_for_equal_deltas_and_none_for_unrelated_ones() -> None:
    same = probes.shared_direction(np.tile([[1.0, 2.0]], (4, 1)))
    assert (same.cosine, same.explained) == (pytest.approx(1.0), pytest.approx(1.0))
    other = probes.shared_direction(np.eye(4))
    assert other.cosine == pytest.approx(0.0)
    assert other.explained < 0


def two_classes(seed: int, gap: float, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rows = noise(seed, 400, 12)
    rows[200:, axis] += gap
    return rows[:200], rows[200:]


def test_probe_finds_a_shared_direction_and_chance_where_there_is_none() -> None:
    half = np.arange(200) % 2 == 0
    assert probes.held_out(*two_classes(0, 8.0), (half, half)) > 0.99
    assert abs(probes.held_out(*two_classes(0, 0.0), (half, half)) - 0.5) < 0.1


def test_probe_carries_over_to_rows_that_lie_elsewhere() -> None:
    axis, threshold = probes.direction(*two_classes(0, 8.0))
    first, second = two_classes(1, 8.0)
    assert probes.transfer(axis, first + 100, second + 100) > 0.99
    assert probes.transfer(axis, first + 100, second + 100, threshold) == 0.5
    assert probes.transfer(axis, *two_classes(2, 8.0, axis=5)) < 0.65
    assert probes.transfer(axis, second, first) < 0.01


# The released words and head: the published figures, to four decimals.


@pytest.fixture(scope="module")
def release() -> Path:
    return released()


@pytest.fixture(scope="module")
def spaces(release: Path) -> Spaces:
    words = read_words_of(release)
    return {"vanilla": words, "t=0.1": after_heads(words, release / "data" / "head_clip_t=0.1.pt")}


@pytest.fixture(scope="module")
def edits(release: Path) -> Edits:
    found = read_edits(release)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "vanilla", "tuned"),
    [
        ("anisotropy: mean cosine of pairs", 0.7970, 0.1320),
        ("length of the mean", 0.8936, 0.3723),
        ("mean length of deltas, queries", 0.6064, 1.3080),
        ("mean length of deltas, weighted", 0.6104, 1.3030),
    ],
)
def test_released_words_have_the_published_measures(
    spaces: Spaces, edits: Edits, name: str, vanilla: float, tuned: float
) -> None:
    found = [word_measures(words, {}, edits)[name] for words in spaces.values()]
    assert found == [pytest.approx(vanilla, abs=5e-5), pytest.approx(tuned, abs=5e-5)]


@pytest.mark.parametrize(
    ("relation", "vanilla", "tuned"),
    [
        ("gender", 0.6479, 0.8261),
        ("age", 0.2982, 0.5691),
        ("animal", -0.1127, -0.1232),
        ("ground", 0.2126, 0.4230),
    ],
)
def test_released_deltas_are_as_parallel_as_published(
    spaces: Spaces, relation: str, vanilla: float, tuned: float
) -> None:
    found = [geometry.parallelism(deltas_of(words, RELATIONS[relation])) for words in spaces.values()]
    assert found == [pytest.approx(vanilla, abs=5e-5), pytest.approx(tuned, abs=5e-5)]


def test_released_delta_has_the_published_length(spaces: Spaces) -> None:
    found = [geometry.mean_norm(deltas_of(words, [("man", "woman")])) for words in spaces.values()]
    assert found == [pytest.approx(0.4526, abs=5e-5), pytest.approx(1.3695, abs=5e-5)]


def test_released_words_lead_where_they_are_published_to_lead(spaces: Spaces) -> None:
    table = relation_table(spaces, RELATIONS)
    shown = {row[0]: row[2:] for row in table.rows}
    assert shown["nearest to boy + woman − man"] == ("woman 0.9557", "girl 0.7893")
    assert shown["nearest to bus"] == ("train 0.9150", "bus stop 0.6760")
    assert shown["nearest to zebra"] == ("cow 0.8269", "giraffe 0.4020")


def test_released_pairs_number_8515(spaces: Spaces) -> None:
    assert len(geometry.distinct_pairs(len(spaces["vanilla"].names), 10**6, np.random.default_rng(0))) == 8515


def test_folder_of_heads_is_the_released_file(spaces: Spaces, release: Path, tmp_path: Path) -> None:
    from finetune.importing import import_heads

    import_heads(release / "data" / "head_clip_t=0.1.pt", tmp_path / "heads")
    again = after_heads(spaces["vanilla"], tmp_path / "heads")
    np.testing.assert_allclose(geometry.unit(again.vectors), geometry.unit(spaces["t=0.1"].vectors), atol=1e-6)


def test_tables_and_plane_have_every_space(spaces: Spaces, edits: Edits) -> None:
    relations = spaces["vanilla"].known(RELATIONS)
    table = word_table({name: word_measures(words, relations, edits) for name, words in spaces.items()})
    assert table.columns == ("Measure", "vanilla", "t=0.1")
    answered = {row[0]: row[1:] for row in table.rows}
    assert answered["analogies answered, nothing left out"] == (0.0, 0.375)
    assert word_plane("vanilla", spaces["vanilla"], relations).png()[:4] == b"\x89PNG"


def test_word_that_is_not_there_is_refused() -> None:
    words = Words(("man", "woman"), np.eye(2))
    with pytest.raises(QueryError, match="the words lack 'zebra'; got 2 words; see --pairs"):
        words.rows([("man", "zebra")])
    assert words.known({"a": [("man", "woman"), ("man", "boy")], "b": [("cow", "man")]}) == {"a": [("man", "woman")]}


def test_pairs_are_read_by_relation(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("relation,source,target\nsex,man, woman\nage,man,boy\nsex,boy,girl\n")
    assert read_pairs(tmp_path / "p.csv") == {"sex": [("man", "woman"), ("boy", "girl")], "age": [("man", "boy")]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"cannot read the pairs; got .*p\.csv"),
        ("", "the file holds no pairs of words"),
        ("a,b\nman,woman\n", "a CSV file with the header relation,source,target"),
        ("relation,source,target\n", "the file holds no pairs of words"),
        ("relation,source,target\nsex,man,woman\nsex,boy,\n", r"line 3 of p\.csv is no pair"),
    ],
)
def test_pairs_that_are_none_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "p.csv").write_text(text)
    with pytest.raises(QueryError, match=message):
        read_pairs(tmp_path / "p.csv")


def test_words_of_a_file_that_holds_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words.safetensors").write_bytes(b"nothing")
    with pytest.raises(SimatError, match=r"words\.safetensors does not hold words and vectors"):
        read_words_of(tmp_path / "words.safetensors")
    with pytest.raises(SimatError, match="is missing"):
        read_words_of(tmp_path / "gone.safetensors")
