"""Which column of a stranger's metadata becomes which of an embedding set's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexing.exchange.paths import Relative
from simat.embeddings import schema as part_schema

if TYPE_CHECKING:
    import pyarrow as pa

PATHS = ("image_path", "path", "file_name", "filename", "key")  # the first that is there names the picture
CAPTIONS = ("caption", "text", "TEXT")
SHA256 = "^[0-9a-f]{64}$"
LARGEST_SIDE = 2**31 - 1


@dataclass(frozen=True)
class Columns:
    """How the metadata of a source is stored.

    Attributes:
        path: names the picture; without it, the row's number does.
        raw: bytes of names that are no Unicode.
        caption: words about the picture.
        sha256: of its file, in hexadecimal.
        width: in pixels.
        height: in pixels.
        extras: further columns under their old and new names.
        schema: of the part that is written.
    """

    path: str | None
    raw: str | None
    caption: str | None
    sha256: str | None
    width: str | None
    height: str | None
    extras: tuple[tuple[str, str], ...]
    schema: pa.Schema

    @classmethod
    def of(cls, source: pa.Schema, dim: int, numbered: bool = False) -> Columns:
        """The plan for a source.

        Args:
            source: columns of its metadata.
            dim: length of a vector.
            numbered: whether its column ``id`` is ours, and new with every import.
        """
        import pyarrow as pa

        kinds = {field.name: field.type for field in source}
        first = _First(kinds)
        path, caption = first.of(PATHS, pa.types.is_string), first.of(CAPTIONS, pa.types.is_string)
        raw, sha256 = first.of(("path_bytes",), pa.types.is_binary), first.of(("sha256",), pa.types.is_string)
        width, height = first.of(("width",), _is_number), first.of(("height",), _is_number)
        used = {path, raw, caption, sha256, width, height, "id" if numbered else None}
        fixed = part_schema(dim)
        extras = _named_apart([name for name in source.names if name not in used], fixed.names)
        kept = [pa.field(new, kinds[old]) for old, new in extras]
        fields = [*fixed][:-1] + kept + [fixed.field("embedding")]
        return cls(path, raw, caption, sha256, width, height, tuple(extras), pa.schema(fields))

    def take(self, table: pa.Table, count: int, first: int, relative: Relative) -> dict[str, pa.Array]:
        """The columns of a part, but for ``id`` and ``embedding``.

        Args:
            table: metadata of the source; it may have no column.
            count: its rows.
            first: number of its first row.
            relative: makes paths relative to the root.

        Raises:
            StorageError: a path that leads out of the root.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        def column(name: str | None, kind: pa.DataType) -> pa.Array:
            return table[name].combine_chunks().cast(kind, safe=False) if name else pa.nulls(count, kind)

        numbers = pa.array(range(first, first + count)).cast(pa.string())
        paths = relative(pc.coalesce(column(self.path, pa.string()), numbers))
        sha256 = pc.fill_null(column(self.sha256, pa.string()), "")
        return {
            "path": paths,
            "path_bytes": _of_the_same_name(column(self.raw, pa.binary()), paths),
            "sha256": pc.if_else(pc.match_substring_regex(sha256, SHA256), sha256, ""),
            "width": _side(column(self.width, pa.float64())),
            "height": _side(column(self.height, pa.float64())),
            "caption": column(self.caption, pa.string()),
            **{new: table[old].combine_chunks() for old, new in self.extras},
        }


class _First:
    """Finds columns by name and type."""

    def __init__(self, kinds: dict[str, pa.DataType]) -> None:
        self._kinds = kinds

    def of(self, names: tuple[str, ...], fits: Callable[[pa.DataType], bool]) -> str | None:
        return next((name for name in names if name in self._kinds and fits(self._kinds[name])), None)


def _is_number(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _side(values: pa.Array) -> pa.Array:
    """Pixels as whole numbers; 0 where they are not known."""
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pc.fill_null(pc.and_(pc.greater_equal(values, 0), pc.less_equal(values, LARGEST_SIDE)), False)
    return pc.if_else(known, values, 0.0).cast(pa.int32(), safe=False)


def _of_the_same_name(raw: pa.Array, paths: pa.Array) -> pa.Array:
    """The bytes of names, where they are those of the name that is shown."""
    import pyarrow as pa

    if raw.null_count == len(raw):
        return raw
    pairs = zip(raw.to_pylist(), paths.to_pylist(), strict=True)
    return pa.array(
        [b if b is not None and b.decode("utf-8", "replace") == name else None for b, name in pairs], pa.binary()
    )


def _named_apart(names: list[str], taken: list[str]) -> list[tuple[str, str]]:
    """Names that differ from each other and from ours in more than the case of letters: SQL does not see case."""
    known, pairs = {name.lower() for name in taken}, []
    for name in names:
        new, number = name or "column", 2
        if new.lower() in known:
            new = f"source_{new}"
        while new.lower() in known:
            new, number = f"source_{name}_{number}", number + 1
        known.add(new.lower())
        pairs.append((name, new))
    return pairs
