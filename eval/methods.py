"""Ways to answer a transformation query, over all the queries of a task at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int64

from eval.baselines import text_to_image
from eval.bench import Bench
from eval.composed import Gallery, prepare
from eval.deltas import sentence_deltas, word_deltas
from eval.simat_score import Steps, Task, edit_steps, nearest_along
from eval.spaces import Space
from simat.composers import COMPOSERS
from simat.composers.captioned import DESCRIBING
from simat.composers.sentences import TEMPLATES, shipped
from simat.composers.words import contains
from simat.errors import QueryError
from simat.progress import Progress

UNSCALED = ("text", "image")
OTHER = ":other"  # after the name of a composer: it describes images by the captions of another corpus
PER_WORD = 4  # captions of another corpus that speak for a word: each meets all the words that may replace it


@dataclass(frozen=True, eq=False)
class Setting:
    """A space on a bench: vectors of all regions and captions.

    Attributes:
        bench: corpus, queries, oracle.
        space: where the vectors live.
        images: unit rows, one per region.
        outside: captions of another corpus, for sentences that are not the evaluation's own.
        bank: captions of another corpus to describe images with, none of them the evaluation's own.
    """

    bench: Bench
    space: Space
    images: Float32[np.ndarray, "r d"]
    outside: Sequence[str] = field(default=(), repr=False)
    bank: Sequence[str] = field(default=(), repr=False)

    @cached_property
    def captions(self) -> Float32[np.ndarray, "c d"]:
        """Unit rows, by ``caption_id``."""
        return self.space.texts(self.bench.captions)

    def word_steps(self, task: Task) -> Steps:
        """Delta vectors of single words (eq. 3.2)."""
        return edit_steps(task, lambda edits: word_deltas(edits, self.space.texts))

    def sentence_steps(self, task: Task) -> Steps:
        """Delta vectors averaged over the evaluation's own captions (thesis 3.4.4)."""
        return edit_steps(task, lambda edits: sentence_deltas(edits, self.bench.pairs, self.space.texts))

    @cached_property
    def gallery(self) -> Gallery:
        """The same for the composers, which describe images by the evaluation's own captions (thesis 3.4.1).

        Sentences are some of another corpus's captions where it is given.
        """
        texts = [*shipped(TEMPLATES), *few_captions(self.outside, self._words)] if self.outside else None
        return Gallery(self.images, self.space.texts, self.bench.captions, texts)

    @cached_property
    def elsewhere(self) -> Gallery:
        """A gallery whose images are described by another corpus's captions.

        Raises:
            QueryError: there are none.
        """
        if not self.bank:
            raise QueryError("there are no captions of another corpus", remedy="give a corpus with --bank")
        return Gallery(self.images, self.space.texts, self.bank)

    @property
    def _words(self) -> list[str]:
        return sorted({word for triplet in self.bench.triplets for word in triplet})


def few_captions(captions: Sequence[str], words: Sequence[str], per_word: int = PER_WORD) -> list[str]:
    """At most ``per_word`` captions that have each of the words, evenly spaced among those that do."""
    kept: dict[str, None] = {}
    for word in words:
        having = [caption for caption in captions if contains(caption, word)]
        kept.update(dict.fromkeys(having[:: max(1, -(-len(having) // per_word))]))
    return [*kept]


def foreign_captions(captions: Iterable[str], own: Sequence[str]) -> list[str]:
    """The captions of another corpus, each once, without those that say word for word what one of our own does.

    Raises:
        QueryError: none are left.
    """
    known = {_words_of(caption) for caption in own}
    found = [caption for caption in dict.fromkeys(captions) if _words_of(caption) not in known]
    if not found:
        raise QueryError("every caption of the other corpus is one of the evaluation's own", remedy="give another")
    return found


def _words_of(caption: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\w+", caption.lower()))


@dataclass(frozen=True)
class Method:
    """A way to answer queries.

    Attributes:
        name: as on the command line.
        title: as in tables.
        find: (setting, task, the values of λ, k) -> one list of regions per λ and query.
        scaled: whether λ changes anything.
    """

    name: str
    title: str
    find: Callable[[Setting, Task, Sequence[float], int], Int64[np.ndarray, "s q k"]]
    scaled: bool = True


def _along(steps: Callable[[Setting, Task], Steps]) -> Callable[..., Int64[np.ndarray, "s q k"]]:
    def find(setting: Setting, task: Task, scales: Sequence[float], k: int) -> Int64[np.ndarray, "s q k"]:
        return nearest_along(setting.images, steps(setting, task), task.sources, scales, k, setting.bench.rng())

    return find


def _text(setting: Setting, task: Task, scales: Sequence[float], k: int) -> Int64[np.ndarray, "s q k"]:
    found = text_to_image(setting.images, setting.captions, task, k, setting.bench.rng())
    return np.stack([found] * len(scales))


def _composed(name: str, elsewhere: bool = False) -> Method:
    def find(setting: Setting, task: Task, scales: Sequence[float], k: int) -> Int64[np.ndarray, "s q k"]:
        rank = prepare(name, setting.elsewhere if elsewhere else setting.gallery, task)
        return np.stack([rank(scale, k) for scale in scales])

    if elsewhere:
        return Method(name + OTHER, f"{name}, other captions", find)
    return Method(name, name, find, scaled=name not in UNSCALED)


METHODS = {
    **{name: _composed(name) for name in COMPOSERS},
    **{name + OTHER: _composed(name, elsewhere=True) for name in DESCRIBING},
    "delta": Method("delta", "Delta vectors", _along(Setting.word_steps)),
    "own_sentences": Method("own_sentences", "Delta vectors of SIMAT's sentences", _along(Setting.sentence_steps)),
    "target_caption": Method("target_caption", "Text to Image (the target's caption)", _text, scaled=False),
}
"""The composers of :mod:`simat.composers`; those that describe images once more, by the captions of another corpus; and
two that know the evaluation's own captions: sentence averages over them (thesis 3.4.4), and the upper bound."""


def find_methods(names: Sequence[str]) -> list[Method]:
    """The methods of some names.

    Raises:
        QueryError: one that there is not.
    """
    unknown = [name for name in names if name not in METHODS]
    if unknown or not names:
        raise QueryError(
            "no such composer", got=", ".join(unknown) or "none", remedy=f"there are: {', '.join(METHODS)}"
        )
    return [METHODS[name] for name in dict.fromkeys(names)]


def set_up(
    bench: Bench,
    space: Space,
    outside: Sequence[str] = (),
    progress: Progress | None = None,
    bank: Sequence[str] = (),
) -> Setting:
    """A space on a bench, its images encoded or read."""
    return Setting(bench, space, space.images(bench.corpus, progress), outside, bank)
