"""The composers that make a vector: their equations written a second time, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from composing import (
    ANY_EDITS,
    CAPTIONED,
    CAPTIONS,
    CHANGES,
    EDITING,
    GOALS,
    IMAGES,
    MIXED,
    SCALES,
    WORDS,
    background,
    composed,
    encode,
    ranked,
    unit,
    word,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simat.composers import COMPOSERS, Fusion, Parts, compose, summary
from simat.composers.background import MAX_BANK, RUN, SAMPLE, Background, sample_ids
from simat.composers.sentences import Sentences, shipped
from simat.composers.words import rewrite
from simat.edits import Edit
from simat.errors import QueryError
from simat.types import Query

IMAGE = IMAGES[4].astype(np.float64)
VECTORS = [name for name in COMPOSERS if name not in ("product", "basic")]
FROM_IMAGE = ("delta", "sentence_delta", "weighted", "slerp", "product")  # λ = 0 is the image
LIGHT = settings(max_examples=25)


def caption_of(image: np.ndarray) -> str:
    return max(CAPTIONS, key=lambda caption: float(word(caption) @ image))


def words_delta(edits: list[Edit]) -> np.ndarray:
    total = np.zeros_like(IMAGE)
    for edit in edits:
        total += (word(edit.target) if edit.target else 0) - (word(edit.source) if edit.source else 0)
    return total


# laws


@LIGHT
@given(st.sampled_from(FROM_IMAGE), GOALS, st.integers(0, len(IMAGES) - 1))
def test_scale_0_gives_the_images_own_neighbours(composer: str, edits: list[Edit], image: int) -> None:
    assert ranked(composed(composer, edits, 0.0, image)) == ranked(IMAGES[image])


@LIGHT
@given(st.sampled_from(["image_text_image", "edited_caption"]), ANY_EDITS)
def test_scale_0_of_a_described_image_searches_for_its_caption(composer: str, edits: list[Edit]) -> None:
    np.testing.assert_allclose(composed(composer, edits, 0.0), word(caption_of(IMAGE)), atol=1e-6)


@LIGHT
@given(st.sampled_from([*EDITING, *MIXED]), st.lists(WORDS, min_size=1, max_size=3), SCALES)
def test_edits_from_a_word_to_itself_change_nothing(composer: str, words: list[str], scale: float) -> None:
    vector = composed(composer, [Edit(text, text) for text in words], scale)
    still = {"image_text_image": word(caption_of(IMAGE)), "edited_caption": word(caption_of(IMAGE))}
    still["pdv"] = unit(IMAGE + word(caption_of(IMAGE)))
    np.testing.assert_allclose(vector, still.get(composer, IMAGE), atol=1e-6)


@LIGHT
@given(st.sampled_from([*EDITING, *MIXED]), GOALS, SCALES, st.randoms(use_true_random=False))
def test_the_order_of_edits_makes_no_difference(composer: str, edits: list[Edit], scale: float, random: object) -> None:
    shuffled = [*edits]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, two = composed(composer, edits, scale), composed(composer, shuffled, scale)
    if isinstance(one, Fusion):
        np.testing.assert_allclose(one.score(IMAGES), two.score(IMAGES), atol=1e-5)
    else:
        np.testing.assert_allclose(one, two, atol=1e-6)


@LIGHT
@given(st.sampled_from(VECTORS), GOALS, SCALES)
def test_vectors_are_of_unit_length(composer: str, edits: list[Edit], scale: float) -> None:
    vector = composed(composer, edits, scale)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


# oracles


@LIGHT
@given(ANY_EDITS, SCALES)
def test_sentence_delta_is_the_mean_over_sentences(edits: list[Edit], scale: float) -> None:
    sentences = Sentences(shipped("templates.txt"))
    expected = IMAGE.copy()
    for edit in edits:
        sources, targets = sentences.of(edit)
        if edit.source == edit.target:
            continue
        if edit.source and edit.target:
            pairs = zip(sources, targets, strict=True)
            expected += scale * np.mean([word(b) - word(a) for a, b in pairs], axis=0)
        else:
            expected += scale * sum(sign * word(s) / len(g) for sign, g in ((1, targets), (-1, sources)) for s in g)
    np.testing.assert_allclose(composed("sentence_delta", edits, scale), unit(expected), atol=1e-5)


def test_sentence_delta_takes_the_users_texts() -> None:
    known = background(texts=("see the {}", "A dog barks.", "no words of the edit"))
    step = (word("see the cat") - word("see the dog") + word("A cat barks.") - word("A dog barks.")) / 2
    np.testing.assert_allclose(composed("sentence_delta", "dog -> cat", 1.5, known=known), unit(IMAGE + 1.5 * step),
                               atol=1e-6)  # fmt: skip


@LIGHT
@given(ANY_EDITS, SCALES)
def test_image_text_image_is_the_caption_and_the_words(edits: list[Edit], scale: float) -> None:
    expected = unit(word(caption_of(IMAGE)) + scale * words_delta(edits))
    np.testing.assert_allclose(composed("image_text_image", edits, scale), expected, atol=1e-5)


@LIGHT
@given(ANY_EDITS, SCALES, st.integers(0, len(IMAGES) - 1))
def test_edited_caption_and_pdv_go_from_caption_to_caption(edits: list[Edit], scale: float, image: int) -> None:
    start = IMAGES[image].astype(np.float64)
    caption = caption_of(start)
    edited, left = rewrite(caption, [edit for edit in edits if edit.source != edit.target])
    step = word(edited) - word(caption) + words_delta([*left])
    expected = unit(word(caption) + scale * step)
    assume(np.isfinite(expected).all())
    np.testing.assert_allclose(composed("edited_caption", edits, scale, image), expected, atol=1e-5)
    both = 0.5 * (start + scale * step) + 0.5 * (word(caption) + scale * step)
    np.testing.assert_allclose(composed("pdv", edits, scale, image), unit(both), atol=1e-5)


def test_edited_caption_of_scale_1_searches_for_the_edited_caption() -> None:
    known = background(captions=lambda: ["A dog."])
    np.testing.assert_allclose(composed("edited_caption", "dog -> owl", known=known), word("An owl."), atol=1e-6)


@LIGHT
@given(WORDS, SCALES)
def test_weighted_and_slerp_are_their_equations(text: str, scale: float) -> None:
    share, goal = scale / (1 + scale), word(text)
    np.testing.assert_allclose(composed("weighted", [Edit(None, text)], scale),
                               unit((1 - share) * IMAGE + share * goal), atol=1e-6)  # fmt: skip
    angle = math.acos(IMAGE @ goal)
    between = (math.sin((1 - share) * angle) * IMAGE + math.sin(share * angle) * goal) / math.sin(angle)
    np.testing.assert_allclose(composed("slerp", [Edit(None, text)], scale), between, atol=1e-6)


def test_slerp_of_scale_1_is_half_way() -> None:
    vector = composed("slerp", "+ snow").astype(np.float64)
    assert vector @ IMAGE == pytest.approx(vector @ word("snow"), abs=1e-6)


@pytest.mark.parametrize("turn", [0.0, 1e-9, 1e-5, 1e-3])
def test_slerp_between_nearly_the_same_vectors_stays_there(turn: float) -> None:
    other = unit(IMAGE + turn * word("snow")).astype(np.float32)
    parts = Parts(Query(edits="+ x", composer="slerp"), lambda: IMAGES[4], lambda texts: np.stack([other]))
    np.testing.assert_allclose(compose(parts), unit(IMAGE + other), atol=1e-6)


def test_slerp_between_opposite_vectors_is_refused() -> None:
    parts = Parts(Query(edits="+ x", composer="slerp"), lambda: IMAGES[4], lambda texts: -IMAGES[4:5])
    with pytest.raises(QueryError, match="the image and the words are opposite; use the composer 'weighted'"):
        compose(parts)


@given(st.sampled_from(["weighted", "slerp"]), st.lists(CHANGES, min_size=2, max_size=3))
def test_several_targets_are_the_mean_of_their_words(composer: str, edits: list[Edit]) -> None:
    targets = [word(edit.target) for edit in edits if edit.source != edit.target and edit.target]
    assume(targets)
    far = composed(composer, edits, 1e6)
    np.testing.assert_allclose(far, unit(np.mean(targets, axis=0)), atol=1e-4)


def test_text_beside_an_image_is_searched_for_with_it() -> None:
    query = Query(text=" snow ", composer="weighted", scale=3.0)
    vector = compose(Parts(query, lambda: IMAGES[4], encode))
    np.testing.assert_allclose(vector, unit(IMAGE + 3 * word("snow")), atol=1e-6)


# what a composer has no meaning for


@pytest.mark.parametrize("composer", MIXED)
def test_searching_for_words_removes_nothing(composer: str) -> None:
    with pytest.raises(
        QueryError, match=f"'{composer}' searches for words and can remove none; got '- dog'; use delta"
    ):
        composed(composer, "+ snow, - dog")


@pytest.mark.parametrize("composer", MIXED)
def test_negative_scales_have_no_meaning_between_image_and_words(composer: str) -> None:
    with pytest.raises(QueryError, match=rf"the composer '{composer}' needs a scale of at least 0; got -0\.5"):
        composed(composer, "dog -> cat", -0.5)


@pytest.mark.parametrize("composer", [*EDITING, *MIXED])
def test_queries_without_edits_are_refused(composer: str) -> None:
    with pytest.raises(QueryError, match=f"the composer '{composer}' needs edits; write for example"):
        composed(composer, ())


@pytest.mark.parametrize("composer", CAPTIONED)
def test_describing_needs_captions(composer: str) -> None:
    with pytest.raises(QueryError, match="there are no captions to describe the image with; give some with --texts"):
        composed(composer, "dog -> cat", known=background(captions=None))


@pytest.mark.parametrize("composer", ["product", "basic"])
def test_fusion_needs_an_index(composer: str) -> None:
    with pytest.raises(QueryError, match="this composer needs an index; ask an engine"):
        composed(composer, "dog -> cat", known=background(sample=None))


# what composers know


def test_the_users_captions_go_before_those_of_the_index() -> None:
    assert background(texts=("a {}", "A horse.", "A horse.", "A cow.")).bank.texts == ("A horse.", "A cow.")
    assert background(texts=("a {}",)).bank.texts == CAPTIONS


def test_a_bank_of_very_many_captions_is_sampled() -> None:
    asked: list[int] = []

    def count(texts: list[str]) -> np.ndarray:
        asked.append(len(texts))
        return np.ones((len(texts), 1), np.float32)

    bank = Background(count, captions=lambda: [str(i) for i in range(MAX_BANK + 5)]).bank
    assert asked == [MAX_BANK] and len(set(bank.texts)) == MAX_BANK
    assert bank.texts == tuple(sorted(bank.texts, key=int))


def test_a_large_bank_is_encoded_once_for_all_processes(own_cache: object) -> None:
    texts, calls = [f"caption {i}" for i in range(1500)], []

    def counted(asked: list[str]) -> np.ndarray:
        calls.append(len(asked))
        return encode(asked)

    first, second, other = (Background(counted, captions=lambda: texts, key=key).bank for key in ("a", "a", "b"))
    np.testing.assert_array_equal(first.vectors, second.vectors)
    assert calls == [1500, 1500]
    np.testing.assert_array_equal(other.vectors, encode(texts))


@given(st.integers(1, 30_000))
def test_samples_are_seeded_different_and_in_range(count: int) -> None:
    ids = sample_ids(count)
    assert len(ids) == min(count, SAMPLE)
    assert len(np.unique(ids)) == len(ids)
    assert ids.min() >= 0 and ids.max() < count
    np.testing.assert_array_equal(ids, sample_ids(count))
    if count > SAMPLE:
        assert (np.diff(ids.reshape(-1, RUN), axis=1) == 1).all()


@pytest.mark.parametrize("name", [*COMPOSERS])
def test_every_composer_says_its_equation_and_its_source(name: str) -> None:
    assert summary(name).startswith(("x = ", "s(x) = "))
    assert any(source in (COMPOSERS[name].__doc__ or "") for source in ("thesis", "arXiv", "every edit starts"))
