"""Every composer over a whole task at once: the rankings that :mod:`simat.composers` gives one by one.

Words, sentences and captions are encoded once per gallery, steps once per different edit, and images are compared in
blocks; the equations are those of :mod:`simat.composers`, row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
from jaxtyping import Float32, Int64

from eval.simat_score import BLOCK, Steps, Task, best_others, nearest_along, nearest_others
from simat.composers import COMPOSERS
from simat.composers.arithmetic import sentence_step, slerp_rows, weighted_rows
from simat.composers.background import Background, EncodeTexts, sample_ids
from simat.composers.captioned import FUSED
from simat.composers.fused import (
    PENALTY,
    basic_ranges,
    basic_vectors,
    cosine_range,
    harris,
    multiply,
)
from simat.composers.parts import finite, weighed
from simat.composers.words import rewrite
from simat.edits import Edit
from simat.errors import QueryError
from simat.vectors import unit_rows

Rows = Float32[np.ndarray, "n d"]
Queries = Callable[[float], Float32[np.ndarray, "q d"]]
Found = Int64[np.ndarray, "q k"]
Rank = Callable[[float, int], Found]
"""(scale, k) -> rows of the k best images of each query, best first, without the query's own image."""


class Gallery:
    """Images, and an encoder of words into their space.

    Args:
        images: unit rows, one per region of the corpus.
        encode: texts to unit rows; every text is encoded once.
        captions: the bank of captions for the composers that describe the image, whatever ``texts`` has.
        texts: templates and captions for ``sentence_delta``; None for the templates that come with the package.
    """

    def __init__(
        self,
        images: Rows,
        encode: EncodeTexts,
        captions: Sequence[str] = (),
        texts: Sequence[str] | None = None,
    ) -> None:
        self.images, self._encode = images, encode
        self._known: dict[str, np.ndarray] = {}
        sample = unit_rows(images[sample_ids(len(images))])
        self.background = Background(self.encode, lambda: sample, texts=texts, bank=captions)

    def encode(self, texts: list[str]) -> Rows:
        """Unit rows, one per text; remembered."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, unit_rows(self._encode(new), "text vector"), strict=True))
        return np.stack([self._known[text] for text in texts])


@dataclass(frozen=True)
class Asked:
    """A task over a gallery, and what several composers need of both.

    Attributes:
        edits: the different edits of the task.
        which: the edit of each query.
    """

    gallery: Gallery
    task: Task
    edits: tuple[Edit, ...] = field(init=False)
    which: Int64[np.ndarray, " q"] = field(init=False)

    def __post_init__(self) -> None:
        number: dict[tuple[str, str], int] = {}
        which = [number.setdefault(edit, len(number)) for edit in self.task.edits]
        object.__setattr__(self, "edits", tuple(Edit(source, target) for source, target in number))
        object.__setattr__(self, "which", np.array(which, np.int64))

    @cached_property
    def images(self) -> Float32[np.ndarray, "q d"]:
        """The vector of each query's image."""
        images: Rows = self.gallery.images[self.task.sources]
        return images

    @cached_property
    def goals(self) -> Float32[np.ndarray, "e d"]:
        """E_txt(target) of each edit."""
        return self.gallery.encode([str(edit.target) for edit in self.edits])

    @cached_property
    def word_steps(self) -> Steps:
        """E_txt(target) − E_txt(source)."""
        return Steps(self.goals - self.gallery.encode([str(edit.source) for edit in self.edits]), self.which)

    @cached_property
    def sentence_steps(self) -> Steps:
        """The mean steps of sentences."""
        sentences = self.gallery.background.sentences
        self.gallery.encode(sorted({text for edit in self.edits for group in sentences.of(edit) for text in group}))
        steps = [sentence_step(self.gallery.encode, sentences, edit) for edit in self.edits]
        return Steps(np.stack(steps), self.which)

    @cached_property
    def described(self) -> Int64[np.ndarray, " q"]:
        """Row in the bank of the caption nearest to each query's image."""
        rows, which = np.unique(self.task.sources, return_inverse=True)
        described: Int64[np.ndarray, " q"] = self.gallery.background.bank.nearest(self.gallery.images[rows])[which]
        return described

    @cached_property
    def captions(self) -> Float32[np.ndarray, "q d"]:
        """E_txt of those captions."""
        captions: Rows = self.gallery.background.bank.vectors[self.described]
        return captions

    @cached_property
    def caption_steps(self) -> Float32[np.ndarray, "q d"]:
        """From the caption to the edited caption, or where it does not have the word, the step of the words."""
        bank = self.gallery.background.bank
        pairs, which = np.unique(np.stack([self.described, self.which]), axis=1, return_inverse=True)
        rewritten = [rewrite(bank.texts[row], [self.edits[edit]]) for row, edit in pairs.T]
        edited = self.gallery.encode([text for text, _ in rewritten])
        taken = np.array([not left for _, left in rewritten])[which.ravel(), None]
        steps: Rows = np.where(taken, edited[which.ravel()] - self.captions, self.word_steps.vectors[self.which])
        return steps


