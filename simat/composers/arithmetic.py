"""Composers that add and mix vectors; ``E`` in the equations is the encoder's unit output.

Each comes twice: for one query, and for rows of many, so that a study runs the same equation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float32

from simat.composers.parts import Parts, Vector, not_negative, unit
from simat.composers.sentences import Sentences
from simat.edits import Edit
from simat.errors import QueryError
from simat.vectors import unit_rows

Rows = Float32[np.ndarray, "n d"]


def delta(parts: Parts) -> Vector:
    """x = E_img(I) + λ·Σ(E_txt(target) − E_txt(source)), normalised (thesis eq. 3.2).

    A missing source or target contributes nothing: ``+ snow`` adds its vector, ``- person`` subtracts it.
    """
    changes = parts.changes()
    return moved(parts.image(), word_step(parts.texts, changes) if changes else None, parts.query.scale)


def sentence_delta(parts: Parts) -> Vector:
    """x = E_img(I) + λ·Σ mean(E_txt(s₂) − E_txt(s₁)), normalised (thesis, section 3.4.4).

    The mean is over sentences s₁ with the edit's source and the same sentences s₂ with its target: templates and
    captions given by the user, or the templates that come with the package. The thesis takes the captions of its own
    test; those should not serve where they are also the measure. ``+ snow`` and ``- person`` add and subtract the
    mean of sentences that have the word (inferred, after ``delta``).
    """
    changes = parts.changes()
    step = total(sentence_step(parts.texts, parts.known().sentences, edit) for edit in changes)
    return moved(parts.image(), step, parts.query.scale)


def text(parts: Parts) -> Vector:
    """x = E_txt(T): the words alone, the edits' targets where no text is given (Text→Image, thesis 3.4.1)."""
    words = (parts.query.text or "").strip() or " ".join(
        edit.target for edit in parts.query.parsed_edits if edit.target
    )
    if not words:
        raise QueryError("the composer 'text' needs words", remedy="give a text, or an edit with a target")
    return unit(parts.texts([words])[0])


def image(parts: Parts) -> Vector:
    """x = E_img(I): the image alone; where every edit starts from."""
    return unit(parts.image())


def weighted(parts: Parts) -> Vector:
    """x = (1 − α)·E_img(I) + α·E_txt(T) with α = λ / (1 + λ), normalised (WeiMoCIR, arXiv 2409.04918).

    λ = 0 is the image, λ = 1 the plain mean, λ → ∞ the words. T is the text, or the targets of the edits: the unit
    mean of their vectors (inferred; the paper has one text).
    """
    scale, goal = not_negative(parts.query), goal_of(parts)
    return image(parts) if goal is None else weighted_rows(parts.image()[None], goal[None], scale)[0]


def slerp(parts: Parts) -> Vector:
    """x = sin((1 − α)θ)/sin θ · E_img(I) + sin(αθ)/sin θ · E_txt(T), θ their angle (Slerp, arXiv 2405.00571).

    α = λ / (1 + λ) and T as in :func:`weighted`.
    """
    scale, goal = not_negative(parts.query), goal_of(parts)
    return image(parts) if goal is None else slerp_rows(parts.image()[None], goal[None], scale)[0]


def weighted_rows(images: Rows, texts: Rows, scale: float) -> Rows:
    """The equation of :func:`weighted`, row by row; E_img + λ·E_txt points where the mean does."""
    return unit_rows(unit_rows(images) + np.float32(scale) * unit_rows(texts), "query vector")


def slerp_rows(images: Rows, texts: Rows, scale: float) -> Rows:
    """The equation of :func:`slerp`, row by row.

    Raises:
        QueryError: an image and its words point to opposite sides, and no way between them is the shortest.
    """
    starts, ends, share = unit_rows(images).astype(np.float64), unit_rows(texts).astype(np.float64), scale / (1 + scale)
    # Twice the arc tangent: the arc cosine loses half the digits where the two are close.
    angles = 2 * np.arctan2(np.linalg.norm(starts - ends, axis=1), np.linalg.norm(starts + ends, axis=1))[:, None]
    if (angles > np.pi - 1e-6).any():
        raise QueryError("the image and the words are opposite", remedy="use the composer 'weighted'")
    near = angles < 1e-6
    sines = np.where(near, 1.0, np.sin(angles))
    first = np.where(near, 1 - share, np.sin((1 - share) * angles) / sines)
    second = np.where(near, share, np.sin(share * angles) / sines)
    return unit_rows(first * starts + second * ends, "query vector")


def moved(start: Vector, step: Vector | None, scale: float) -> Vector:
    """start + λ·step, normalised; ``None`` is no step."""
    return unit(start if step is None else start + np.float32(scale) * step)


def word_step(texts: Callable[[list[str]], Rows], edits: Sequence[Edit]) -> Vector:
    """Σ(E_txt(target) − E_txt(source)) over at least one edit."""
    words = [word for edit in edits for word in (edit.target, edit.source) if word]
    signs = [sign for edit in edits for sign, word in ((1, edit.target), (-1, edit.source)) if word]
    step: Vector = np.asarray(signs, np.float32) @ texts(words)
    return step


def sentence_step(texts: Callable[[list[str]], Rows], sentences: Sentences, edit: Edit) -> Vector:
    """mean E_txt(s₂) − mean E_txt(s₁) of one edit."""
    sources, targets = sentences.of(edit)
    means = [sign * texts(group).mean(0) for sign, group in ((1, targets), (-1, sources)) if group]
    return np.asarray(sum(means), np.float32)


def total(steps: Iterable[Vector]) -> Vector | None:
    """The sum of steps, None where there are none."""
    every = [*steps]
    return np.asarray(sum(every), np.float32) if every else None


def goal_of(parts: Parts) -> Vector | None:
    """E_txt(T): the query's text, or the unit mean of its edits' targets; None where the edits change nothing.

    Raises:
        QueryError: an edit removes something, which words to search for cannot say.
    """
    if parts.query.text and parts.query.text.strip():
        return unit(parts.texts([parts.query.text.strip()])[0])
    changes = parts.changes()
    for edit in changes:
        if edit.target is None:
            raise QueryError(
                f"the composer {parts.query.composer!r} searches for words and can remove none",
                got=repr(str(edit)),
                remedy="use delta, sentence_delta, image_text_image, edited_caption or pdv",
            )
    targets = [edit.target for edit in changes if edit.target]
    return unit(parts.texts(targets).mean(0)) if targets else None
