"""From a query to two texts: what the picture shows, and what it shall show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simat.composers.words import rewrite
from simat.edits import Edit
from simat.errors import QueryError
from simat.types import Query


def prompts_of(query: Query) -> tuple[str, str]:
    """The reference and the target of a query.

    Edits change whole words of ``query.reference``; where there is none, the bare words of the edits are the two texts.
    A target given as ``query.text`` stands as it is, beside ``query.reference`` or the empty text.

    Raises:
        QueryError: both a text and edits, or neither; an edit whose source is not in the reference.
    """
    edits, reference = query.parsed_edits, query.reference or ""
    if query.text is not None and edits:
        raise QueryError("a text and edits say the same thing twice", remedy="give one of them")
    if query.text is not None:
        return reference, query.text
    if not edits:
        raise QueryError("this query needs words", remedy='give a text, or edits such as "dog -> cat"')
    if not reference.strip():
        return _words(edit.source for edit in edits), _words(edit.target for edit in edits)
    return reference, _edited(reference, edits)


def check_words(tokenizers: Sequence[Any], *texts: str) -> None:
    """Raise where a text has a word that the model's vocabulary lacks, and would silently take for any other.

    Raises:
        QueryError: names the word.
    """
    for tokenizer in tokenizers:
        unknown = tokenizer.unk_token_id
        if unknown is None or unknown in {tokenizer.eos_token_id, tokenizer.pad_token_id} or not tokenizer.is_fast:
            continue
        for text in texts:
            encoded = tokenizer(text, return_offsets_mapping=True)
            found = zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
            for number, (start, end) in found:
                if number == unknown:
                    raise QueryError("the model does not know a word", got=repr(text[start:end]))


def _words(parts: Any) -> str:
    return ", ".join(part for part in parts if part)


def _edited(reference: str, edits: Sequence[Edit]) -> str:
    text, left = rewrite(reference, edits)
    if left:
        raise QueryError(
            f"{left[0].source!r} is not in the reference, or is changed twice",
            got=repr(reference),
            remedy="name words that stand there, or describe the picture otherwise",
        )
    return text
