"""Composers that describe the image first, by the nearest caption of a bank."""

from __future__ import annotations

import numpy as np

from simat.composers.arithmetic import moved, word_step
from simat.composers.parts import Parts, Vector, unit
from simat.composers.words import rewrite
from simat.edits import Edit

FUSED = 0.5  # β of PDV
DESCRIBING = ("image_text_image", "edited_caption", "pdv")  # the composers of this file


def image_text_image(parts: Parts) -> Vector:
    """x = E_txt(c) + λ·Σ(E_txt(target) − E_txt(source)), c the caption nearest to the image (thesis, section 3.4.1).

    The bank of captions is the user's texts, or the captions of the index. The thesis takes λ = 1; λ = 0 searches
    for the caption.
    """
    changes = parts.changes()
    _, start = _description(parts)
    return moved(start, word_step(parts.texts, changes) if changes else None, parts.query.scale)


def edited_caption(parts: Parts) -> Vector:
    """x = E_txt(c) + λ·(E_txt(c′) − E_txt(c)): λ = 1 searches for the edited caption c′.

    After CIReVL (arXiv 2310.09291: caption, edit the caption, search), with the nearest caption of a bank for the
    captioner and the replacing of words for the language model; both are ours. An edit that the caption cannot take
    moves by its words, as in :func:`simat.composers.arithmetic.delta`.
    """
    caption, start = _description(parts)
    return moved(start, caption_step(parts, caption, start, parts.changes()), parts.query.scale)


def pdv(parts: Parts) -> Vector:
    """x = (1 − β)·(E_img(I) + λ·Δ) + β·(E_txt(c) + λ·Δ), Δ = E_txt(c′) − E_txt(c), normalised (PDV, arXiv 2502.07215).

    The prompt directional vector Δ leads from the reference's description to the description with the edits; added
    to the image, added to the description, and fused: the paper's PDV-I, PDV-T and PDV-F, all of unit vectors, with
    α_I = α_T = λ. The paper has c from a captioner or from textual inversion and c′ from a language model, and tunes α
    between 0.9 and 1.4 and β between 0.55 and 0.9; here c is the nearest caption of a bank, c′ is c with its words
    replaced, and β = 0.5. λ = 0 is half the image and half its caption.
    """
    caption, start = _description(parts)
    step = caption_step(parts, caption, start, parts.changes())
    between = np.float32(1 - FUSED) * unit(parts.image()) + np.float32(FUSED) * start
    return moved(between, step, parts.query.scale)


def caption_step(parts: Parts, caption: str, vector: Vector, changes: tuple[Edit, ...]) -> Vector | None:
    """E_txt(c′) − E_txt(c), and the word deltas of the edits that the caption cannot take; None where nothing changes.

    Args:
        vector: E_txt(c).
    """
    edited, left = rewrite(caption, changes)
    if edited == caption and not left:
        return None
    step = unit(parts.texts([edited])[0]) - vector if edited else np.zeros_like(vector)
    return step + word_step(parts.texts, left) if left else step


def _description(parts: Parts) -> tuple[str, Vector]:
    bank = parts.known().bank
    row = int(bank.nearest(parts.image()[None])[0])
    return bank.texts[row], bank.vectors[row]
