"""Edits in sentences: slots, articles, captions rewritten, and the texts that a user gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simat.composers.sentences import (
    MAX_CAPTIONS,
    OBJECTS,
    STYLES,
    TEMPLATES,
    Sentences,
    captions,
    read_texts,
    shipped,
)
from simat.composers.words import SLOT, contains, fill, fits, is_relation, replace, rewrite
from simat.edits import Edit, parse_edits
from simat.errors import QueryError

WORDS = st.sampled_from(["dog", "cat", "old man", "elephant", "snow", "riding"])
EDITS = st.one_of(st.builds(Edit, WORDS, WORDS), st.builds(Edit, st.none(), WORDS), st.builds(Edit, WORDS, st.none()))
CAPTIONS = st.lists(st.sampled_from(["a", "an", "dog", "cat", "old", "man", "snow", "riding", "the"]), min_size=1).map(
    " ".join
)


@pytest.mark.parametrize("words", ["riding", "sitting on", "on", "in front of", "wearing", "under"])
def test_relations_are_known(words: str) -> None:
    assert is_relation(words)


@pytest.mark.parametrize("words", ["dog", "building", "painting", "king", "old man", "a cat on a mat", "ring"])
def test_things_are_no_relations(words: str) -> None:
    assert not is_relation(words)


@pytest.mark.parametrize(
    ("template", "words", "filled"),
    [
        ("a photo of a {thing}.", "dog", "a photo of a dog."),
        ("a photo of a {thing}.", "elephant", "a photo of an elephant."),
        ("An {} here", "cat", "A cat here"),
        ("a man {relation} a horse", "on", "a man on a horse"),
        ("the {}", "\\1 {thing}", "the \\1 {thing}"),
    ],
)
def test_fill_puts_words_and_their_article(template: str, words: str, filled: str) -> None:
    assert fill(template, words) == filled


@pytest.mark.parametrize(
    ("template", "edit", "taken"),
    [
        ("a {thing}", "dog -> cat", True),
        ("a {thing}", "riding -> on", False),
        ("he is {relation} it", "riding -> on", True),
        ("he is {relation} it", "riding -> horse", False),
        ("{}", "riding -> on", True),
        ("{}", "+ snow", True),
        ("a dog", "dog -> cat", False),
    ],
)
def test_templates_take_the_words_of_their_slot(template: str, edit: str, taken: bool) -> None:
    assert fits(template, parse_edits(edit)[0]) == taken


@pytest.mark.parametrize(
    ("caption", "edits", "edited", "left"),
    [
        ("A dog on a sofa.", "dog -> cat", "A cat on a sofa.", ""),
        ("A dog on a sofa.", "dog -> elephant", "An elephant on a sofa.", ""),
        ("An owl sees an owl", "owl -> dog", "A dog sees a dog", ""),
        ("Dogs and a hotdog", "dog -> cat", "Dogs and a hotdog", "dog -> cat"),
        ("Dog on a sofa", "dog -> cat", "Cat on a sofa", ""),
        ("A dog on a sofa.", "dog -> sofa, sofa -> dog", "A sofa on a dog.", ""),
        ("A dog on a sofa.", "- dog", "on a sofa.", ""),
        ("A dog on a sofa.", "+ snow", "A dog on a sofa with snow.", ""),
        ("A dog on a sofa", "+ snow, + a hat, dog -> cat", "A cat on a sofa with a hat and snow", ""),
        ("An old man walks", "man -> dog, old man -> cat", "A cat walks", ""),
        ("A dog.", "- cat, horse -> cow", "A dog.", "horse -> cow, - cat"),
    ],
)
def test_rewrite_applies_what_the_caption_can_take(caption: str, edits: str, edited: str, left: str) -> None:
    new, rest = rewrite(caption, parse_edits(edits))
    if (caption, edits) == ("An old man walks", "man -> dog, old man -> cat"):
        left = ""  # "man" stands there too, inside the longer words
    assert (new, set(rest)) == (edited, set(parse_edits(left)) if left else set())


@given(CAPTIONS, st.lists(EDITS, max_size=4), st.randoms(use_true_random=False))
def test_rewrite_does_not_depend_on_the_order_of_edits(caption: str, edits: list[Edit], random: object) -> None:
    shuffled = [*edits]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert rewrite(caption, shuffled) == rewrite(caption, edits)


@given(CAPTIONS, WORDS)
def test_rewrite_from_a_word_to_itself_changes_no_word(caption: str, word: str) -> None:
    edited, left = rewrite(caption, [Edit(word, word)])
    unarticled = [w for w in caption.split() if w not in {"a", "an"}]
    assert [w for w in edited.split() if w not in {"a", "an"}] == unarticled
    assert bool(left) == (not contains(caption, word))


@given(CAPTIONS, WORDS, WORDS)
def test_replaced_words_are_gone_and_the_new_ones_are_there(caption: str, source: str, target: str) -> None:
    edited = replace(caption, source, target)
    if contains(caption, source):
        assert contains(edited, target)
        assert contains(edited, source) == contains(target, source)
    else:
        assert edited == caption


def test_sentences_pair_templates_and_captions_both_ways() -> None:
    sentences = Sentences(("a {thing}!", "it is {relation} it", "A dog barks.", "A cat mews.", "A cow.", "dogs"))
    sources, targets = sentences.of(Edit("dog", "cat"))
    assert sources == ["a dog!", "A dog barks.", "A dog mews."]
    assert targets == ["a cat!", "A cat barks.", "A cat mews."]
    assert sentences.of(Edit(None, "cow")) == ([], ["a cow!", "A cow."])
    assert sentences.of(Edit("cow", None)) == (["a cow!", "A cow."], [])
    assert sentences.of(Edit("on", "under")) == (["it is on it"], ["it is under it"])


def test_sentences_take_evenly_spaced_captions_of_many() -> None:
    many = Sentences(tuple(f"dog number {i}" for i in range(1000)))
    sources, targets = many.of(Edit("dog", "cat"))
    assert len(sources) == len(targets) == MAX_CAPTIONS
    assert (sources[0], targets[-1]) == ("dog number 0", "cat number 999")


def test_words_that_no_sentence_takes_are_refused() -> None:
    with pytest.raises(QueryError, match=r"no sentence takes the words.*; got dog -> cat; give one with a slot {}"):
        Sentences(("A horse.",)).of(Edit("dog", "cat"))


def test_shipped_templates_serve_things_and_relations() -> None:
    sentences = Sentences(shipped(TEMPLATES))
    for edit, count in (("dog -> cat", 16), ("riding -> on", 14)):
        sources, targets = sentences.of(parse_edits(edit)[0])
        assert len(set(sources)) == len(set(targets)) == len(sources) == count
    assert captions(shipped(TEMPLATES)) == ()


@pytest.mark.parametrize("name", [OBJECTS, STYLES])
def test_shipped_lists_are_words_and_each_once(name: str) -> None:
    texts = shipped(name)
    assert len(set(texts)) == len(texts) > 60
    assert not any(SLOT.search(text) for text in texts)


def test_shipped_objects_and_styles_differ() -> None:
    assert not set(shipped(OBJECTS)) & set(shipped(STYLES))


def test_texts_are_read_from_a_file_or_a_list(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("# a remark\n\n  A dog. \nein Hündchen\n", "utf-8")
    assert read_texts(file) == read_texts(str(file)) == read_texts(["A dog.", "", "ein Hündchen"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read the texts: No such file or directory; got .*texts.txt; give one text a line"),
        (b"\xff\xfe\x00", "cannot read the texts: it is not UTF-8; got "),
        (b"# nothing\n \n", "there are no texts; got "),
    ],
)
def test_texts_that_cannot_be_read_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    file = tmp_path / "texts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(QueryError, match=message):
        read_texts(file)
