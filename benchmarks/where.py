"""What a filter costs by itself: the first over a column, another over the same columns, and one asked for again.

The metadata of N images is generated, in parts like those of a build, and read as a search with ``--where`` reads it.
``first`` includes reading the columns from their Parquet files, ``other`` finds them in memory, ``again`` finds the
selection; all in milliseconds of the clock, and of all threads' work (``cpu``), with DuckDB loaded (``load``) and the
files opened (``open``).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.common import Facts, parser, run, temporary_folder
from simat.embeddings import ROW_GROUP, EmbeddingSet, schema
from simat.manifest import EmbeddingManifest, FileEntry, write_manifest
from simat.types import EmbeddingSpace
from simat.where import Filter, Filters

PART, DIM = 4096, 8
WORDS = "a the dog cat beach sea red blue person snow house car tree photo of on in with two at night small old"
FILTERS = {  # two over the same columns
    "number": ("width >= 640", "width < 320"),
    "text": ("caption like '%beach%'", "caption like '%snow%'"),
    "any case": ("caption ilike '%Beach%'", "caption ilike '%SNOW%'"),
    "expression": ("regexp_matches(caption, 'dog.*cat')", "regexp_matches(caption, 'red .*car')"),
    "both": ("width >= 640 and caption like '%beach%'", "width < 320 or caption like '%snow%'"),
}


def measure(options: argparse.Namespace) -> Facts:
    """Milliseconds of every filter, and how many images pass."""
    with temporary_folder() as folder:
        generate(folder, options.rows)
        loading = timed(lambda: Filter.parse("true"))
        facts: Facts = {}
        for name, (first, other) in FILTERS.items():
            filters = Filters(EmbeddingSet(folder))
            asked: dict[str, Callable[[], object]] = {
                "open": partial(getattr, filters.columns, "types"),
                "first": partial(filters.selection, first),
                "other": partial(filters.selection, other),
                "again": partial(filters.selection, first),
            }
            spent = {what: timed(work) for what, work in asked.items()}
            facts[name] = {"passing": filters.selection(first).count / options.rows, **spent}
    return {"rows": options.rows, "load": loading, **facts}


def timed(work: Callable[[], object]) -> Facts:
    """Milliseconds of a call."""
    started, worked = time.perf_counter(), time.process_time()
    work()
    return {"ms": 1000 * (time.perf_counter() - started), "cpu_ms": 1000 * (time.process_time() - worked)}


def generate(folder: Path, rows: int) -> None:
    """An embedding set of random metadata, without pictures."""
    random, entries, words = np.random.default_rng(0), [], np.array(WORDS.split())
    for first in range(0, rows, PART):
        count = min(PART, rows - first)
        lines = words[random.integers(0, len(words), (count, 9))]
        vectors = np.full(count * DIM, DIM**-0.5, np.float16)
        numbers = range(first, first + count)
        columns = [
            pa.array(numbers, pa.int64()),
            pa.array([f"{i // 1000:05}/{i:09}.jpg" for i in numbers]),
            pa.nulls(count, pa.binary()),
            pa.array([f"{i:064x}" for i in numbers]),
            pa.array(random.integers(100, 2000, count).astype(np.int32)),
            pa.array(random.integers(100, 2000, count).astype(np.int32)),
            pa.array([" ".join(line) for line in lines]),
            pa.FixedSizeListArray.from_arrays(pa.array(vectors), type=schema(DIM).field("embedding").type),
        ]
        name = f"part-{first // PART:06}.parquet"
        table = pa.table(columns, schema=schema(DIM))
        compression = {column: "NONE" if column == "embedding" else "ZSTD" for column in table.column_names}
        settings = {"row_group_size": ROW_GROUP, "use_dictionary": False, "write_statistics": False}
        pq.write_table(table, folder / name, compression=compression, **settings)
        entries.append(FileEntry.of(folder, name, count))
    space = EmbeddingSpace("noise", "0" * 64, DIM)
    write_manifest(folder, EmbeddingManifest(space, "/nowhere", tuple(entries), rows))


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000, help="images")
    run(arguments, measure)
