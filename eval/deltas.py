"""Delta vectors of edits: from two words, or averaged over pairs of sentences (thesis 3.4.4)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import numpy as np
from jaxtyping import Float32

WordEdit = tuple[str, str]
SentencePairs = Mapping[WordEdit, Sequence[tuple[str, str]]]
Encode = Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]
PER_EDIT = 8  # captions of a corpus that a delta vector is averaged over


def word_deltas(edits: Sequence[WordEdit], encode: Encode) -> Float32[np.ndarray, "e d"]:
    """E_txt(w2) − E_txt(w1) of each edit (eq. 3.2); every word is encoded once."""
    words = sorted({word for edit in edits for word in edit})
    vectors, number = encode(words), {word: i for i, word in enumerate(words)}
    sources, targets = ([number[edit[side]] for edit in edits] for side in (0, 1))
    deltas: Float32[np.ndarray, "e d"] = vectors[targets] - vectors[sources]
    return deltas


def sentence_deltas(edits: Sequence[WordEdit], pairs: SentencePairs, encode: Encode) -> Float32[np.ndarray, "e d"]:
    """The mean of E_txt(s2) − E_txt(s1) over an edit's pairs of sentences (thesis 3.4.4).

    An edit without a pair gets its words' delta vector; see :func:`without_pairs`.
    """
    deltas = word_deltas(edits, encode)
    sentences = sorted({sentence for edit in edits for pair in pairs.get(edit, ()) for sentence in pair})
    if not sentences:
        return deltas
    vectors, number = encode(sentences), {sentence: i for i, sentence in enumerate(sentences)}
    for row, edit in enumerate(edits):
        found = pairs.get(edit, ())
        if found:
            first, second = ([number[pair[side]] for pair in found] for side in (0, 1))
            deltas[row] = (vectors[second] - vectors[first]).mean(0)
    return deltas


def without_pairs(edits: Sequence[WordEdit], pairs: SentencePairs) -> list[WordEdit]:
    """The edits that no pair of sentences shows."""
    return sorted({edit for edit in edits if not pairs.get(edit)})


def caption_pairs(triplets: Sequence[tuple[str, str, str]], captions: Sequence[str]) -> SentencePairs:
    """For each edit w1 → w2 all pairs of the triplets' captions such that the second is the first with w2 for w1."""
    number = {triplet: i for i, triplet in enumerate(triplets)}
    rest: dict[tuple[int, tuple[str, ...]], list[str]] = defaultdict(list)
    for triplet in triplets:
        for slot in range(3):
            rest[slot, triplet[:slot] + triplet[slot + 1 :]].append(triplet[slot])
    pairs: dict[WordEdit, list[tuple[str, str]]] = defaultdict(list)
    for (slot, others), words in sorted(rest.items()):
        for source in words:
            for target in words:
                if source != target:
                    first, second = (_triplet(slot, others, word) for word in (source, target))
                    pairs[source, target].append((captions[number[first]], captions[number[second]]))
    return dict(pairs)


def replaced_pairs(
    edits: Sequence[WordEdit], captions: Sequence[str], rng: np.random.Generator, per_edit: int = PER_EDIT
) -> SentencePairs:
    """For each edit up to ``per_edit`` captions that have its first word, each with itself after the replacement.

    The captions may be any corpus's: what the thesis leaves for future work at the end of section 3.4.4.

    Args:
        edits: what to show.
        captions: of any corpus.
        rng: draws the captions of each word.
        per_edit: how many captions.
    """
    shuffled = [captions[i] for i in rng.permutation(len(captions))]
    found: dict[str, list[str]] = {}
    for word in sorted({source for source, _ in edits}):
        pattern = _word(word)
        matching = (caption for caption in shuffled if word in caption and pattern.search(caption))
        found[word] = list(islice(matching, per_edit))
    return {edit: [(text, _replaced(edit, text)) for text in found[edit[0]]] for edit in sorted(set(edits))}


def _replaced(edit: WordEdit, text: str) -> str:
    parts = _word(edit[0]).split(text)
    return edit[1].join(parts)


def _word(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w){re.escape(word)}(?!\w)")


def _triplet(slot: int, others: tuple[str, ...], word: str) -> tuple[str, str, str]:
    words = [*others[:slot], word, *others[slot:]]
    return words[0], words[1], words[2]