def rankings(composer: str, gallery: Gallery, task: Task, scale: float = 1.0, k: int = 1) -> Found:
    """Rows of the k best images of each query by a composer; see :func:`prepare` for several scales.

    Raises:
        QueryError: no such composer, k out of range, or a scale that the composer has no meaning for.
    """
    return prepare(composer, gallery, task)(scale, k)


def prepare(composer: str, gallery: Gallery, task: Task) -> Rank:
    """What a composer needs at every scale, computed once: a function (scale, k) -> rows.

    Raises:
        QueryError: no such composer, or no captions where it needs some.
    """
    if composer not in COMPOSERS:
        raise QueryError("no such composer", got=composer, remedy=f"there are: {', '.join(COMPOSERS)}")
    return prepare_all([composer], gallery, task)[composer]


def prepare_all(composers: Sequence[str], gallery: Gallery, task: Task) -> dict[str, Rank]:
    """As :func:`prepare`, for several composers that share what they have in common."""
    asked = Asked(gallery, task)
    return {name: partial(_late, asked, name) if name in LATE else _early(asked, name) for name in composers}


def _early(asked: Asked, composer: str) -> Rank:
    if composer in ALONG:
        steps = ALONG[composer](asked)
        return lambda scale, k: nearest_along(asked.gallery.images, steps, asked.task.sources, [scale], k)[0]
    queries = VECTORS[composer](asked)
    return lambda scale, k: nearest_others(
        asked.gallery.images, queries(_checked(composer, scale)), asked.task.sources, k
    )


def _linear(start: Rows, step: Rows) -> Queries:
    return lambda scale: start + np.float32(scale) * step


def _pdv(asked: Asked) -> Queries:
    between = np.float32(1 - FUSED) * asked.images + np.float32(FUSED) * asked.captions
    return _linear(between, asked.caption_steps)


def _mixed(asked: Asked, rows: Callable[[Rows, Rows, float], Rows]) -> Queries:
    return lambda scale: rows(asked.images, asked.goals[asked.which], scale)


ALONG: dict[str, Callable[[Asked], Steps]] = {
    "delta": lambda asked: asked.word_steps,
    "sentence_delta": lambda asked: asked.sentence_steps,
}
VECTORS: dict[str, Callable[[Asked], Queries]] = {
    "image_text_image": lambda asked: _linear(asked.captions, asked.word_steps.vectors[asked.which]),
    "edited_caption": lambda asked: _linear(asked.captions, asked.caption_steps),
    "text": lambda asked: lambda scale: asked.goals[asked.which],
    "image": lambda asked: lambda scale: asked.images,
    "weighted": lambda asked: _mixed(asked, weighted_rows),
    "slerp": lambda asked: _mixed(asked, slerp_rows),
    "pdv": _pdv,
}
LATE = ("product", "basic")
NOT_NEGATIVE = ("weighted", "slerp", *LATE)


def _checked(composer: str, scale: float) -> float:
    if composer in NOT_NEGATIVE and scale < 0:
        raise QueryError(f"the composer {composer!r} needs a scale of at least 0", got=scale)
    return scale


def _late(asked: Asked, composer: str, scale: float, k: int) -> Found:
    """Late fusion in blocks: similarities to the words once per different edit of a block."""
    power, images = _checked(composer, scale), asked.gallery.images
    if not 1 <= k < len(images):
        raise QueryError(f"k must be in [1, {len(images) - 1}]", got=k)
    rng = np.random.default_rng(0)
    combine = multiply if composer == "product" else partial(harris, kappa=PENALTY * min(1.0, power))
    found = np.empty((len(asked.task), k), np.int64)
    for start in range(0, len(found), BLOCK):
        block = slice(start, start + BLOCK)
        rows, row = np.unique(asked.task.sources[block], return_inverse=True)
        edits, edit = np.unique(asked.which[block], return_inverse=True)
        image, text = _halves(asked, composer, rows, edits)
        scores = finite(combine(image(images)[row], weighed(text(images), power)[edit]), power)
        found[block] = best_others(scores, asked.task.sources[block], k, rng)
    return found


@dataclass(frozen=True)
class _Halves:
    """Rows of :class:`simat.composers.parts.Half`, with (low, span) of each."""

    vectors: Rows
    ranges: Sequence[tuple[float, float]]

    def __call__(self, images: Float32[np.ndarray, "r d"]) -> Float32[np.ndarray, "n r"]:
        lows, spans = np.array(self.ranges, np.float32).T
        products: Float32[np.ndarray, "n r"] = self.vectors @ images.T
        products -= lows[:, None]
        products /= spans[:, None]
        return products


def _halves(asked: Asked, composer: str, rows: np.ndarray, edits: np.ndarray) -> tuple[_Halves, _Halves]:
    known, images, goals = asked.gallery.background, asked.gallery.images[rows], asked.goals[edits]
    if composer == "product":
        return (_Halves(images, cosine_range(known.sample, images)), _Halves(goals, cosine_range(known.sample, goals)))
    ours, theirs = basic_vectors(known, images, goals)
    first, second = basic_ranges(known, ours, theirs)
    return _Halves(ours, first), _Halves(theirs, second)
