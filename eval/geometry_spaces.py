"""The geometry of a space of images and texts on a SIMAT corpus."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64

from eval import geometry, probes
from eval.baselines import text_delta_success
from eval.deltas import WordEdit, word_deltas
from eval.figures import Chart, histogram
from eval.methods import Setting
from eval.tables import Cell, Table

MOST_PAIRS = 200_000  # of cosines in the histogram
MOST_PROBES, FEWEST_CONTEXTS = 40, 4  # edits that are probed, captions on each side of one


class Shape:
    """What the measures share: unit vectors, means of the images of each triplet, edits with their contexts.

    Args:
        setting: space and bench; all regions and captions count, of either domain.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.images, self.captions = geometry.unit(setting.images), geometry.unit(setting.captions)

    @cached_property
    def means(self) -> Float[np.ndarray, "c d"]:
        """The mean image vector of each triplet; NaN where it has no image."""
        shown, sums = self.setting.bench.shown, np.zeros((len(self.captions), self.images.shape[1]))
        np.add.at(sums, shown, self.images)
        counts = np.bincount(shown, minlength=len(sums))[:, None]
        means: Float[np.ndarray, "c d"] = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return means

    @cached_property
    def contexts(self) -> dict[WordEdit, list[tuple[int, int]]]:
        """For each edit, one of its two directions: the pairs of captions that it leads between."""
        rest: dict[tuple[int, tuple[str, ...]], list[tuple[str, int]]] = defaultdict(list)
        for number, triplet in enumerate(self.setting.bench.triplets):
            for slot in range(3):
                rest[slot, triplet[:slot] + triplet[slot + 1 :]].append((triplet[slot], number))
        found: dict[WordEdit, list[tuple[int, int]]] = defaultdict(list)
        for group in rest.values():
            ordered = sorted(group)
            for i, (source, first) in enumerate(ordered):
                for target, second in ordered[i + 1 :]:
                    found[source, target].append((first, second))
        return dict(sorted(found.items()))

    def deltas(self, rows: Float[np.ndarray, "c d"], edit: WordEdit) -> Float[np.ndarray, "n d"]:
        """The delta vectors of an edit in all contexts whose rows are both there."""
        pairs = np.array(self.contexts[edit])
        found = rows[pairs[:, 1]] - rows[pairs[:, 0]]
        there: Float[np.ndarray, "n d"] = found[np.isfinite(found).all(1)]
        return there


def space_measures(setting: Setting) -> dict[str, float | None]:
    """Every measure of a space, under stable names."""
    shape = Shape(setting)
    words = geometry.unit(setting.space.texts(_words(setting)))
    matching = np.einsum("nd,nd->n", shape.images, shape.captions[setting.bench.shown])
    return {
        "anisotropy of images": geometry.anisotropy(shape.images),
        "anisotropy of captions": geometry.anisotropy(shape.captions),
        "anisotropy of words": geometry.anisotropy(words),
        "modality gap": geometry.modality_gap(shape.images, shape.captions),
        "mean cosine of image and caption": float(matching.mean()),
        **_delta_measures(shape),
        **_caption_analogies(setting),
        "intrinsic dimension of images (TwoNN)": _dimension(shape.images),
        "intrinsic dimension of captions (TwoNN)": _dimension(shape.captions),
        "participation ratio of images": geometry.participation_ratio(shape.images),
        "participation ratio of captions": geometry.participation_ratio(shape.captions),
        **_probe_measures(shape),
    }


def space_table(measures: Mapping[str, Mapping[str, float | None]]) -> Table:
    """One row per measure, one column per space."""
    names = [*next(iter(measures.values()))]
    rows: list[tuple[Cell, ...]] = [(name, *(space[name] for space in measures.values())) for name in names]
    note = (
        "Deltas are taken between captions, or between the mean images of triplets, that differ by one word; "
        "means over edits. Probes: balanced accuracy, chance is 0.5."
    )
    return Table("geometry", "Geometry of the spaces", ("Measure", *measures), tuple(rows), note, decimals=4)


def cosine_chart(setting: Setting, name: str = "geometry-cosines") -> Chart:
    """How cosines spread: between images, between captions, between images and their captions."""
    shape, rng = Shape(setting), setting.bench.rng()
    samples = {"image and its caption": np.einsum("nd,nd->n", shape.images, shape.captions[setting.bench.shown])}
    for label, rows in (("two images", shape.images), ("two captions", shape.captions)):
        pairs = geometry.distinct_pairs(len(rows), MOST_PAIRS, rng)
        samples[label] = np.einsum("nd,nd->n", rows[pairs[:, 0]], rows[pairs[:, 1]])
    axes = ("cosine (dashed: mean)", "density")
    return histogram(name, f"Cosines in {setting.space.name}", samples, axes)


