"""Edits in sentences: which words are relations, filling a slot, rewriting a caption."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from simat.edits import Edit

_BETWEEN = """on in at under above below behind beside near over with of by against along across around between inside
into onto off through to from beneath underneath outside atop toward towards past"""
_THINGS = """awning bedding boxing building ceiling clothing covering crossing dressing dumpling duckling earring
evening flooring frosting fencing icing king lightning lighting morning painting parking pudding railing ring roofing
seedling siding sling spring stocking string swing thing topping tubing wedding wing writing"""
PREPOSITIONS = frozenset(_BETWEEN.split())
THINGS_IN_ING = frozenset(_THINGS.split())
SLOT = re.compile(r"\{(thing|relation|)\}")


def is_relation(words: str) -> bool:
    """Whether words stand between a subject and an object: "riding", "sitting on", "under".

    A rule of thumb for English: they begin or end with a preposition, or begin with a verb in -ing.
    """
    first, last = words.lower().split()[0], words.lower().split()[-1]
    return bool({first, last} & PREPOSITIONS) or (first.endswith("ing") and first not in THINGS_IN_ING)


def fits(template: str, edit: Edit) -> bool:
    """Whether the template's slot takes the edit's words: ``{}`` any, ``{thing}``, or ``{relation}``."""
    slot = SLOT.search(template)
    if slot is None:
        return False
    relations = all(is_relation(word) for word in (edit.source, edit.target) if word)
    return slot[1] == "" or (slot[1] == "relation") == relations


def fill(template: str, words: str) -> str:
    """The template with words in its slot; "a" before the slot becomes "an" where the words ask for it."""
    template = re.sub(r"\b([Aa])n? (?=\{)", lambda found: _article(found[1], words) + " ", template)
    return SLOT.sub(lambda _: words, template)


def contains(caption: str, words: str) -> bool:
    """Whether the words stand in the caption, whole and in this order, in any case."""
    return _occurrence(words).search(caption) is not None


def replace(caption: str, source: str, target: str) -> str:
    """The caption with every ``source`` replaced; its article follows."""
    return rewrite(caption, [Edit(source, target)])[0]


def rewrite(caption: str, edits: Iterable[Edit]) -> tuple[str, tuple[Edit, ...]]:
    """Apply edits to a caption; their order makes no difference.

    ``a -> b`` replaces a, ``- a`` drops a with its article, ``+ b`` appends "with b".

    Returns:
        The new caption, and the edits that it cannot take, because it does not have their source or another edit
        already changes it.
    """
    ordered = sorted(edits, key=lambda edit: (-len(edit.source or ""), str(edit)))
    taken: dict[str, Edit] = {}
    left = []
    for edit in ordered:
        if edit.source is not None:
            known = edit.source.lower() in taken or not contains(caption, edit.source)
            left.append(edit) if known else taken.setdefault(edit.source.lower(), edit)
    if taken:
        caption = _occurrence(*taken).sub(lambda found: _replacement(found, taken), caption)
        caption = " ".join(caption.split())
    added = [edit.target for edit in ordered if edit.source is None and edit.target]
    return _append(caption, added), tuple(left)


def _append(caption: str, words: Sequence[str]) -> str:
    if not words:
        return caption
    body = caption.rstrip(" .")
    return f"{body} with {' and '.join(words)}{caption[len(body) :].strip()}"


@lru_cache(4096)
def _occurrence(*words: str) -> re.Pattern[str]:
    either = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:(?P<article>an?)(?P<gap>\s+))?(?P<words>{either})(?!\w)", re.IGNORECASE)


def _replacement(found: re.Match[str], edits: dict[str, Edit]) -> str:
    target = edits[found["words"].lower()].target
    if target is None:
        return ""
    if found["article"]:
        return _article(found["article"], target) + found["gap"] + target
    return target.capitalize() if found["words"][:1].isupper() else target


def _article(article: str, words: str) -> str:
    return article[0] + ("n" if words[:1].lower() in tuple("aeiou") else "")
