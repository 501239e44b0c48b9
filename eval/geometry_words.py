"""The geometry of words: one table of measures, one of relations, and the words in a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from eval import geometry
from eval.figures import Chart, arrows
from eval.tables import Cell, Table
from eval.words import Edits, Words
from simat.errors import QueryError
from simat.heads import Head, Layer, load_heads

Relations = Mapping[str, Sequence[tuple[str, str]]]
FAMOUS = ("boy", "man", "woman")  # start, source, target
LONELY = ("bus", "zebra")
MOST_WORDS = 150  # drawn in the plane


def after_heads(words: Words, heads: Path) -> Words:
    """The words behind a text head, at the length they come with: a folder of heads, or a released file of them.

    Raises:
        StorageError: no heads.
        CorpusError: a damaged file.
        SpaceMismatchError: a head for vectors of another dimension.
    """
    return Words(words.names, _head(heads)(words.vectors.astype(np.float32)))


def word_measures(words: Words, relations: Relations, edits: Edits | None = None) -> dict[str, float | None]:
    """Every measure of a set of words, under stable names; those of queries are None where there are none."""
    rows = geometry.unit(words.vectors)
    found: dict[str, float | None] = {
        "anisotropy: mean cosine of pairs": geometry.anisotropy(rows),
        "length of the mean": geometry.mean_length(rows),
        "mean length of deltas, queries": None,
        "mean length of deltas, weighted": None,
    }
    if edits is not None:
        pairs = np.array(words.rows(edits.pairs))
        deltas = rows[pairs[:, 1]] - rows[pairs[:, 0]]
        found["mean length of deltas, queries"] = geometry.mean_norm(deltas)
        found["mean length of deltas, weighted"] = geometry.mean_norm(deltas, edits.weights)
    found |= _analogy_measures(words, relations)
    found["intrinsic dimension (TwoNN)"] = geometry.two_nn(rows) if len(rows) >= 10 else None
    found["participation ratio"] = geometry.participation_ratio(rows)
    return found


def word_table(measures: Mapping[str, Mapping[str, float | None]]) -> Table:
    """One row per measure, one column per space."""
    names = [*next(iter(measures.values()))]
    rows: list[tuple[Cell, ...]] = [(name, *(space[name] for space in measures.values())) for name in names]
    return Table("geometry-words", "Geometry of words", ("Measure", *measures), tuple(rows), decimals=4)


def relation_table(spaces: Mapping[str, Words], relations: Relations) -> Table:
    """Per relation of two pairs or more: parallelism and parallelogram error; and where known words lead."""
    rows: list[tuple[Cell, ...]] = []
    for name, pairs in relations.items():
        if len(pairs) > 1:
            deltas = {space: deltas_of(words, pairs) for space, words in spaces.items()}
            shown = ", ".join(f"{a} → {b}" for a, b in pairs[:3]) + (" …" if len(pairs) > 3 else "")
            rows.append((f"{name}: parallelism", shown, *(geometry.parallelism(d) for d in deltas.values())))
            rows.append((f"{name}: parallelogram error", shown, *(map(geometry.parallelogram_error, deltas.values()))))
    start, source, target = FAMOUS
    if all({*FAMOUS} <= set(words.names) for words in spaces.values()):
        cells = [_answer(words, start, deltas_of(words, [(source, target)])[0]) for words in spaces.values()]
        rows.append((f"nearest to {start} + {target} − {source}", "nothing left out", *cells))
    for word in LONELY:
        if all(word in words.names for words in spaces.values()):
            rows.append(
                (f"nearest to {word}", "itself left out", *map(_neighbour, spaces.values(), [word] * len(spaces)))
            )
    return Table("geometry-relations", "Relations", ("Relation", "Pairs", *spaces), tuple(rows), decimals=4)


def word_plane(name: str, words: Words, relations: Relations) -> Chart:
    """The words on the first two principal axes of those of the relations, with the relations' arrows."""
    needed = {word for pairs in relations.values() for pair in pairs for word in pair}
    others = [word for word in words.names if word not in needed]
    shown = [*sorted(needed), *others[: max(0, MOST_WORDS - len(needed))]]
    number = {word: i for i, word in enumerate(words.names)}
    points = geometry.plane(words.vectors[[number[word] for word in shown]], len(needed) or len(shown))
    axes = ("first principal axis", "second principal axis")
    placed = dict(zip(shown, points, strict=True))
    return arrows("geometry-plane", f"Words in {name}", placed, relations, axes)


def deltas_of(words: Words, pairs: Sequence[tuple[str, str]]) -> Float[np.ndarray, "n d"]:
    """E(target) − E(source) of each pair, of unit vectors.

    Raises:
        QueryError: a word that is not there.
    """
    rows, numbers = geometry.unit(words.vectors), np.array(words.rows(pairs))
    deltas: Float[np.ndarray, "n d"] = rows[numbers[:, 1]] - rows[numbers[:, 0]]
    return deltas


def _analogy_measures(words: Words, relations: Relations) -> dict[str, float | None]:
    several = [words.rows(pairs) for pairs in relations.values() if len(pairs) > 1]
    found: dict[str, float | None] = {}
    for name, exclude in (("inputs left out", True), ("nothing left out", False)):
        counts = [geometry.analogies(words.vectors, pairs, exclude) for pairs in several]
        asked = sum(count for _, count in counts)
        found[f"analogies answered, {name}"] = sum(right for right, _ in counts) / asked if asked else None
    return found


def _answer(words: Words, start: str, delta: Float[np.ndarray, " d"]) -> str:
    best, cosine = geometry.nearest(words.vectors, words.names.index(start), delta)
    return f"{words.names[best]} {cosine:.4f}"


def _neighbour(words: Words, word: str) -> str:
    best, cosine = geometry.neighbour(words.vectors, words.names.index(word))
    return f"{words.names[best]} {cosine:.4f}"


def _head(path: Path) -> Head:
    if path.is_dir():
        return load_heads(path).text
    from data.simat.tensors import read_heads

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            stored = load_file(path)
            return Head((Layer(stored["txt_head.weight"], stored["txt_head.bias"]),))
        except (SafetensorError, OSError, KeyError) as error:
            raise QueryError("the file holds no heads", got=str(path)) from error
    tensors = read_heads(path)
    return Head((Layer(tensors["txt_head.weight"], tensors["txt_head.bias"]),))
