"""Who says whether an image shows a caption: one interface for annotation, matrices and models (thesis 3.2.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64

from data.corpus import Corpus
from data.simat.importing import ORACLE_FILE
from data.simat.tensors import read_matrix
from eval.simat_score import Judge, annotation_judge
from simat.errors import QueryError

HELP = "use annotation, matrix, matrix:FILE, blip:MODEL, clip:ENCODER or clip@THRESHOLD:ENCODER"


@dataclass(frozen=True)
class Oracle:
    """Judges regions and captions.

    Attributes:
        name: how reports call it.
        judge: gives the probabilities; above 0.5 is a success.
        cheap: whether every region may be asked about every caption.
    """

    name: str
    judge: Judge
    cheap: bool = True


def open_oracle(spec: str, corpus: Corpus) -> Oracle:
    """The oracle that a spec names.

    Args:
        spec: ``annotation``; ``matrix`` for the one of an imported release, ``matrix:FILE`` for another (safetensors,
            ``.npy`` or a tensor file); ``blip:MODEL``, a local path or a name on the hub; ``clip:ENCODER``, its
            threshold from the annotation, or ``clip@0.3:ENCODER``.
        corpus: a SIMAT corpus.

    Raises:
        QueryError: no such oracle, a matrix of the wrong shape, or numbers outside [0, 1].
    """
    kind, _, argument = spec.partition(":")
    kind, _, threshold = kind.partition("@")
    if spec == "annotation":
        return Oracle(spec, annotation_judge(corpus))
    if kind == "matrix" and not threshold:
        path = Path(argument) if argument else corpus.folder / ORACLE_FILE
        return Oracle(spec, matrix_judge(_matrix(path), corpus))
    if kind == "blip" and argument and not threshold:
        from eval.blip import blip_judge

        return Oracle(spec, checked(blip_judge(argument, corpus)), cheap=False)
    if kind == "clip" and argument:
        return _clip(spec, argument, threshold, corpus)
    raise QueryError("no such oracle", got=repr(spec), remedy=HELP)


def matrix_judge(matrix: Float[np.ndarray, "rows columns"], corpus: Corpus) -> Judge:
    """Looks probabilities up in a matrix computed before, such as the released one by OSCAR.

    Its rows are in the order of ``matrix_row``, which sorts regions by their numbers as *text*: another order than that
    of ``regions.parquet``, in which queries count regions.

    Raises:
        QueryError: not one row per region and one column per caption, or numbers outside [0, 1].
    """
    rows = corpus.table("regions")["matrix_row"].to_numpy().astype(np.int64)
    expected = (len(rows), corpus.table("triplets").num_rows)
    if matrix.shape != expected:
        remedy = "one row per region and one column per caption"
        raise QueryError(f"the oracle's matrix must be {expected[0]} x {expected[1]}",
                         got=" x ".join(map(str, matrix.shape)), remedy=remedy)  # fmt: skip
    _require_probabilities(matrix, "the oracle's matrix")
    return lambda regions, captions: matrix[rows[regions], captions].astype(np.float64)


def checked(judge: Judge) -> Judge:
    """The same judge, whose every answer is checked.

    Raises:
        QueryError: not one number in [0, 1] per pair.
    """

    def judged(regions: Int64[np.ndarray, " n"], captions: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        found = judge(regions, captions)
        if found.shape != regions.shape:
            raise QueryError("the oracle gives not one number per pair", got=f"{found.shape} for {regions.shape}")
        _require_probabilities(found, "the oracle")
        return found

    return judged


def threshold_judge(
    images: Float32[np.ndarray, "r d"], captions: Float32[np.ndarray, "c d"], threshold: float
) -> Judge:
    """1 where the cosine of image and caption is above a threshold, else 0 (CLIPScore, Hessel et al. 2021)."""

    def judge(regions: Int64[np.ndarray, " n"], goals: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        cosines = np.einsum("nd,nd->n", images[regions], captions[goals])
        return np.asarray(cosines > threshold, np.float64)

    return judge


def calibrated_threshold(
    images: Float32[np.ndarray, "r d"],
    captions: Float32[np.ndarray, "c d"],
    shown: Int64[np.ndarray, " r"],
    neighbours: Callable[[int], list[int]],
) -> float:
    """The threshold with the best balanced accuracy between own captions and those one word away.

    Args:
        images: unit rows.
        captions: unit rows.
        shown: the caption of each image.
        neighbours: the captions one word away from each.
    """
    right = np.einsum("nd,nd->n", images, captions[shown])
    near = {int(caption): captions[neighbours(int(caption))] for caption in np.unique(shown)}
    wrong = np.concatenate([near[int(caption)] @ image for image, caption in zip(images, shown, strict=True)])
    edges = np.quantile(np.concatenate([right, wrong]), np.linspace(0, 1, 513))
    balanced = [(right > edge).mean() + (wrong <= edge).mean() for edge in edges]
    return float(edges[int(np.argmax(balanced))])


def _clip(spec: str, encoder: str, threshold: str, corpus: Corpus) -> Oracle:
    from eval.spaces import load_space

    space = load_space(encoder)
    rows = corpus.table("triplets").to_pylist()
    images, captions = space.images(corpus), space.texts([row["caption"] for row in rows])
    if threshold:
        try:
            value = float(threshold)
        except ValueError as error:
            raise QueryError("the threshold must be a number", got=repr(threshold), remedy=HELP) from error
        return Oracle(spec, threshold_judge(images, captions, value))
    value = calibrated_threshold(images, captions, _shown(corpus), _neighbours(rows))
    return Oracle(f"{spec} > {value:.4f}", threshold_judge(images, captions, value))


def _shown(corpus: Corpus) -> Int64[np.ndarray, " r"]:
    shown: Int64[np.ndarray, " r"] = corpus.table("regions")["caption_id"].to_numpy().astype(np.int64)
    return shown


def _neighbours(rows: list[dict[str, Any]]) -> Callable[[int], list[int]]:
    from data.simat.rules import neighbours

    triplets = [(row["subj"], row["rel"], row["obj"]) for row in rows]
    number = {triplet: i for i, triplet in enumerate(triplets)}
    near = neighbours(triplets)
    return lambda caption: [number[triplet] for triplet in near[triplets[caption]]]


def _matrix(path: Path) -> Float32[np.ndarray, "rows columns"]:
    if path.suffix != ".safetensors" or not path.is_file():
        return read_matrix(path)
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        matrix: Float32[np.ndarray, "rows columns"] = load_file(path)["probabilities"].astype(np.float32)
    except (SafetensorError, KeyError) as error:
        raise QueryError("the file holds no matrix of probabilities", got=str(path)) from error
    return matrix


def _require_probabilities(numbers: Float[np.ndarray, "*shape"], what: str) -> None:
    if not ((numbers >= 0) & (numbers <= 1)).all():  # false for NaN, too
        remedy = "probabilities lie in [0, 1]"
        raise QueryError(f"{what} has numbers outside [0, 1]", got=f"{numbers.min()} to {numbers.max()}", remedy=remedy)
