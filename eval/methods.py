"""Ways to answer a transformation query, over all the queries of a task at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from simat.errors import QueryError
from simat.progress import Progress

UNSCALED = ("text", "image")


@dataclass(frozen=True, eq=False)
class Setting:
    """A space on a bench: vectors of all regions and captions.

    Attributes:
        bench: corpus, queries, oracle.
        space: where the vectors live.
        images: unit rows, one per region.
        outside: captions of another corpus, for sentences that are not the evaluation's own.
    """

    bench: Bench
    space: Space
    images: Float32[np.ndarray, "r d"]
    outside: Sequence[str] = field(default=(), repr=False)

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
        """The same for the composers; sentences are those of another corpus where it is given."""
        return Gallery(self.images, self.space.texts, self.bench.captions, self.outside or None)


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


def _composed(name: str) -> Method:
    def find(setting: Setting, task: Task, scales: Sequence[float], k: int) -> Int64[np.ndarray, "s q k"]:
        rank = prepare(name, setting.gallery, task)
        return np.stack([rank(scale, k) for scale in scales])

    return Method(name, name, find, scaled=name not in UNSCALED)


METHODS = {
    **{name: _composed(name) for name in COMPOSERS},
    "delta": Method("delta", "Delta vectors", _along(Setting.word_steps)),
    "own_sentences": Method("own_sentences", "Delta vectors of SIMAT's sentences", _along(Setting.sentence_steps)),
    "target_caption": Method("target_caption", "Text to Image (the target's caption)", _text, scaled=False),
}
"""The composers of :mod:`simat.composers`, and two that know the evaluation's own captions: sentence averages over them
(thesis 3.4.4), and the upper bound."""


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


def set_up(bench: Bench, space: Space, outside: Sequence[str] = (), progress: Progress | None = None) -> Setting:
    """A space on a bench, its images encoded or read."""
    return Setting(bench, space, space.images(bench.corpus, progress), outside)
