"""From blocks of vectors to the parts of an embedding set; a killed run goes on at the part it was in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from indexing.build import REJECTED, NothingToIndexError
from indexing.config import BuildConfig
from indexing.exchange.checks import checked
from indexing.exchange.columns import Columns
from indexing.exchange.likeness import require_likeness
from indexing.exchange.opening import Source
from indexing.exchange.parts import PartWriter, new_part
from indexing.exchange.paths import Relative
from indexing.exchange.pictures import Pictures
from indexing.exchange.segments import Blocks, aligned
from simat.embeddings import Rejected, join_path, read_rejected, write_rejected
from simat.errors import StorageError
from simat.files import remove_leftovers
from simat.manifest import EmbeddingManifest, FileEntry, write_manifest
from simat.progress import Progress
from simat.types import EmbeddingSpace, ImageEncoder

COMPARED = 256  # rows whose pictures are looked for, to compare some with what the encoder makes of them


@dataclass(frozen=True)
class Wanted:
    """How vectors are read.

    Attributes:
        encoder: spec of the encoder that made them; None where an export says so itself, or nobody knows.
        root: folder of the pictures, which are then read once for their size and SHA-256, and the first of them
            compared with what the encoder makes of them; None where there are none.
        column: of the vectors in Parquet and Lance files.
        modality: ``image`` or ``text``, of clip-retrieval's two folders.
        normalise: make unit rows of rows that are none.
    """

    encoder: str | None = None
    root: Path | None = None
    column: str = "embedding"
    modality: str = "image"
    normalise: bool = False


class Importer:
    """Writes the parts of one embedding set.

    Args:
        source: what is imported.
        folder: where the parts go.
        config: with the size of a part.
        space: of the vectors.
        wanted: how they are read.
        progress: told after every block.
    """

    def __init__(
        self,
        source: Source,
        folder: Path,
        config: BuildConfig,
        space: EmbeddingSpace,
        wanted: Wanted,
        progress: Progress,
    ) -> None:
        self._vectors, self._folder, self._config, self._space = source.vectors, folder, config, space
        self._normalise, self._progress = wanted.normalise, progress
        self._columns = Columns.of(source.vectors.schema, space.dim, numbered=source.card is not None)
        before = source.card.root if source.card else None
        self._folders = dict(source.card.folders) if source.card else {}
        self._root = _absolute(wanted.root) if wanted.root else before or _root(source, self._columns)
        self._relative = Relative(self._root, before, self._folders)
        self._pictures = Pictures(wanted.root) if wanted.root and wanted.modality == "image" else None

    def run(self, encoder: ImageEncoder | None) -> None:
        """Write what is missing, and the manifest; the encoder, where there is one, must make these vectors."""
        remove_leftovers(self._folder)
        size = self._config.part_rows(len(self._vectors))
        starts = range(0, len(self._vectors), size)
        done = next((n for n in range(len(starts)) if not self._part(n).exists()), len(starts))
        if encoder is not None and self._pictures is not None and not done:
            self._compare(encoder)
        self._progress.start("import", len(self._vectors), "vectors")
        # One stream over all parts: who begins in the middle of a row group decodes it from its start.
        blocks = aligned(self._vectors.read(done * size, len(self._vectors)), size)
        entries: list[FileEntry] = []
        rows = 0
        for number, start in enumerate(starts):
            stop = min(start + size, len(self._vectors))
            if number < done:
                self._progress.advance(stop - start)
            else:
                self._write(number, start, stop, rows, blocks)
            entries.append(self._entry(number))
            rows += entries[-1].rows
        self._finish(entries, rows)

    @property
    def has_parts(self) -> bool:
        """Whether any part is finished."""
        return any(self._folder.glob("part-*.parquet"))

    def _compare(self, encoder: ImageEncoder) -> None:
        for vectors, table in self._vectors.read(0, min(COMPARED, len(self._vectors))):
            columns = self._columns.take(table, len(vectors), 0, self._relative)
            require_likeness(columns, vectors, Path(self._root), encoder)
            return

    def _write(self, number: int, start: int, stop: int, first_id: int, blocks: Blocks) -> None:
        rejected: list[Rejected] = []
        with new_part(self._part(number), self._columns.schema, first_id) as part:
            while start < stop:
                vectors, table = next(blocks, (None, None))
                if vectors is None:
                    raise StorageError("the files hold fewer rows than they say", got=self._vectors.where)
                self._add(part, vectors, table, start, rejected)
                start += len(vectors)
                self._progress.advance(len(vectors))
            self._rejections(number).unlink(missing_ok=True)
            if rejected:
                write_rejected(self._rejections(number), rejected)

    def _add(self, part: PartWriter, vectors: np.ndarray, table: Any, first: int, rejected: list[Rejected]) -> None:
        looked = checked(vectors, self._normalise)
        if looked.other_length is not None:
            raise StorageError(
                f"{self._vectors.place(first + looked.other_length)} is no unit vector",
                got=f"length {looked.length:.6g}",
                remedy="normalise them all with --normalise",
            )
        columns = self._columns.take(table, len(vectors), first, self._relative)
        for row, reason in looked.reasons.items():
            path = join_path(columns["path"][row].as_py(), columns["path_bytes"][row].as_py())
            rejected.append(Rejected(path, f"{reason}; {self._vectors.place(first + row)}"))
        if not looked.good.all():
            columns = {name: kept(column, looked.good) for name, column in columns.items()}
        if self._pictures is not None:
            columns = self._pictures.vouched(columns)
        part.add(columns, looked.vectors)

    def _finish(self, entries: list[FileEntry], rows: int) -> None:
        lists = sorted(self._folder.glob("rejected-*.parquet"))
        rejected = [item for path in lists for item in read_rejected(path)]
        if not rows:
            raise NothingToIndexError("none of the vectors can be used", got=rejected[0].reason)
        if self._pictures is not None and self._pictures.missing:
            self._progress.note(f"{self._pictures.missing:,} pictures are not in {self._root}: they cannot be shown")
        if rejected:
            write_rejected(self._folder / REJECTED, rejected)
            self._progress.note(f"{len(rejected):,} vectors have no direction and were left out")
        entry = FileEntry.of(self._folder, REJECTED, len(rejected)) if rejected else None
        settings = self._config.embedding_settings()
        manifest = EmbeddingManifest(self._space, self._root, tuple(entries), rows, 0, entry, settings, self._folders)
        write_manifest(self._folder, manifest)

    def _entry(self, number: int) -> FileEntry:
        import pyarrow.parquet as pq

        path = self._part(number)
        return FileEntry.of(self._folder, path.name, pq.read_metadata(path).num_rows)

    def _part(self, number: int) -> Path:
        return self._folder / f"part-{number:06}.parquet"

    def _rejections(self, number: int) -> Path:
        return self._folder / f"rejected-{number:06}.parquet"


def kept(column: Any, good: Bool[np.ndarray, " n"]) -> Any:
    """The rows of an Arrow column that are good."""
    import pyarrow as pa

    return column.filter(pa.array(good))


def _absolute(root: Path) -> str:
    """A root as paths below it begin, which go no step back."""
    return str(root.resolve() if ".." in root.parts else root.absolute())


def _root(source: Source, columns: Columns) -> str:
    """The root of a stranger's paths: of the file system where they are absolute, else the folder they came in."""
    if columns.path is not None:
        for _, table in source.vectors.read(0, 1):
            if (table[columns.path][0].as_py() or "").startswith("/"):
                return "/"
    return str(source.folder)
