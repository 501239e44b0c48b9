"""Composers by late fusion: every image is compared with the query's image and with its words, and ranked by both."""

from __future__ import annotations

from functools import partial

import numpy as np
from jaxtyping import Float32

from simat.composers.arithmetic import goal_of, image
from simat.composers.background import Background, Rows
from simat.composers.parts import Fusion, Half, Parts, Scores, Vector, not_negative, unit
from simat.errors import QueryError

PENALTY = 0.1  # λ of BASIC's fusion
LEAST = 1e-6  # a span below this says nothing


def product(parts: Parts) -> Vector | Fusion:
    """s(x) = v(x)·t(x)^λ, the product of two normalised cosines (the "Text × Image" of arXiv 2510.25387).

    v = (E_img(I)·x − m) / (1 − m), m the least E_img(I)·x over a seeded sample of the index; t likewise with
    E_txt(T), and T as in :func:`simat.composers.arithmetic.weighted`. λ as an exponent, and m taken from the sample,
    are inferred: λ = 0 ranks by the image alone, λ = 1 is the plain product.
    """
    scale, goal = not_negative(parts.query), goal_of(parts)
    if goal is None:
        return image(parts)
    sample = parts.known().sample
    v, t = (Half(vector, *cosine_range(sample, vector[None])[0]) for vector in (unit(parts.image()), goal))
    return Fusion(v, t, scale, multiply, bound_of_product)


def basic(parts: Parts) -> Vector | Fusion:
    """s(x) = v·t − κ·(v + t)²: centred, projected, normalised, fused (BASIC, NeurIPS 2025, arXiv 2510.25387).

    v(x) = P·Pᵀ·(E_img(I) − μ_v) · (x − μ_v) and t(x) = (E_txt(T) − μ_t) · (x − μ_v), each normalised by a least value
    that holds for every query, (s − s_min) / |s_min|, and cut off at 0. P is
    :func:`simat.composers.background.contrastive_projection` with α = 0.2 and at most 250 components; μ_t is the mean
    of the positive texts; κ = 0.1, whose penalty, after Harris's corner detector, holds down images that are like one
    of the two alone.

    A variant. The paper takes μ_v from a million images of LAION and s_min from synthetic queries; here both come from
    a seeded sample of the index, and objects stand for the texts of the queries (:attr:`Background.least`). The lists
    of objects and styles are our own. The scale λ is an exponent of t, and multiplies κ where it is below 1, so that
    λ = 1 is the paper's equation and λ = 0 ranks by v. The paper also replaces the image by a mean of itself and its
    25 nearest in the index, weighted by exp(s / 10), and the text by the mean of itself with each of a hundred objects
    before and after it. Both are left out: they serve to find one and the same thing again. Where an edit changes what
    is shown, on drawn scenes, the first costs seven points of SIMAT score, and the second changes it by less than one.
    """
    scale, goal = not_negative(parts.query), goal_of(parts)
    if goal is None:
        return image(parts)
    known = parts.known()
    vectors = basic_vectors(known, parts.image()[None], goal[None])
    v, t = (Half(rows[0], *found[0]) for rows, found in zip(vectors, basic_ranges(known, *vectors), strict=True))
    kappa = PENALTY * min(1.0, scale)
    return Fusion(v, t, scale, partial(harris, kappa=kappa), partial(bound_of_harris, kappa=kappa))


def basic_vectors(
    known: Background, images: Rows, texts: Float32[np.ndarray, "m d"]
) -> tuple[Rows, Float32[np.ndarray, "m d"]]:
    """What v and t of :func:`basic` multiply images with, for rows of many queries.

    Raises:
        QueryError: nothing is left of an image or of a text.
    """
    projection = known.projection
    ours, theirs = projection.keep(images - known.mean), texts - projection.mean
    if min(np.linalg.norm(ours, axis=1).min(), np.linalg.norm(theirs, axis=1).min()) < LEAST:
        raise QueryError("the query is the average of the index: it has no direction", remedy="use another composer")
    return ours, theirs


def cosine_range(sample: Float32[np.ndarray, "s d"], vectors: Rows) -> list[tuple[float, float]]:
    """(low, span) for each vector: its least product with the sample, and the way from there to 1."""
    lows = (vectors @ sample.T).min(1)
    return [(float(low), max(1.0 - float(low), LEAST)) for low in lows]


def basic_ranges(
    known: Background, images: Rows, texts: Float32[np.ndarray, "m d"]
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(low, span) for each of :func:`basic_vectors`: s_min and |s_min|; low takes μ_v away from what it multiplies."""
    first, second = (
        [(least + float(middle), max(abs(least), LEAST)) for middle in vectors @ known.mean]
        for vectors, least in zip((images, texts), known.least, strict=True)
    )
    return first, second


def multiply(v: Scores, t: Scores) -> Scores:
    """v·t, where v is negative v: below the minimum of the sample, words save nobody."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(v < 0, v, v * t)


def bound_of_product(v: float, t: float) -> float:
    """The greatest of :func:`multiply` up to v and t: it never falls as they grow."""
    return v if v < 0 else v * t


def harris(v: Scores, t: Scores, kappa: float) -> Scores:
    """v·t − κ·(v + t)², of what is positive of v."""
    v = np.maximum(v, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        both = v + t
        scores: Scores = v * t - np.asarray(kappa, both.dtype) * both * both
    return scores


def bound_of_harris(v: float, t: float, kappa: float) -> float:
    """The greatest of :func:`harris` up to v and t.

    For a given t it rises with v up to v = t·(1 − 2κ) / 2κ and falls from there, and so it is the other way round.
    """
    v = max(v, 0.0)
    if kappa == 0:
        return v * t
    ratio = (1 - 2 * kappa) / (2 * kappa)
    v, t = min(v, ratio * t), min(t, ratio * v)
    return v * t - kappa * (v + t) ** 2
