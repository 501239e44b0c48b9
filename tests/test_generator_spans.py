"""From the words of a segment to tokens, by offsets."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_diffusion import WORDS, tokenizer

from simat.errors import QueryError
from simat.generators.spans import segment_tokens, word_spans

PROMPT = "a black dog riding a red bicycle near the dog house"


@pytest.fixture(scope="module")
def words() -> Any:
    return tokenizer()


@pytest.fixture(scope="module")
def pieces() -> Any:
    """Cuts words it does not know into letters, as byte-pair encodings cut rare ones."""
    return tokenizer(whole=False, context=40)


def test_word_spans_are_whole_words_wherever_they_stand() -> None:
    assert [PROMPT[a:b] for a, b in word_spans(PROMPT, "dog")] == ["dog", "dog"]
    assert word_spans("a dogged dog", "dog") == ((9, 12),)
    assert word_spans("Red  Bicycle", "red bicycle") == ((0, 12),)
    assert word_spans("it's a d.g", "d.g") == ((7, 10),)


@pytest.mark.parametrize("absent", ["cat", "do", "red dog", "d.g"])
def test_word_spans_refuse_words_that_are_not_there(absent: str) -> None:
    with pytest.raises(QueryError, match=r"not in the text; got .*add them"):
        word_spans(PROMPT, absent)


@pytest.mark.parametrize("nothing", ["", "  "])
def test_word_spans_refuse_no_words(nothing: str) -> None:
    with pytest.raises(QueryError, match="a segment needs words"):
        word_spans(PROMPT, nothing)


def test_tokens_are_positions_in_the_sequence_that_the_model_reads(words: Any) -> None:
    found = segment_tokens([words], PROMPT, ["dog", "red bicycle"])
    ids = words(PROMPT)["input_ids"]
    assert [[words.decode([ids[i]]) for i in tokens] for tokens in found] == [["dog", "dog"], ["red", "bicycle"]]
    assert found == ((3, 10), (6, 7))


@given(st.lists(st.sampled_from(sorted(set(WORDS))), min_size=1, max_size=12, unique=True), st.data())
def test_tokens_of_a_word_stand_where_the_word_stands(prompt: list[str], data: Any) -> None:
    place = data.draw(st.integers(0, len(prompt) - 1))
    assert segment_tokens([tokenizer()], " ".join(prompt), [prompt[place]]) == ((place + 1,),)


def test_all_pieces_of_a_cut_word_belong_to_it(pieces: Any) -> None:
    prompt = "a wombat on a beach"
    (tokens,) = segment_tokens([pieces], prompt, ["wombat"])
    assert tokens == (2, 3, 4, 5, 6, 7)
    assert segment_tokens([pieces], prompt, ["beach"]) == ((10,),)


def test_a_word_inside_another_word_takes_none_of_its_pieces(pieces: Any) -> None:
    with pytest.raises(QueryError, match="not in the text"):
        segment_tokens([pieces], "a wombat", ["bat"])


def test_start_end_and_padding_belong_to_no_segment(words: Any) -> None:
    (tokens,) = segment_tokens([words], "dog", ["dog"])
    assert tokens == (1,)


@pytest.mark.parametrize("segment", ["house", "near the dog house"])
def test_words_that_are_cut_off_are_refused(segment: str) -> None:
    with pytest.raises(QueryError, match=r"after the 12 tokens that the model reads; got .*shorten the text"):
        segment_tokens([tokenizer(context=12)], PROMPT, [segment])


def test_the_last_word_that_fits_is_kept() -> None:
    assert segment_tokens([tokenizer(context=13)], PROMPT, ["house"]) == ((11,),)


def test_a_word_of_which_a_part_is_cut_off_is_refused(pieces: Any) -> None:
    with pytest.raises(QueryError, match="after the 6 tokens"):
        segment_tokens([tokenizer(whole=False, context=6)], "a wombat", ["wombat"])


def test_words_that_the_model_does_not_know_are_refused(words: Any) -> None:
    with pytest.raises(QueryError, match="does not know the words of a segment; got 'wombat'"):
        segment_tokens([words], "a wombat on a beach", ["wombat"])


def test_segments_that_share_words_are_refused(words: Any) -> None:
    with pytest.raises(QueryError, match="name the same words of the text; got 'red bicycle' and 'bicycle'"):
        segment_tokens([words], PROMPT, ["red bicycle", "bicycle"])


def test_two_tokenizers_must_cut_the_words_alike(words: Any, pieces: Any) -> None:
    assert segment_tokens([words, words], PROMPT, ["bicycle"]) == ((7,),)
    with pytest.raises(QueryError, match="cut these words differently; got 'beach'"):
        segment_tokens([words, tokenizer(whole=False, context=16)], "a wombat on a beach", ["beach"])


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(QueryError, match="tells no offsets; got Slow"):
        segment_tokens([Slow()], PROMPT, ["dog"])


def test_byte_pair_tokenizer_of_clip_tells_offsets() -> None:
    """The tokenizer class of Stable Diffusion, with a vocabulary of our own."""
    from transformers import CLIPTokenizerFast

    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = ["<|startoftext|>", *letters, *(f"{c}</w>" for c in letters), "do", "dog</w>", "<|endoftext|>"]
    numbers = {token: number for number, token in enumerate(vocabulary)}
    clip = CLIPTokenizerFast(vocab=numbers, merges=[("d", "o"), ("do", "g</w>")], model_max_length=16)
    assert segment_tokens([clip], "a Dog on a cat", ["dog", "cat"]) == ((2,), (6, 7, 8))
    with pytest.raises(QueryError, match="after the 16 tokens"):
        segment_tokens([clip], "a Dog on a cat " * 3 + "house", ["house"])
