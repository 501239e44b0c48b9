"""Fréchet distances between sets of feature vectors: FID, SFID, CSFID."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from simat.errors import QueryError

Features = Float[np.ndarray, "n d"]

KINDS = ("mean", "mean+diag")


def fid(one: Features, other: Float[np.ndarray, "m d"]) -> float:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½) (Heusel et al. 2017), with the covariances of samples.

    With A and B the centred features over √(n − 1), so that Σ₁ = AᵀA and Σ₂ = BᵀB, the eigenvalues of Σ₁Σ₂ are the
    squared singular values of ABᵀ: tr (Σ₁Σ₂)^½ is their sum. No root of a matrix is needed, and few pictures are cheap
    in any number of dimensions.

    Raises:
        QueryError: fewer than two pictures in a set.
    """
    for features in (one, other):
        if len(features) < 2:
            raise QueryError("FID needs two pictures or more on either side", got=len(features))
    first, second = _centred(one), _centred(other)
    cross = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float(_mean_gap(one, other) + np.square(first).sum() + np.square(second).sum() - 2 * cross)


def sfid(one: Features, other: Float[np.ndarray, "m d"], kind: str = "mean+diag") -> float:
    """The Fréchet distance of Gaussians without off-diagonal covariance (Kim et al. 2020; thesis 4.4.1).

    Args:
        kind: ``mean`` takes the means alone, as the authors' evaluator does; ``mean+diag`` the variances too, as the
            thesis says.

    Raises:
        QueryError: an empty set, or an unknown kind.
    """
    if kind not in KINDS:
        raise QueryError("no such kind of SFID", got=repr(kind), remedy=f"there are: {', '.join(KINDS)}")
    if not len(one) or not len(other):
        raise QueryError("SFID needs pictures on either side", got=f"{len(one)} and {len(other)}")
    gap = _mean_gap(one, other)
    if kind == "mean":
        return gap
    return gap + float(np.square(one.astype(np.float64).std(0) - other.astype(np.float64).std(0)).sum())


def csfid(
    one: Features,
    targets: Sequence[str],
    other: Float[np.ndarray, "m d"],
    classes: Sequence[str],
    kind: str = "mean+diag",
) -> float:
    """The mean, over the target classes, of the SFID between what was made for a class and its real pictures.

    Args:
        one: features of what was made.
        targets: the class that each shall show.
        other: features of real pictures.
        classes: the class of each.

    Raises:
        QueryError: a target class without real pictures.
    """
    wanted, real = np.array(targets), np.array(classes)
    missing = sorted(set(targets) - set(classes))
    if missing:
        raise QueryError("a target class has no real pictures", got=", ".join(missing[:5]))
    return float(np.mean([sfid(one[wanted == name], other[real == name], kind) for name in sorted(set(targets))]))


def _mean_gap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.square(one.astype(np.float64).mean(0) - other.astype(np.float64).mean(0)).sum())


def _centred(features: Features) -> Float[np.ndarray, "rows d"]:
    """A with AᵀA the covariance of the features; at most as many rows as columns."""
    exact = features.astype(np.float64)
    rows = (exact - exact.mean(0)) / np.sqrt(len(exact) - 1)
    return np.asarray(np.linalg.qr(rows, mode="r")) if len(rows) > rows.shape[1] else rows
