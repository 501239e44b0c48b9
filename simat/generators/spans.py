"""From the words of a segment to the tokens of a prompt, by character offsets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from simat.errors import QueryError

Span = tuple[int, int]


def word_spans(prompt: str, words: str) -> tuple[Span, ...]:
    """Where ``words`` stand in ``prompt`` as whole words, ignoring case and the width of spaces: (start, end) of each.

    Raises:
        QueryError: nowhere.
    """
    parts = [re.escape(word) for word in words.split()]
    if not parts:
        raise QueryError("a segment needs words", got=repr(words))
    pattern = r"(?<!\w)" + r"\s+".join(parts) + r"(?!\w)"
    spans = tuple(match.span() for match in re.finditer(pattern, prompt, re.IGNORECASE))
    if not spans:
        remedy = f"add them to {prompt!r}"
        raise QueryError("the words of a segment are not in the text", got=repr(words), remedy=remedy)
    return spans


def segment_tokens(tokenizers: Sequence[Any], prompt: str, segments: Iterable[str]) -> tuple[tuple[int, ...], ...]:
    """Positions of the tokens of each segment's words, at every place where the words stand.

    Args:
        tokenizers: fast tokenizers of one model (SDXL has two); all must cut the words at the same positions, because
            their states share one sequence.
        prompt: the text.
        segments: words of each segment, in the prompt.

    Raises:
        QueryError: words that are not in the prompt, are cut off by the model's limit, share tokens with another
            segment, or that the tokenizer does not know.
    """
    segments = tuple(segments)
    found = tuple(_agreed([_tokens(tokenizer, prompt, words) for tokenizer in tokenizers], words) for words in segments)
    owner: dict[int, str] = {}
    for words, tokens in zip(segments, found, strict=True):
        for token in tokens:
            if owner.setdefault(token, words) != words:
                raise QueryError("two segments name the same words of the text", got=f"{owner[token]!r} and {words!r}")
    return found


def _agreed(found: list[tuple[int, ...]], words: str) -> tuple[int, ...]:
    if len(set(found)) > 1:
        raise QueryError("the model's tokenizers cut these words differently", got=repr(words))
    return found[0]


def _tokens(tokenizer: Any, prompt: str, words: str) -> tuple[int, ...]:
    if not tokenizer.is_fast:
        raise QueryError("the model's tokenizer tells no offsets", got=type(tokenizer).__name__)
    spans = word_spans(prompt, words)
    whole = _inside(tokenizer(prompt, **_OFFSETS), spans)
    limit = tokenizer.model_max_length
    kept = _inside(tokenizer(prompt, truncation=True, max_length=limit, **_OFFSETS), spans)
    if len(kept) < len(whole):
        raise QueryError(
            f"the words of a segment come after the {limit} tokens that the model reads",
            got=repr(words),
            remedy="shorten the text, or name them earlier",
        )
    if any(token == tokenizer.unk_token_id != tokenizer.eos_token_id for _, token in kept):
        raise QueryError("the model does not know the words of a segment", got=repr(words))
    return tuple(position for position, _ in kept)


_OFFSETS = {"return_offsets_mapping": True, "return_special_tokens_mask": True}


def _inside(encoded: Any, spans: Sequence[Span]) -> list[tuple[int, int]]:
    """(position, id) of the tokens that overlap a span; special tokens have no place in the text."""
    tokens = zip(encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    return [
        (position, token)
        for position, (token, (start, end), special) in enumerate(tokens)
        if not special and any(max(start, a) < min(end, b) for a, b in spans)
    ]
