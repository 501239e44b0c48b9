"""The tables of a SIMAT corpus: regions, triplets, queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from data.corpus import CorpusWriter
from data.regions import Region, Triplet
from data.simat.queries import (
    Query,
    caption_lines,
    matrix_rows,
    neighbour_counts,
    region_rows,
    score_weights,
    value_counts,
)
from data.simat.rules import neighbours
from data.simat.vocabulary import FIELDS

if TYPE_CHECKING:
    import pyarrow as pa

REGIONS = {
    "region_id": "unique; the row of this table is its rank by (caption_id, region_id)",
    "image_id": "the image of the data set that it lies in",
    "subj": "subject", "rel": "relation", "obj": "object",
    "subj_attr": "attributes of the subject", "obj_attr": "attributes of the object",
    "subj_id": "the data set's id of the subject", "obj_id": "the data set's id of the object",
    "subj_bbox": "box of the subject: x0, y0, x1, y1 in pixels of the image",
    "obj_bbox": "box of the object", "bbox": "box of the crop; contains subject and object",
    "caption_id": "row of the triplet in triplets.parquet",
    "matrix_row": "rank by (caption_id, region_id as text): row in the oracle's matrix",
    "is_test": "of the test domain; false for dev, and in the release where no query starts",
    "image": "file of the crop in the folder of images; null where there is none",
}  # fmt: skip
TRIPLETS = {
    "caption_id": "row of this table; captions are sorted by code point",
    "subj": "subject", "rel": "relation", "obj": "object", "caption": "sentence for the triplet",
    "regions": "regions of the triplet in regions.parquet", "norm": "triplets at Hamming distance 1",
}  # fmt: skip
QUERIES = {
    "transfo_id": "number of the query among the candidates, before the oracle's filter",
    "region_id": "the query image",
    "field": "slot of the triplet to change: subj, rel or obj",
    "value": "the word to change", "target": "the word to put there",
    "norm": "triplets at Hamming distance 1 from the source triplet",
    "query_ids": "caption_id of the source triplet",
    "target_ids": "caption_id of the triplet that a right answer shows",
    "dataset_id": "row of the region in regions.parquet",
    "norm2": "queries, of both domains and all fields, that change the same word",
    "is_test": "of the test domain, not of dev",
    "weight": "norm2^(-1/2), normalised inside the domain: the query's weight in the SIMAT score",
}  # fmt: skip


@dataclass(frozen=True)
class SimatData:
    """What the tables are made from.

    Attributes:
        regions: the retrieval database.
        captions: caption of every triplet.
        queries: in the order of the table.
        numbers: ``transfo_id`` of each query.
        test: ids of the regions of the test domain.
    """

    regions: Sequence[Region]
    captions: Mapping[Triplet, str]
    queries: Sequence[Query]
    numbers: Sequence[int]
    test: Collection[int]


def write_tables(writer: CorpusWriter, data: SimatData, images: Mapping[int, str]) -> dict[str, Any]:
    """Write the three tables.

    Args:
        images: file of the crop of each region id that has one.

    Returns:
        Counts of the corpus, under stable names.
    """
    lines = caption_lines(data.captions)
    writer.add_table("regions", regions_table(data, lines, images), REGIONS)
    writer.add_table("triplets", triplets_table(data, lines), TRIPLETS)
    writer.add_table("queries", queries_table(data, lines), QUERIES)
    return counts(data, images)


def counts(data: SimatData, images: Mapping[int, str]) -> dict[str, Any]:
    """Figures of a corpus."""
    fields = Counter(query.field for query in data.queries)
    tests = sum(query.region.region_id in data.test for query in data.queries)
    return {
        "triplets": len(data.captions),
        "regions": len(data.regions),
        "images": len({region.image_id for region in data.regions}),
        "crops": len(images),
        "queries": len(data.queries),
        **{f"queries {field}": fields[field] for field in FIELDS},
        "queries dev": len(data.queries) - tests,
        "queries test": tests,
    }


def regions_table(data: SimatData, lines: Mapping[Triplet, int], images: Mapping[int, str]) -> pa.Table:
    """One row per region, by (caption, region id)."""
    import pyarrow as pa

    box, words = pa.list_(pa.int32(), 4), pa.list_(pa.string())
    text_rows = matrix_rows(data.regions, lines)
    types = [*[pa.int64()] * 2, *[pa.string()] * 3, words, words, *[pa.int64()] * 2, box, box, box,
             pa.int32(), pa.int32(), pa.bool_(), pa.string()]  # fmt: skip
    rows = [
        (r.region_id, r.image_id, *r.triplet, list(r.subject_attributes), list(r.object_attributes), r.subject_id,
         r.object_id, list(r.subject_box), list(r.object_box), list(r.crop), lines[r.triplet],
         text_rows[r.region_id], r.region_id in data.test, images.get(r.region_id))
        for r in sorted(data.regions, key=lambda r: (lines[r.triplet], r.region_id))
    ]  # fmt: skip
    return _table(REGIONS, types, rows)


def triplets_table(data: SimatData, lines: Mapping[Triplet, int]) -> pa.Table:
    """One row per triplet, in the order of the captions."""
    import pyarrow as pa

    found = Counter(region.triplet for region in data.regions)
    near = neighbours(lines)
    types = [pa.int32(), *[pa.string()] * 4, pa.int32(), pa.int32()]
    rows = [(line, *t, data.captions[t], found[t], len(near[t])) for t, line in lines.items()]
    return _table(TRIPLETS, types, rows)


def queries_table(data: SimatData, lines: Mapping[Triplet, int]) -> pa.Table:
    """One row per query, in the order given."""
    import pyarrow as pa

    norm2 = value_counts(data.queries)
    test = [query.region.region_id in data.test for query in data.queries]
    weights = score_weights(np.array(norm2, dtype=np.int64), np.array(test, dtype=bool))
    ranks = region_rows(data.regions, lines)
    types = [*[pa.int64()] * 2, *[pa.string()] * 3, *[pa.int32()] * 5, pa.bool_(), pa.float64()]
    rows = [
        (number, q.region.region_id, q.field, q.value, q.target, norm, lines[q.region.triplet], lines[q.goal],
         ranks[q.region.region_id], *rest)
        for number, q, norm, *rest in zip(
            data.numbers, data.queries, neighbour_counts(data.queries, lines), norm2, test, weights, strict=True
        )
    ]  # fmt: skip
    return _table(QUERIES, types, rows)


def _table(columns: Mapping[str, str], types: Sequence[Any], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    import pyarrow as pa

    schema = pa.schema([*zip(columns, types, strict=True)])
    values = [*zip(*rows, strict=True)] if rows else [()] * len(schema)
    arrays = [pa.array(list(column), field.type) for column, field in zip(values, schema, strict=True)]
    return pa.table(arrays, schema=schema)
