"""The official release of SIMAT as one corpus, with crops where the images of Visual Genome are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data.corpus import CorpusError, CorpusWriter, new_corpus
from data.simat.build import checksums, cut_images
from data.simat.oracle import MatrixOracle
from data.simat.queries import caption_lines, matrix_rows, neighbour_counts, region_rows, value_counts
from data.simat.release import MATRIX, SMALL, WORDS, Release
from data.simat.tables import SimatData, write_tables
from data.simat.tensors import write_tensors
from simat.files import sha256_file
from simat.progress import Progress, Silent

WORDS_FILE, HEADS_FILE, ORACLE_FILE = "words.safetensors", "{name}.safetensors", "oracle.safetensors"


def import_release(repository: Path, images: Path, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Write the release as a corpus.

    The corpus holds the released regions, captions and queries; the crops of the images that are there; and, as
    safetensors, the words' vectors (``vectors``, their words in the header), each file of heads, and the oracle's
    matrix (``probabilities``: rows ``matrix_row``, columns ``caption_id``), where the release holds them.

    Args:
        repository: the release, with ``simat_db/`` and ``data/``.
        images: folder with the images of Visual Genome.

    Returns:
        The counts of the corpus.

    Raises:
        CorpusError: a small file is missing, a file is damaged, the files do not fit one another, or ``out`` holds
            something already.
    """
    progress = progress or Silent()
    release = Release(repository)
    with new_corpus(out) as writer:
        check_columns(release)
        cut, cutting = cut_images(writer, release.regions, images, progress)
        counts = {**write_tables(writer, _data(release), cut), **cutting}
        tensors = _write_tensors(release, writer)
        for name, use in release.missing().items():
            progress.note(f"the release lacks {name}, {use}")
        files = [repository / name for name in (*SMALL, MATRIX, WORDS)]
        provenance = {
            "release": "facebookresearch/SIMAT",
            "split": "region, as released",
            "oracle": "OSCAR, as released",
            "sources": checksums([*files, *sorted((repository / "data").glob("head_*.pt"))]),
            "missing": release.missing(),
            "tensors": {name: sha256_file(writer.folder / name) for name in tensors},
        }
        writer.finish("simat", provenance, counts)
    return counts


def check_columns(release: Release) -> None:
    """Check that the release's files belong together: every column of queries and both orders, computed anew.

    Raises:
        CorpusError: they do not: a file is truncated or altered.
    """
    rows, queries = release.queries, [row.query for row in release.queries]
    if not {query.goal for query in queries} <= set(release.triplets):
        raise CorpusError("transfos.csv asks for triplets that triplets.csv lacks", got=str(release.folder))
    lines = caption_lines(release.captions)
    ranks = region_rows(release.regions, lines)
    expected: dict[str, Sequence[int | None]] = {
        "norm": neighbour_counts(queries, release.triplets),
        "norm2": value_counts(queries),
        "query_ids": [lines[query.region.triplet] for query in queries],
        "target_ids": [lines[query.goal] for query in queries],
        "dataset_id": [ranks.get(query.region.region_id) for query in queries],
    }
    for name, column in expected.items():
        differing = sum(getattr(row, name) != value for row, value in zip(rows, column, strict=True))
        if differing:
            raise _misfit(f"{name} of transfos.csv", differing)
    if matrix_rows(release.regions, lines) != release.matrix_rows:
        raise _misfit("dataset_id of triplets.csv", None)


def _misfit(column: str, rows: int | None) -> CorpusError:
    return CorpusError(
        f"{column} is not what the other files of the release give",
        got=None if rows is None else f"{rows:,} differing",
        remedy="a file is truncated or altered: get the release again",
    )


def _data(release: Release) -> SimatData:
    return SimatData(
        regions=release.regions,
        captions=release.captions,
        queries=[row.query for row in release.queries],
        numbers=[row.transfo_id for row in release.queries],
        test={row.query.region.region_id for row in release.queries if row.is_test},
    )


def _write_tensors(release: Release, writer: CorpusWriter) -> list[str]:
    names = []
    missing = release.missing()
    if WORDS not in missing:
        words = release.words()
        write_tensors(writer.folder / WORDS_FILE, {"vectors": np.stack([*words.values()])}, {"words": [*words]})
        names.append(WORDS_FILE)
    for name, heads in release.heads().items():
        names.append(HEADS_FILE.format(name=name))
        write_tensors(writer.folder / names[-1], heads)
    if MATRIX not in missing:
        lines = caption_lines(release.captions)
        matrix = release.matrix()
        MatrixOracle(matrix, release.matrix_rows, {release.captions[t]: line for t, line in lines.items()})
        write_tensors(writer.folder / ORACLE_FILE, {"probabilities": matrix})
        names.append(ORACLE_FILE)
    return names
