"""What ``simat eval geometry`` measures: a set of words, or a space on a corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data.corpus import Corpus
from eval.bench import open_bench
from eval.figures import Chart
from eval.geometry_spaces import cosine_chart, space_measures, space_table
from eval.geometry_words import after_heads, relation_table, word_measures, word_plane, word_table
from eval.methods import set_up
from eval.spaces import load_space
from eval.tables import Table
from eval.words import RELATIONS, Words, read_edits, read_pairs, read_words_of
from simat.errors import QueryError
from simat.progress import Progress

Relations = Mapping[str, Sequence[tuple[str, str]]]


def measure_words(path: Path, heads: Path | None, pairs: Path | None) -> tuple[list[Table], list[Chart]]:
    """The geometry of words with vectors, as they are and behind a text head.

    Args:
        path: a file of words, a corpus, or a copy of the release; the latter two have queries as well.
        heads: a folder of heads, or a released file of them.
        pairs: CSV of pairs; None for those whose geometry is known.

    Raises:
        CorpusError: no words there.
        QueryError: a pair with a word that is not there.
    """
    words = read_words_of(path)
    relations = words.known(RELATIONS) if pairs is None else read_pairs(pairs)
    for found in relations.values():
        words.rows(found)
    spaces = {"as they are": words}
    if heads is not None:
        spaces[heads.name] = after_heads(words, heads)
    edits = read_edits(path) if path.is_dir() else None
    measured = {name: word_measures(one, relations, edits) for name, one in spaces.items()}
    last = [*spaces][-1]
    charts = [word_plane(f"{path.name}, {last}", spaces[last], relations)]
    return [word_table(measured), relation_table(spaces, relations)], charts


def measure_space(
    encoder: str,
    heads: Path | None,
    corpus: Path | None,
    pairs: Path | None,
    features: Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[list[Table], list[Chart]]:
    """The geometry of an encoder's space: of the words of pairs, and on a SIMAT corpus where it is given.

    Raises:
        QueryError: no corpus and no pairs of words that the encoder could be measured on.
    """
    space = load_space(encoder, heads, features)
    relations: Relations = RELATIONS if pairs is None else read_pairs(pairs)
    names = tuple(sorted({word for found in relations.values() for pair in found for word in pair}))
    if not names:
        raise QueryError("there is nothing to measure the space on", remedy="give --corpus or --pairs")
    words = Words(names, np.asarray(space.texts(names)))
    tables = [word_table({space.name: word_measures(words, relations)}), relation_table({space.name: words}, relations)]
    charts = [word_plane(space.name, words, relations)]
    if corpus is not None:
        setting = set_up(open_bench(Corpus(corpus, "simat"), seed=seed), space, progress=progress)
        tables.append(space_table({space.name: space_measures(setting)}))
        charts.append(cosine_chart(setting))
    return tables, charts
