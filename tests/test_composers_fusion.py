"""Late fusion: product and BASIC against plain loops, and the threshold algorithm against a look at every image."""

from __future__ import annotations

import dataclasses
from functools import cache, partial

import numpy as np
import pytest
from building import vector_set
from composing import IMAGES, KNOWN, SCALES, background, composed, word
from helpers import unit_noise
from hypothesis import given, settings
from hypothesis import strategies as st

from simat.backends import ranking
from simat.backends.ranking import best
from simat.composers.background import contrastive_projection
from simat.composers.fused import bound_of_harris, bound_of_product, harris, multiply
from simat.composers.parts import Fusion, Half
from simat.composers.sentences import OBJECTS, STYLES, shipped
from simat.embeddings import EmbeddingSet
from simat.errors import QueryError
from simat.searcher import Searcher

LIGHT = settings(max_examples=25)
ROWS = IMAGES.astype(np.float64)
LISTS = [np.stack([word(text) for text in shipped(name)]) for name in (OBJECTS, STYLES)]
TEXTS = st.sampled_from(["red", "cat", "snow"])
NUMBERS = st.floats(-0.5, 4, allow_subnormal=False)


def slow_product(image: np.ndarray, text: str, scale: float) -> list[float]:
    """The docstring of ``product``, image by image."""
    goal, scores = word(text), []
    low_v, low_t = min(float(image @ x) for x in ROWS), min(float(goal @ x) for x in ROWS)
    for x in ROWS:
        v, t = (image @ x - low_v) / (1 - low_v), (goal @ x - low_t) / (1 - low_t)
        scores.append(float(v * max(t, 0.0) ** scale))
    return scores


@cache
def slow_projection() -> np.ndarray:
    """Contrastive PCA, text by text."""
    mean = LISTS[0].mean(0)
    contrast = np.zeros((len(mean), len(mean)))
    for share, texts in ((0.8, LISTS[0]), (-0.2, LISTS[1])):
        for x in texts:
            contrast += share * np.outer(x - mean, x - mean) / (len(texts) - 1)
    values, vectors = np.linalg.eigh(contrast)
    kept = [i for i in range(len(values)) if values[i] > 1e-6 * values[-1]]
    return sum(np.outer(vectors[:, i], vectors[:, i]) for i in kept)


@cache
def slow_least() -> tuple[float, float]:
    """The least products of centred images, and of centred objects and images, pair by pair."""
    mu_t, mu_v = LISTS[0].mean(0), ROWS.mean(0)
    of_images = min(float((x - mu_v) @ (y - mu_v)) for x in ROWS for y in ROWS)
    return of_images, min(float((text - mu_t) @ (x - mu_v)) for text in LISTS[0] for x in ROWS)


def slow_basic(image: np.ndarray, text: str, scale: float) -> list[float]:
    """The docstring of ``basic``, image by image and number by number."""
    projection, mu_t, mu_v = slow_projection(), LISTS[0].mean(0), ROWS.mean(0)
    raw_v = [float(projection @ (image - mu_v) @ (x - mu_v)) for x in ROWS]
    raw_t = [float((word(text) - mu_t) @ (x - mu_v)) for x in ROWS]
    least_v, least_t = slow_least()
    v = [max((s - least_v) / abs(least_v), 0) for s in raw_v]
    t = [max((s - least_t) / abs(least_t), 0) ** scale for s in raw_t]
    return [a * b - 0.1 * min(1, scale) * (a + b) ** 2 for a, b in zip(v, t, strict=True)]


@LIGHT
@given(TEXTS, SCALES, st.integers(0, len(IMAGES) - 1))
def test_product_is_the_slow_loop(text: str, scale: float, image: int) -> None:
    fusion = composed("product", f"dog -> {text}", scale, image)
    np.testing.assert_allclose(fusion.score(IMAGES), slow_product(ROWS[image], text, scale), atol=1e-4)


@LIGHT
@given(TEXTS, SCALES, st.integers(0, len(IMAGES) - 1))
def test_basic_is_the_slow_loop(text: str, scale: float, image: int) -> None:
    fusion = composed("basic", f"dog -> {text}", scale, image)
    expected = np.array(slow_basic(ROWS[image], text, scale))
    np.testing.assert_allclose(fusion.score(IMAGES), expected, atol=2e-3 * max(1.0, np.abs(expected).max()))


