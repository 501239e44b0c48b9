"""An index of vectors that others made, without encoding an image; a killed import goes on at the part it was in."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from indexing.build import (
    EMBEDDINGS,
    PART_BYTES,
    REJECTED,
    ROW_BYTES,
    SHARD_BYTES,
    STATE,
    Built,
    NothingToIndexError,
    complete,
    enter,
    finished,
    leave,
    require_same,
)
from indexing.config import BuildConfig, Machine
from indexing.exchange.checks import checked
from indexing.exchange.columns import Columns
from indexing.exchange.opening import Source, open_source
from indexing.exchange.parts import PartWriter, new_part
from indexing.exchange.paths import Relative
from indexing.exchange.pictures import Pictures
from indexing.factory import empty_index
from simat.embeddings import Rejected, join_path, read_rejected, write_rejected
from simat.encoders import load_image_encoder
from simat.encoders.unknown import unknown_space
from simat.errors import BuildError, SpaceMismatchError, StorageError
from simat.files import human, locked, remove_leftovers, sha256_text, write_text
from simat.heads import load_heads, save_heads
from simat.manifest import HEADS, NAME, EmbeddingManifest, FileEntry, write_manifest
from simat.progress import Progress, Silent
from simat.searcher import require_faiss
from simat.types import EmbeddingSpace, ImageEncoder

PART_ROWS = 2**16  # rows of a part: 400 million vectors make some six thousand files


@dataclass(frozen=True)
class Wanted:
    """How vectors are read.

    Attributes:
        encoder: spec of the encoder that made them; None where an export says so itself, or nobody knows.
        root: folder of the pictures, which are then read once for their size and SHA-256; None where there are none.
        column: of the vectors in Parquet and Lance files.
        modality: ``image`` or ``text``, of clip-retrieval's two folders.
        normalise: make unit rows of rows that are none.
    """

    encoder: str | None = None
    root: Path | None = None
    column: str = "embedding"
    modality: str = "image"
    normalise: bool = False


def import_index(
    path: Path,
    out: Path,
    wanted: Wanted | None = None,
    settings: BuildConfig | None = None,
    machine: Machine | None = None,
    progress: Progress | None = None,
    encoder: ImageEncoder | None = None,
) -> Built:
    """Index a folder of vectors in the layout of clip-retrieval, of Parquet files, or of Lance.

    Args:
        path: the folder; it stays as it is.
        out: new, empty, or of an earlier run with the same arguments.
        wanted: how the vectors are read.
        settings: of the shards; parts have ``PART_ROWS`` rows unless they say otherwise.
        encoder: an encoder object, where the spec is none that can be loaded.

    Raises:
        BuildError: no vectors, ``out`` holds something else, or the disk is too full.
        StorageError: files that are damaged or do not fit together, or vectors that are no unit rows.
        SpaceMismatchError: the encoder makes vectors of another dimension.
    """
    require_faiss()
    wanted, machine, progress = wanted or Wanted(), machine or Machine(), progress or Silent()
    settings = settings or BuildConfig("", part_size=PART_ROWS)
    source = open_source(path, wanted.column, wanted.modality)
    space = _space(source, wanted, encoder or _loaded(wanted, settings, machine))
    config = replace(settings, photos=str(path.absolute()), encoder=space.encoder)
    if config.factory != "auto":
        empty_index(space.dim, config.factory)
    created = enter(out)
    with locked(out):
        if (out / NAME).exists():
            return finished(out, config, progress)
        remove_leftovers(out)
        _begin(out, source, config, space, wanted)
        if space.heads is not None and source.card is not None:
            save_heads(out / HEADS, load_heads(source.folder / HEADS))
        if not (out / EMBEDDINGS / NAME).exists():
            (out / EMBEDDINGS).mkdir(exist_ok=True)
            try:
                _Import(source, out / EMBEDDINGS, config, space, wanted, progress).run()
            except NothingToIndexError:
                leave(out, created)
                raise
        return complete(out, config, machine, progress)


def _loaded(wanted: Wanted, settings: BuildConfig, machine: Machine) -> ImageEncoder | None:
    if wanted.encoder is None:
        return None
    return load_image_encoder(wanted.encoder, machine.runtime(settings.precision))


def _space(source: Source, wanted: Wanted, encoder: ImageEncoder | None) -> EmbeddingSpace:
    """Where the vectors live, as far as anyone knows."""
    dim, own = source.vectors.dim, source.card.space if source.card else None
    if encoder is None:
        return own or unknown_space(dim, str(source.folder))
    if encoder.space.dim != dim:
        raise SpaceMismatchError(
            f"the vectors in {source.vectors.where} are {dim}-d",
            got=f"the encoder {encoder.space}",
            remedy="name the encoder that made them with --encoder",
        )
    if own is not None:
        own.require(encoder.space)
    return own or encoder.space


def _begin(out: Path, source: Source, config: BuildConfig, space: EmbeddingSpace, wanted: Wanted) -> None:
    """Remember what this run makes, or find that an earlier one made the same."""
    known: dict[str, Any] = {
        "config": config.as_dict(),
        "space": [space.encoder, space.fingerprint, space.dim, space.heads],
        "source": [sha256_text("\n".join(source.vectors.state())), str(wanted.root), wanted.column, wanted.normalise],
    }
    state = out / STATE
    if state.exists():
        before = json.loads(state.read_bytes())
        require_same(before, known, out)
        if before.get("source") != known["source"]:
            raise BuildError(f"{out} was begun from other vectors", remedy="give a new folder")
        return
    rows = len(source.vectors)
    size, free = rows * (ROW_BYTES + space.dim * (PART_BYTES + SHARD_BYTES)), shutil.disk_usage(out).free
    if size > free:
        raise BuildError("the disk is too full for this index", got=f"{human(free)} free, {human(size)} needed")
    write_text(state, json.dumps(known, indent=1))


class _Import:
    """Writes the parts of one embedding set."""

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
        self._root = str(wanted.root.absolute()) if wanted.root else before or _root(source, self._columns)
        self._relative = Relative(self._root, before, self._folders)
        self._pictures = Pictures(wanted.root) if wanted.root else None

    def run(self) -> None:
        """Write what is missing, and the manifest."""
        remove_leftovers(self._folder)
        starts = range(0, len(self._vectors), self._config.part_size)
        done = next((n for n in range(len(starts)) if not self._part(n).exists()), len(starts))
        self._progress.start("import", len(self._vectors), "vectors")
        entries: list[FileEntry] = []
        rows = 0
        for number, start in enumerate(starts):
            stop = min(start + self._config.part_size, len(self._vectors))
            if number < done:
                self._progress.advance(stop - start)
            else:
                self._write(number, start, stop, rows)
            entries.append(self._entry(number))
            rows += entries[-1].rows
        self._finish(entries, rows)

    def _write(self, number: int, start: int, stop: int, first_id: int) -> None:
        rejected: list[Rejected] = []
        with new_part(self._part(number), self._columns.schema, first_id) as part:
            for vectors, table in self._vectors.read(start, stop):
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


def _root(source: Source, columns: Columns) -> str:
    """The root of a stranger's paths: of the file system where they are absolute, else the folder they came in."""
    if columns.path is not None:
        for _, table in source.vectors.read(0, 1):
            if (table[columns.path][0].as_py() or "").startswith("/"):
                return "/"
    return str(source.folder)
