"""Delta vectors of edits: from two words, or averaged over pairs of sentences (thesis 3.4.4)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float32

WordEdit = tuple[str, str]
SentencePairs = Mapping[WordEdit, Sequence[tuple[str, str]]]
Encode = Callable[[Sequence[str]], Float32[np.ndarray, "n d"]]


def word_deltas(edits: Sequence[WordEdit], encode: Encode) -> Float32[np.ndarray, "e d"]:
    """E_txt(w2) − E_txt(w1) of each edit (eq. 3.2); every word is encoded once."""
    words = sorted({word for edit in edits for word in edit})
    vectors, number = encode(words), {word: i for i, word in enumerate(words)}
    sources, targets = ([number[edit[side]] for edit in edits] for side in (0, 1))
    deltas: Float32[np.ndarray, "e d"] = vectors[targets] - vectors[sources]
    return deltas


def sentence_deltas(edits: Sequence[WordEdit], pairs: SentencePairs, encode: Encode) -> Float32[np.ndarray, "e d"]:
    """The mean of E_txt(s2) − E_txt(s1) over an edit's pairs of sentences (thesis 3.4.4).

    An edit without a pair gets its words' delta vector; the edits of a SIMAT corpus all have one.
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


def _triplet(slot: int, others: tuple[str, ...], word: str) -> tuple[str, str, str]:
    words = [*others[:slot], word, *others[slot:]]
    return words[0], words[1], words[2]
