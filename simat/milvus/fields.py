"""From the columns of an embedding part to the fields of a collection, and back to what is known of an image."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simat.embeddings import ImageRow, join_path
from simat.milvus.address import NAME

if TYPE_CHECKING:
    import pyarrow as pa

ID, VECTOR, RAW = "id", "vector", "path_bytes"
LONGEST = 65_535  # bytes of a text in Milvus
KNOWN = ("path", RAW, "sha256", "width", "height", "caption")
# Words of Milvus's expressions and fields that every collection has: of a server, and of Milvus Lite.
RESERVED = {
    *("and", "or", "not", "in", "like", "is", "null", "true", "false", "exists", "iso", "interval", "threshold"),
    *("match", "match_all", "match_any", "match_least", "match_most", "match_exact", "text_match", "phrase_match"),
    *("minimum_should_match", "random_sample", "element_filter", "array_length"),
    *(f"{kind}_contains{how}" for kind in ("json", "array") for how in ("", "_all", "_any")),
    *(f"st_{how}" for how in ("equals", "touches", "overlaps", "crosses", "contains", "intersects", "within")),
    *("st_dwithin", "st_isvalid", "rowid", "timestamp", ID, VECTOR),
}
INTEGER, DOUBLE, SINGLE, TEXT, TRUTH, OTHER = "integer", "double", "single", "text", "truth", "other"


@dataclass
class Cut:
    """What did not fit into Milvus as it is.

    Attributes:
        texts: longer than ``LONGEST`` bytes: cut there.
        numbers: not finite: unknown.
    """

    texts: int = 0
    numbers: int = 0


def columns_of(types: Mapping[str, pa.DataType]) -> dict[str, tuple[str, str]]:
    """The field and the kind of every column; names that Milvus cannot have are numbered.

    Args:
        types: of the columns of an embedding set, without its vectors.
    """
    columns: dict[str, tuple[str, str]] = {}
    taken = {name.lower() for name in types}
    for number, (column, kind) in enumerate(types.items()):
        name = column
        if column != ID and (NAME.fullmatch(column) is None or column.lower() in RESERVED):
            name = f"column_{number}"
            while name in taken:
                name += "_"
        columns[column] = (name, _kind(kind))
    return columns


def collection_schema(columns: Mapping[str, tuple[str, str]], dim: int) -> Any:
    """The schema of a collection with these columns and ``dim``-d vectors."""
    from pymilvus import DataType, MilvusClient

    kinds = {INTEGER: DataType.INT64, DOUBLE: DataType.DOUBLE, SINGLE: DataType.DOUBLE, TRUTH: DataType.BOOL}
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(ID, DataType.INT64, is_primary=True)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dim)
    for name, kind in columns.values():
        if name == ID:
            continue
        if kind in kinds:
            schema.add_field(name, kinds[kind], nullable=True)
        else:
            schema.add_field(name, DataType.VARCHAR, max_length=LONGEST, nullable=True)
    return schema


def entities(table: pa.Table, columns: Mapping[str, tuple[str, str]], cut: Cut) -> Iterator[dict[str, Any]]:
    """The rows of a part as Milvus takes them."""
    from simat.embeddings import embedding_column

    vectors = embedding_column(table).astype("float32")
    plain = table.select([name for name in columns if name in table.column_names]).to_pylist()
    for vector, row in zip(vectors, plain, strict=True):
        told = {field: _value(row.get(name), kind, cut) for name, (field, kind) in columns.items()}
        yield {**told, VECTOR: vector}


def image_row(entity: Mapping[str, Any]) -> ImageRow:
    """What is known of an image, from the fields ``KNOWN`` of its row."""
    raw = entity.get(RAW)
    path = join_path(str(entity["path"]), None if raw is None else bytes.fromhex(raw))
    return ImageRow(path, str(entity["sha256"]), int(entity["width"]), int(entity["height"]), entity.get("caption"))


def batches(rows: Sequence[dict[str, Any]], limit: int) -> Iterator[list[dict[str, Any]]]:
    """The rows in runs whose texts and vectors take at most ``limit`` bytes, one row at least."""
    batch: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        weight = sum(_weight(value) for value in row.values())
        if batch and size + weight > limit:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += weight
    if batch:
        yield batch


def _kind(kind: pa.DataType) -> str:
    from pyarrow import types

    if types.is_boolean(kind):
        return TRUTH
    if types.is_integer(kind):
        return OTHER if types.is_uint64(kind) else INTEGER
    if types.is_floating(kind):
        return DOUBLE if types.is_float64(kind) else SINGLE
    return TEXT if types.is_string(kind) or types.is_large_string(kind) else OTHER


def _value(value: Any, kind: str, cut: Cut) -> Any:
    if value is None or kind in {INTEGER, TRUTH}:
        return value
    if kind in {DOUBLE, SINGLE}:
        if math.isfinite(value):
            return value
        cut.numbers += 1
        return None
    return _text(value, cut)


def _text(value: Any, cut: Cut) -> str:
    if isinstance(value, bytes):
        value = value.hex()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    raw = text.encode()
    if len(raw) <= LONGEST:
        return text
    cut.texts += 1
    return raw[:LONGEST].decode("utf-8", "ignore")


def _weight(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return int(getattr(value, "nbytes", 8))
