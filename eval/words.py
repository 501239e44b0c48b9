"""Words with vectors, and pairs of words by relation: what the geometry of a text space is measured on."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from data.corpus import MANIFEST, Corpus, CorpusError
from data.simat.importing import WORDS_FILE
from data.simat.release import WORDS, Release
from data.simat.tensors import read_words
from simat.errors import QueryError

RELATIONS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "gender": (("man", "woman"), ("boy", "girl")),
    "age": (("man", "boy"), ("woman", "girl")),
    "animal": (("dog", "cat"), ("cow", "horse")),
    "ground": (("grass", "snow"), ("field", "beach")),
}
"""Pairs whose geometry is known for the released words."""


@dataclass(frozen=True)
class Words:
    """Words and their vectors.

    Attributes:
        names: the words.
        vectors: one row per word, of the length they come with.
    """

    names: tuple[str, ...]
    vectors: Float[np.ndarray, "n d"]

    def rows(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[int, int]]:
        """Pairs of words as pairs of rows.

        Raises:
            QueryError: a word that is not there.
        """
        number = {name: i for i, name in enumerate(self.names)}
        unknown = sorted({word for pair in pairs for word in pair if word not in number})
        if unknown:
            raise QueryError(f"the words lack {unknown[0]!r}", got=f"{len(self.names)} words", remedy="see --pairs")
        return [(number[source], number[target]) for source, target in pairs]

    def known(self, relations: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, list[tuple[str, str]]]:
        """The pairs whose words are both there, of the relations that have any."""
        names = set(self.names)
        found = {name: [pair for pair in pairs if names >= set(pair)] for name, pairs in relations.items()}
        return {name: pairs for name, pairs in found.items() if pairs}


@dataclass(frozen=True)
class Edits:
    """Edits with the weights of the queries that ask for them.

    Attributes:
        pairs: (word, other word), one per query.
        weights: norm2^(-1/2), of any sum.
    """

    pairs: tuple[tuple[str, str], ...]
    weights: Float[np.ndarray, " q"]


def read_words_of(path: Path) -> Words:
    """The words of a file (``.ptd`` or ``.safetensors``), of a corpus, or of a copy of the release.

    Raises:
        CorpusError: none there, or damaged.
    """
    if path.is_dir():
        path = path / (WORDS_FILE if (path / MANIFEST).is_file() else WORDS)
    if path.suffix != ".safetensors":
        found = read_words(path)
        return Words(tuple(found), np.stack([*found.values()]))
    return _read_safetensors(path)


def read_edits(folder: Path) -> Edits | None:
    """The queries of a SIMAT corpus or of a copy of the release; None where a folder is neither."""
    if (folder / MANIFEST).is_file():
        table = Corpus(folder, "simat").table("queries").select(["value", "target", "norm2"]).to_pydict()
        rows = list(zip(table["value"], table["target"], strict=True))
        return Edits(tuple(rows), np.array(table["norm2"], np.float64) ** -0.5)
    if (folder / "simat_db").is_dir():
        queries = Release(folder).queries
        pairs = tuple((row.query.value, row.query.target) for row in queries)
        return Edits(pairs, np.array([row.norm2 for row in queries], np.float64) ** -0.5)
    return None


def read_pairs(path: Path) -> dict[str, list[tuple[str, str]]]:
    """Pairs of words by relation from a CSV file ``relation,source,target`` with that header.

    Raises:
        QueryError: missing, another header, or no pair.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            header = reader.fieldnames
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise QueryError("cannot read the pairs", got=str(path), remedy=str(error)) from error
    if header is None or not {"relation", "source", "target"} <= set(header) or not rows:
        remedy = "a CSV file with the header relation,source,target and a pair a line"
        raise QueryError("the file holds no pairs of words", got=str(path), remedy=remedy)
    found: dict[str, list[tuple[str, str]]] = {}
    for line, row in enumerate(rows, 2):
        if not all(row[name] for name in ("relation", "source", "target")):
            raise QueryError(f"line {line} of {path.name} is no pair", got=str(path))
        found.setdefault(row["relation"].strip(), []).append((row["source"].strip(), row["target"].strip()))
    return found


def _read_safetensors(path: Path) -> Words:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise CorpusError(f"{path.name} is missing", got=str(path.parent))
    try:
        file: Any
        with safe_open(path, "numpy") as file:
            names = json.loads((file.metadata() or {})["words"])
            return Words(tuple(names), file.get_tensor("vectors"))
    except (SafetensorError, KeyError, ValueError) as error:
        raise CorpusError(f"{path.name} does not hold words and vectors", got=str(path)) from error