def test_basic_of_scale_0_ranks_by_the_images_alone() -> None:
    one, two = (composed("basic", f"+ {text}", 0.0).score(IMAGES) for text in ("red", "snow"))
    np.testing.assert_allclose(one, two, atol=1e-6)
    assert one.argmax() == 4


def test_projection_keeps_what_pictures_are_of_and_drops_how_they_look() -> None:
    rng = np.random.default_rng(0)
    things, looks = np.zeros((200, 8), np.float32), np.zeros((200, 8), np.float32)
    things[:, :3], looks[:, 3:6] = rng.normal(size=(200, 3)), rng.normal(size=(200, 3))
    things[:, 3] = 0.1 * rng.normal(size=200)  # a little of a look in the things
    projection = contrastive_projection(things, looks)
    assert projection.basis.shape == (8, 3)
    np.testing.assert_allclose(projection.basis.T @ projection.basis, np.eye(3), atol=1e-5)
    kept = projection.keep(np.eye(8, dtype=np.float32))
    np.testing.assert_allclose(np.diag(kept), [1, 1, 1, 0, 0, 0, 0, 0], atol=0.01)


def test_projection_has_no_more_components_than_asked_for() -> None:
    texts = unit_noise(0, 50, 20)
    three, all = (contrastive_projection(texts, texts[:10], components=n).basis for n in (3, 250))
    np.testing.assert_allclose(np.abs(np.diag(three.T @ all[:, :3])), 1, atol=1e-4)
    assert three.shape == (20, 3)


@given(NUMBERS, NUMBERS, st.floats(0, 1), st.floats(0, 1), st.sampled_from([0.0, 0.03, 0.1]))
def test_bounds_hold_for_everything_below(v: float, t: float, share_v: float, share_t: float, kappa: float) -> None:
    t = max(t, 0.0)
    below_v, below_t = v - (1 - share_v) * (abs(v) + 0.5), np.float64(t * share_t)
    for score, bound in ((multiply, bound_of_product),
                         (partial(harris, kappa=kappa), partial(bound_of_harris, kappa=kappa))):  # fmt: skip
        assert float(score(np.asarray([below_v]), np.asarray([below_t]))[0]) <= bound(v, t) + 1e-9


