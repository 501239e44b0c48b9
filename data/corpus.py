"""A corpus: a folder of Parquet tables, images, a manifest with checksums and provenance, and a README of columns.

Any Arrow tool reads the tables: ``datasets.load_dataset("parquet", data_files="CORPUS/queries.parquet")``, pandas,
DuckDB. A corpus is written beside its place and renamed into it: it is there whole, or not at all.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simat.errors import SimatError
from simat.files import atomic, write_text
from simat.manifest import FileEntry

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT, VERSION, MANIFEST, IMAGES = "simat/corpus", 1, "manifest.json", "images"


class CorpusError(SimatError):
    """A corpus, or the data set it is made from, that is missing, damaged, or in the way."""


@dataclass(frozen=True)
class CorpusManifest:
    """What a corpus is and where it comes from.

    Attributes:
        kind: ``simat`` (triplets and queries), ``captions``, or ``edits``.
        tables: Parquet files with their rows and SHA-256.
        images: folder of the images, relative to the corpus or absolute where they stay with their data set.
        provenance: sources with their SHA-256, rules, options, seed.
        counts: figures of the corpus, under stable names.
    """

    kind: str
    tables: tuple[FileEntry, ...]
    images: str
    provenance: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)


class Corpus:
    """A corpus opened for reading.

    Raises:
        CorpusError: no corpus, damaged, of a newer version, or of another kind than ``kind``.
    """

    def __init__(self, folder: Path, kind: str | None = None) -> None:
        self.folder = folder
        self.manifest = _read_manifest(folder)
        if kind is not None and self.manifest.kind != kind:
            raise CorpusError(f"not a corpus of kind {kind!r}", got=f"{self.manifest.kind!r} in {folder}")

    def table(self, name: str) -> pa.Table:
        """The table ``name``, checked against the manifest.

        Raises:
            CorpusError: no such table.
            StorageError: it was truncated or altered.
        """
        import pyarrow.parquet as pq

        entries = {Path(entry.name).stem: entry for entry in self.manifest.tables}
        if name not in entries:
            raise CorpusError(f"the corpus has no table {name!r}", got=str(self.folder), remedy=f"it has {[*entries]}")
        return pq.read_table(entries[name].check(self.folder))

    @property
    def images(self) -> Path:
        """The folder of the images."""
        return self.folder / self.manifest.images


class CorpusWriter:
    """Collects the tables and images of one corpus; see :func:`new_corpus`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images = folder / IMAGES
        self._tables: list[FileEntry] = []
        self._columns: list[str] = []

    def add_table(self, name: str, table: pa.Table, columns: Mapping[str, str]) -> None:
        """Write ``name.parquet``.

        Args:
            table: the rows.
            columns: what each column is, for the README; exactly the table's columns.
        """
        import pyarrow.parquet as pq

        assert list(columns) == table.column_names, f"{name}: {[*columns]} instead of {table.column_names}"
        with atomic(self.folder / f"{name}.parquet") as temporary:
            pq.write_table(table, temporary, compression="zstd")
        self._tables.append(FileEntry.of(self.folder, f"{name}.parquet", table.num_rows))
        self._columns += [f"\n## {name}.parquet ({table.num_rows:,} rows)\n"]
        self._columns += [f"- `{c}` {table.schema.field(c).type}: {text}" for c, text in columns.items()]

    def finish(self, kind: str, provenance: Mapping[str, Any], counts: Mapping[str, Any], images: str = IMAGES) -> None:
        """Write the README and, last, the manifest."""
        manifest = CorpusManifest(kind, tuple(self._tables), images, provenance, counts)
        lines = [f"# A corpus of kind {kind}", "", *(f"- {name}: {value}" for name, value in counts.items())]
        write_text(self.folder / "README.md", "\n".join([*lines, *self._columns]) + "\n")
        document = {"format": FORMAT, "version": VERSION, **asdict(manifest)}
        write_text(self.folder / MANIFEST, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


@contextmanager
def new_corpus(folder: Path) -> Iterator[CorpusWriter]:
    """Give a writer whose corpus appears at ``folder`` when the block ends well, and leaves nothing when it does not.

    Raises:
        CorpusError: something is there already; it is never overwritten.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CorpusError("there is something here already", got=str(folder), remedy="give a new or empty folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    (temporary / IMAGES).mkdir(parents=True)
    try:
        yield CorpusWriter(temporary)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _read_manifest(folder: Path) -> CorpusManifest:
    path = folder / MANIFEST
    if not path.is_file():
        raise CorpusError("no corpus here", got=str(folder), remedy="make one with 'simat data'")
    try:
        document = json.loads(path.read_bytes())
        if document.pop("format") != FORMAT:
            raise CorpusError("not a corpus", got=str(folder))
        if document.pop("version") > VERSION:
            raise CorpusError("the corpus is of a newer version", got=str(folder), remedy="upgrade simat")
        document["tables"] = tuple(FileEntry(**entry) for entry in document["tables"])
        return CorpusManifest(**document)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError("the manifest of the corpus is damaged", got=str(path)) from error
