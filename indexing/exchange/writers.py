"""Rows of an index into the files of every layout; a file is whole or not there."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from indexing.exchange.lance_files import require_lance
from indexing.exchange.paths import absolute
from indexing.exchange.stream import RowStream, file_ranges
from simat.embeddings import ROW_GROUP, embedding_column
from simat.files import atomic, remove_leftovers, sync_folder
from simat.progress import Progress

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES, METADATA = "img_emb", "metadata"
VECTOR_GROUP = 8192  # rows of a row group of vectors: 16 MB at 512 numbers


def write_clip_retrieval(stream: RowStream, folder: Path, rows_per_file: int, progress: Progress) -> None:
    """``img_emb/img_emb_{i}.npy`` and ``metadata/metadata_{i}.parquet``, numbered with as many digits as it takes."""
    ranges = file_ranges(len(stream), rows_per_file)
    digits = int(math.log10(len(ranges))) + 1
    for name in (IMAGES, METADATA):
        (folder / name).mkdir(exist_ok=True)
        remove_leftovers(folder / name)
    for number, (start, stop) in enumerate(ranges):
        vectors = folder / IMAGES / f"{IMAGES}_{number:0{digits}}.npy"
        metadata = folder / METADATA / f"{METADATA}_{number:0{digits}}.parquet"
        if not (vectors.exists() and metadata.exists()):
            _write_pair(stream, start, stop, vectors, metadata, progress)
        else:
            progress.advance(stop - start)


def _write_pair(stream: RowStream, start: int, stop: int, vectors: Path, metadata: Path, progress: Progress) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    known, schema = stream.embeddings.manifest, _metadata_schema(stream.schema)
    header = {"descr": "<f2", "fortran_order": False, "shape": (stop - start, stream.dim)}
    with atomic(vectors) as unfinished, unfinished.open("wb") as file, atomic(metadata) as other:
        np.lib.format.write_array_header_1_0(file, header)
        with pq.ParquetWriter(other, schema, compression="zstd") as writer:
            for table in stream.read(start, stop):
                file.write(np.ascontiguousarray(embedding_column(table), "<f2").data)
                paths = absolute(table["path"].combine_chunks(), known.root, known.folders)
                others = [table[name] for name in schema.names[1:]]
                writer.write_table(pa.table([paths, *others], schema=schema))
                progress.advance(len(table))


def _metadata_schema(schema: pa.Schema) -> pa.Schema:
    """``image_path`` first, as clip-retrieval has it, then everything else that is known."""
    import pyarrow as pa

    left_out = {"id", "path", "embedding"}
    return pa.schema([pa.field("image_path", pa.string()), *(f for f in schema if f.name not in left_out)])


def write_parquet(stream: RowStream, folder: Path, rows_per_file: int, progress: Progress) -> None:
    """``part-{i}.parquet`` with all columns, ids from 0, and vectors as lists of float32."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.list_(pa.field("element", pa.float32(), nullable=False), stream.dim)
    place = stream.schema.get_field_index("embedding")
    schema = stream.schema.set(place, pa.field("embedding", kind, nullable=False))
    plain = [name for name in schema.names if name != "embedding"]
    for number, (start, stop) in enumerate(file_ranges(len(stream), rows_per_file)):
        path = folder / f"part-{number:06}.parquet"
        if path.exists():
            progress.advance(stop - start)
            continue
        with (
            atomic(path) as unfinished,
            pq.ParquetWriter(unfinished, schema, compression="zstd", use_dictionary=plain) as writer,
        ):
            for table in _numbered(stream, start, stop, progress):
                writer.write_table(table.cast(schema), row_group_size=VECTOR_GROUP)


def write_lance(stream: RowStream, path: Path, rows_per_file: int, progress: Progress) -> None:
    """One dataset with all columns, ids from 0, and vectors as lists of float16."""
    import pyarrow as pa

    lance = require_lance()
    if path.exists():
        progress.advance(len(stream))
        return
    unfinished = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # it cannot be gone on with
    batches = (
        batch for table in _numbered(stream, 0, len(stream), progress) for batch in table.to_batches(VECTOR_GROUP)
    )
    reader = pa.RecordBatchReader.from_batches(stream.schema, batches)
    lance.write_dataset(reader, str(unfinished), max_rows_per_file=max(rows_per_file, ROW_GROUP))
    unfinished.replace(path)
    sync_folder(path.parent)


def _numbered(stream: RowStream, start: int, stop: int, progress: Progress) -> Iterator[pa.Table]:
    """The rows with ids that run on, whatever was removed before them."""
    import pyarrow as pa

    place = stream.schema.get_field_index("id")
    for table in stream.read(start, stop):
        ids = pa.array(np.arange(start, start + len(table)), pa.int64())
        yield table.set_column(place, stream.schema.field("id"), ids)
        start += len(table)
        progress.advance(len(table))