@given(st.floats(0.01, 4), st.floats(0.01, 4))
def test_bound_of_harris_is_reached(v: float, t: float) -> None:
    grid = harris(np.linspace(0, v, 300)[:, None], np.linspace(0, t, 300)[None], 0.1)
    assert grid.max() == pytest.approx(bound_of_harris(v, t, 0.1), rel=0.02, abs=1e-6)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Searcher, EmbeddingSet]:
    """3,000 vectors in clusters, in parts and shards of different sizes."""
    import faiss

    centres = unit_noise(1, 12, 16)
    rng = np.random.default_rng(2)
    rows = centres[rng.integers(12, size=3000)] + 0.3 * rng.normal(size=(3000, 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)
    embeddings = vector_set(tmp_path_factory.mktemp("shelf") / "set", rows, part_size=700)
    shards = []
    for block in (rows[:1000], rows[1000:]):
        shards.append(faiss.IndexFlatIP(16))
        shards[-1].add(block)
    return Searcher(shards, threads=2), embeddings


@st.composite
def fusions(draw: st.DrawFn) -> Fusion:
    one, two = unit_noise(draw(st.integers(0, 10**6)), 2, 16)
    if draw(st.booleans()):
        two = -one  # the two lists have nothing in common
    halves = [Half(vector, draw(st.floats(-1, 0.2)), draw(st.floats(0.5, 1.5))) for vector in (one, two)]
    power = draw(st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    if draw(st.booleans()):
        return Fusion(*halves, power, multiply, bound_of_product)
    return Fusion(*halves, power, partial(harris, kappa=0.1), partial(bound_of_harris, kappa=0.1))


@settings(max_examples=40)
@given(fusion=fusions(), k=st.integers(1, 40))
def test_the_threshold_algorithm_finds_what_a_look_at_every_image_finds(
    shelf: tuple[Searcher, EmbeddingSet], fusion: Fusion, k: int
) -> None:
    searcher, embeddings = shelf
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "CANDIDATES", 20)
        patch.setattr(ranking, "LONGER", 2)
        everything = best(searcher, embeddings, fusion, k)
        patch.setattr(ranking, "SCANNED", 0)
        found = best(searcher, embeddings, fusion, k)
    scores = fusion.score(np.concatenate([*embeddings.blocks(0, 3000)]).astype(np.float32))
    np.testing.assert_allclose(everything.scores[0], np.sort(scores)[::-1][:k], atol=1e-6)
    np.testing.assert_allclose(found.scores[0], everything.scores[0], atol=1e-6)
    np.testing.assert_allclose(scores[found.ids[0]], found.scores[0], atol=1e-6)
    assert len(set(found.ids[0])) == k


def test_the_threshold_algorithm_looks_at_few_images_where_few_suffice(
    shelf: tuple[Searcher, EmbeddingSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher, embeddings = shelf
    looked: list[int] = []
    vectors = searcher.vectors
    monkeypatch.setattr(searcher, "vectors", lambda ids: looked.append(len(ids)) or vectors(ids))
    monkeypatch.setattr(ranking, "SCANNED", 0)
    monkeypatch.setattr(ranking, "CANDIDATES", 100)
    goal = embeddings.vectors(np.array([7]))[0]
    best(searcher, embeddings, Fusion(Half(goal, 0.0, 1.0), Half(goal, 0.0, 1.0), 1.0, multiply, bound_of_product), 5)
    assert looked == [100]


def test_an_exact_index_gives_its_vectors_by_id(shelf: tuple[Searcher, EmbeddingSet]) -> None:
    searcher, embeddings = shelf
    stored = np.concatenate([*embeddings.blocks(0, 3000)]).astype(np.float32)
    np.testing.assert_array_equal(np.concatenate([*searcher.blocks()]), stored)
    for ids in ([], [0, 999, 1000, 2999], [5]):
        np.testing.assert_array_equal(searcher.vectors(np.array(ids, np.int64)), stored[ids])
    shuffled = np.random.default_rng(0).permutation(3000)[:500]
    np.testing.assert_array_equal(embeddings.vectors(shuffled), stored[shuffled])


def test_an_approximate_index_gives_exact_scores_of_what_it_finds(shelf: tuple[Searcher, EmbeddingSet]) -> None:
    import faiss

    _, embeddings = shelf
    rows = embeddings.vectors(np.arange(3000))
    index = faiss.index_factory(16, "IVF20,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(rows)
    index.add(rows)
    searcher = Searcher([index], {"nprobe": 2}, threads=1)
    assert not searcher.exact
    fusion = Fusion(Half(rows[3], -1.0, 2.0), Half(rows[9], -1.0, 2.0), 1.0, multiply, bound_of_product)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "SCANNED", 0)
        patch.setattr(ranking, "CANDIDATES", 50)
        found = best(searcher, embeddings, fusion, 10)
    np.testing.assert_allclose(found.scores[0], fusion.score(rows[found.ids[0]]), atol=1e-6)
    assert (np.diff(found.scores[0]) <= 0).all()


def test_an_average_query_has_no_direction() -> None:
    known = background(sample=lambda: IMAGES[4:5])
    with pytest.raises(QueryError, match="the query is the average of the index: it has no direction"):
        composed("basic", "dog -> cat", known=known)


def test_images_that_are_all_alike_divide_by_nothing() -> None:
    alike = np.repeat(IMAGES[4:5], 5, axis=0)
    fusion = composed("product", "dog -> red", known=background(sample=lambda: alike))
    assert np.isfinite(fusion.score(alike)).all()


@pytest.mark.parametrize("composer", ["product", "basic"])
def test_scales_whose_scores_are_no_numbers_are_refused(composer: str) -> None:
    fusion = composed(composer, "dog -> red", 1e12, known=background(sample=lambda: IMAGES[:3]))
    loud = dataclasses.replace(fusion, text=dataclasses.replace(fusion.text, span=1e-3))
    with pytest.raises(QueryError, match=r"the scale is too great for this composer; got 1000.*; take a smaller one"):
        loud.score(IMAGES)


def test_statistics_are_computed_once() -> None:
    calls: list[str] = []
    known = background(sample=lambda: calls.append("sample") or IMAGES)
    for _ in range(3):
        composed("basic", "dog -> cat", known=known)
        composed("product", "dog -> cat", known=known)
    assert calls == ["sample"]
    np.testing.assert_allclose(KNOWN.mean, ROWS.mean(0), atol=1e-6)