def _words(setting: Setting) -> list[str]:
    return sorted({word for triplet in setting.bench.triplets for word in triplet})


def _delta_measures(shape: Shape) -> dict[str, float | None]:
    encode = shape.setting.space.texts
    edits = [*shape.contexts]
    of_words = word_deltas(edits, encode).astype(np.float64)
    of_texts = [shape.deltas(shape.captions, edit) for edit in edits]
    of_images = [shape.deltas(shape.means, edit) for edit in edits]
    true = [deltas.mean(0) if len(deltas) else None for deltas in of_images]
    of_sentences = [deltas.mean(0) for deltas in of_texts]
    return {
        "mean length of deltas of words": geometry.mean_norm(of_words),
        "mean length of deltas of captions": _mean([geometry.mean_norm(d) for d in of_texts]),
        "parallelism of deltas of captions": _mean([geometry.parallelism(d) for d in of_texts if len(d) > 1]),
        "parallelism of deltas of images": _mean([geometry.parallelism(d) for d in of_images if len(d) > 1]),
        "parallelogram error of captions": _mean([geometry.parallelogram_error(d) for d in of_texts if len(d) > 1]),
        "parallelogram error of images": _mean([geometry.parallelogram_error(d) for d in of_images if len(d) > 1]),
        "cosine of word and image deltas": _aligned(of_words, true),
        "cosine of sentence and image deltas": _aligned(of_sentences, true),
        "shared direction of caption deltas: cosine": _mean([s.cosine for s in _shared(of_texts)]),
        "shared direction of caption deltas: explained": _mean([s.explained for s in _shared(of_texts)]),
        "shared direction of image deltas: cosine": _mean([s.cosine for s in _shared(of_images)]),
        "shared direction of image deltas: explained": _mean([s.explained for s in _shared(of_images)]),
    }


def _caption_analogies(setting: Setting) -> dict[str, float | None]:
    task = setting.bench.task("all")
    steps = setting.word_steps(task)
    found: dict[str, float | None] = {}
    for name, exclude in (("source left out", True), ("nothing left out", False)):
        right = text_delta_success(setting.captions, setting.bench.shown, steps, task, exclude=exclude)
        found[f"captions transformed, {name}"] = float(np.average(right, weights=task.weights))
    return found


def _probe_measures(shape: Shape) -> dict[str, float | None]:
    chosen = sorted(shape.contexts, key=lambda edit: (-len(shape.contexts[edit]), edit))[:MOST_PROBES]
    results = [found for edit in chosen if (found := _probe(shape, edit)) is not None]
    names = ("captions, other contexts", "images, other contexts", "from captions to images")
    columns = zip(*results, strict=True) if results else [()] * len(names)
    return {f"probe: {name}": _mean(list(column)) for name, column in zip(names, columns, strict=True)}


def _probe(shape: Shape, edit: WordEdit) -> tuple[float, float, float] | None:
    pairs = np.array(shape.contexts[edit])
    if len(pairs) < FEWEST_CONTEXTS:
        return None
    first, second = (np.unique(pairs[:, side]) for side in (0, 1))
    half = _half(len(pairs))
    of_texts = (np.isin(first, pairs[half, 0]), np.isin(second, pairs[half, 1]))
    shown = shape.setting.bench.shown
    a, b = np.flatnonzero(np.isin(shown, first)), np.flatnonzero(np.isin(shown, second))
    of_images = (np.isin(shown[a], pairs[half, 0]), np.isin(shown[b], pairs[half, 1]))
    if not all(0 < mask.sum() < len(mask) for mask in (*of_texts, *of_images)):
        return None
    texts, images = (shape.captions[first], shape.captions[second]), (shape.images[a], shape.images[b])
    axis, _ = probes.direction(*texts)
    return probes.held_out(*texts, of_texts), probes.held_out(*images, of_images), probes.transfer(axis, *images)


def _half(count: int) -> Int64[np.ndarray, " n"]:
    return np.arange(0, count, 2)


def _shared(of_edits: list[Float[np.ndarray, "_ d"]]) -> list[probes.Shared]:
    return [probes.shared_direction(deltas) for deltas in of_edits if len(deltas) > 1]


def _aligned(
    deltas: Float[np.ndarray, "e d"] | list[Float[np.ndarray, " d"]], true: list[Float[np.ndarray, " d"] | None]
) -> float | None:
    return _mean([geometry.cosine(mine, other) for mine, other in zip(deltas, true, strict=True) if other is not None])


def _dimension(rows: Float[np.ndarray, "n d"]) -> float | None:
    distinct = len(np.unique(rows, axis=0))
    return geometry.two_nn(rows) if distinct >= 10 else None


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
