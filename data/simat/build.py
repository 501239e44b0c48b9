"""From annotated regions to a SIMAT corpus (thesis, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.corpus import CorpusError, CorpusWriter, new_corpus
from data.regions import Region, Triplet
from data.simat.captions import write_captions
from data.simat.oracle import AnnotationOracle, MatrixOracle, Oracle, passing
from data.simat.queries import PER_PAIR, Query, Split, caption_lines, draw_queries, draw_test_regions, matrix_rows
from data.simat.rules import choose_triplets, rule_named
from data.simat.tables import SimatData, write_tables
from data.simat.tensors import read_matrix
from data.visual_genome.crops import cut_crops
from simat.files import sha256_file
from simat.progress import Progress, Silent

REJECTED = {"image_id": "an image whose crops could not be cut", "reason": "why"}
SHOWN = 10  # rejected images named one by one


@dataclass(frozen=True)
class Options:
    """How a corpus is made.

    Attributes:
        rule: a name of ``RULES``.
        split: what dev and test are divided by.
        seed: of the draw and of the split.
        per_pair: regions drawn per ordered pair of triplets.
    """

    rule: str = "release"
    split: Split = "image"
    seed: int = 0
    per_pair: int = PER_PAIR


@dataclass(frozen=True)
class Sources:
    """What a corpus is made from, beside its regions.

    Attributes:
        files: what the regions were read from, for their checksums.
        images: folder with ``{image_id}.jpg``; None makes a corpus without crops.
        captions: captions that others wrote; the grammar writes the rest.
        counts: figures of the reading, to be kept with the corpus's.
    """

    files: Sequence[Path] = ()
    images: Path | None = None
    captions: Mapping[Triplet, str] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)


OracleChoice = Oracle | Path | Literal["annotation", "none"]
"""An oracle; a file with its matrix; the annotations themselves; or no filter."""


def build_corpus(
    regions: Iterable[Region],
    out: Path,
    options: Options | None = None,
    sources: Sources | None = None,
    oracle: OracleChoice = "annotation",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Choose triplets, draw queries, ask the oracle, cut the crops, and write the corpus.

    Args:
        regions: annotations, in the order of their data set: it breaks ties of the triplet rule.
        out: a new or empty folder.

    Returns:
        The counts of the corpus.

    Raises:
        CorpusError: a region twice, no triplet or no query that passes, an oracle that does not fit, or ``out`` holds
            something already.
    """
    options, sources, progress = options or Options(), sources or Sources(), progress or Silent()
    annotations = list(regions)
    with new_corpus(out) as writer:
        data, judge = select(annotations, options, sources.captions, oracle)
        images, cutting = cut_images(writer, data.regions, sources.images, progress)
        counts = {**write_tables(writer, data, images), **cutting, **sources.counts}
        provenance = {
            **asdict(options),
            "steps": asdict(rule_named(options.rule)),
            "oracle": judge,
            "captions given": sum(t in sources.captions for t in data.captions),
            "sources": checksums(sources.files),
        }
        writer.finish("simat", provenance, counts)
    return counts


def select(
    annotations: Sequence[Region], options: Options, given: Mapping[Triplet, str], oracle: OracleChoice
) -> tuple[SimatData, str]:
    """The triplets, regions and queries of a corpus, and the name of the oracle that judged them.

    Raises:
        CorpusError: as :func:`build_corpus`.
    """
    _check_unique(annotations)
    triplets = choose_triplets(annotations, rule_named(options.rule))
    if not triplets:
        raise CorpusError("no triplet passes the rule", got=f"{len(annotations)} regions", remedy="give more of them")
    captions = write_captions(triplets, given)
    drawn = draw_queries(annotations, triplets, np.random.default_rng([options.seed, 0]), options.per_pair)
    regions = list({query.region.region_id: query.region for query in drawn}.values())
    judge = _judge(oracle, annotations, regions, captions)
    queries = drawn if judge is None else passing(drawn, captions, judge)
    if not queries:
        raise CorpusError("no query passes the oracle", got=f"{len(drawn)} candidates")
    numbers = {query.order: number for number, query in enumerate(drawn)}
    test = draw_test_regions(regions, options.split, np.random.default_rng([options.seed, 1]))
    kept: list[Query] = list(queries)
    data = SimatData(regions, captions, kept, [numbers[query.order] for query in kept], test)
    return data, "none" if judge is None else judge.name


def cut_images(
    writer: CorpusWriter, regions: Sequence[Region], images: Path | None, progress: Progress
) -> tuple[dict[int, str], dict[str, Any]]:
    """Cut the crops of a corpus, and list the images that could not be read in a table ``rejected``.

    Returns:
        (file of the crop of each region that has one, counts).
    """
    import pyarrow as pa

    if images is None:
        return {}, {}
    report = cut_crops(regions, images, writer.images, progress)
    rejected = {**dict.fromkeys(report.missing, "no file"), **report.unreadable}
    for image_id, reason in [*rejected.items()][:SHOWN]:
        progress.note(f"image {image_id}: {reason}")
    if len(rejected) > SHOWN:
        progress.note(f"… and {len(rejected) - SHOWN:,} more images: see rejected.parquet")
    if rejected:
        ids, reasons = pa.array([*rejected], pa.int64()), pa.array([*rejected.values()], pa.string())
        writer.add_table("rejected", pa.table({"image_id": ids, "reason": reasons}), REJECTED)
    return {region_id: f"{region_id}.jpg" for region_id in report.regions}, report.as_counts()


def checksums(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of each file by its name."""
    return {path.name: sha256_file(path) for path in files if path.is_file()}


def _judge(
    oracle: OracleChoice, annotations: Sequence[Region], regions: Sequence[Region], captions: Mapping[Triplet, str]
) -> Oracle | None:
    if oracle == "none":
        return None
    if oracle == "annotation":
        return AnnotationOracle(annotations, captions)
    if isinstance(oracle, Path):
        lines = caption_lines(captions)
        columns = {captions[t]: line for t, line in lines.items()}
        return MatrixOracle(read_matrix(oracle), matrix_rows(regions, lines), columns, oracle.name)
    assert isinstance(oracle, Oracle)
    return oracle


def _check_unique(regions: Sequence[Region]) -> None:
    seen: set[int] = set()
    for region in regions:
        if region.region_id in seen:
            raise CorpusError("two regions have one id", got=region.region_id)
        seen.add(region.region_id)
