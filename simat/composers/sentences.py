"""Lines of text that a user gives or that come with the package: templates, captions, lists of words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from simat.composers.words import SLOT, contains, fill, fits, replace
from simat.edits import Edit
from simat.errors import QueryError

HERE = Path(__file__).parent
TEMPLATES, OBJECTS, STYLES = "templates.txt", "objects.txt", "styles.txt"
MAX_CAPTIONS = 64  # captions that speak for one edit; more change its mean by little

Texts = str | Path | Sequence[str]
"""A text file, or the texts themselves."""


def read_texts(source: Texts) -> tuple[str, ...]:
    """Texts, or the lines of a UTF-8 file without the blank ones and those that begin with ``#``.

    Raises:
        QueryError: the file cannot be read, or there is nothing in it.
    """
    try:
        lines = Path(source).read_text("utf-8").splitlines() if isinstance(source, str | Path) else source
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise QueryError(f"cannot read the texts: {reason}", got=str(source), remedy="give one text a line") from error
    texts = tuple(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if not texts:
        raise QueryError("there are no texts", got=str(source), remedy="give one text a line")
    return texts


@cache
def shipped(name: str) -> tuple[str, ...]:
    """The lines of a list that comes with the package."""
    return read_texts(HERE / name)


def captions(texts: Iterable[str]) -> tuple[str, ...]:
    """The texts that are no templates, each once, in their order."""
    return tuple(dict.fromkeys(text for text in texts if not SLOT.search(text)))


@dataclass(frozen=True)
class Sentences:
    """Templates and captions from which the deltas of sentences are made (thesis, section 3.4.4)."""

    texts: tuple[str, ...]
    _found: dict[str, list[str]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _captions(self) -> list[tuple[str, str]]:
        return [(text, text.lower()) for text in captions(self.texts)]

    def having(self, words: str) -> list[str]:
        """Captions that contain words, ``MAX_CAPTIONS`` evenly spaced ones of many; searched once."""
        if words not in self._found:
            likely = (text for text, lower in self._captions if words.lower() in lower)
            self._found[words] = _some(text for text in likely if contains(text, words))
        return self._found[words]

    def of(self, edit: Edit) -> tuple[list[str], list[str]]:
        """Sentences with the edit's source, and the same sentences with its target; empty where it has none.

        A template gives a pair where its slot takes the words. A caption that contains the source is paired with
        itself edited, and one that contains the target with itself edited back; of many, ``MAX_CAPTIONS`` evenly
        spaced ones of each are taken.

        Raises:
            QueryError: no sentence takes the words.
        """
        templates = [text for text in self.texts if fits(text, edit)]
        with_source = self.having(edit.source) if edit.source else []
        with_target = self.having(edit.target) if edit.target else []
        if edit.source and edit.target:
            pairs = [(fill(t, edit.source), fill(t, edit.target)) for t in templates]
            pairs += [(text, replace(text, edit.source, edit.target)) for text in with_source]
            pairs += [(replace(text, edit.target, edit.source), text) for text in with_target]
            sources, targets = [a for a, _ in pairs], [b for _, b in pairs]
        else:
            sources = [*(fill(t, edit.source) for t in templates if edit.source), *with_source]
            targets = [*(fill(t, edit.target) for t in templates if edit.target), *with_target]
        if not sources and not targets:
            raise QueryError("no sentence takes the words of the edit", got=str(edit), remedy="give one with a slot {}")
        return sources, targets


def _some(texts: Iterable[str]) -> list[str]:
    found = [*texts]
    if len(found) <= MAX_CAPTIONS:
        return found
    return [found[int(i)] for i in np.linspace(0, len(found) - 1, MAX_CAPTIONS)]
