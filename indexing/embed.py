"""From a list of files to an embedding set, one part at a time; a killed run goes on at the part it was in."""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from PIL import Image

from indexing.decoder import Decoded
from indexing.scan import read_columns, read_items, read_scan
from indexing.workers import DecodePool, Pixels
from simat.embeddings import ImageRow, PartReader, Rejected, read_rejected, write_part, write_rejected
from simat.errors import BuildError, EncoderError
from simat.files import remove_leftovers
from simat.manifest import FileEntry
from simat.progress import Progress
from simat.types import ImageEncoder, PixelImageEncoder

if TYPE_CHECKING:
    import pyarrow as pa

BATCH = 64  # images per call of the encoder
BATCH_WHOLE = 8  # where whole pictures wait for it instead of small frames
CALLS_AHEAD = 2  # batches waiting for the encoder while the next one is decoded


@dataclass
class Embedded:
    """What embedding has brought so far."""

    parts: list[FileEntry] = field(default_factory=list)
    rows: int = 0
    duplicates: int = 0
    rejected: int = 0


class SeenFiles:
    """Which SHA-256 has which id, on disk: memory must not grow with the number of files."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._path = path
        self._database = sqlite3.connect(path)
        self._database.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF;")
        self._database.execute("CREATE TABLE seen (sha256 BLOB PRIMARY KEY, id INTEGER) WITHOUT ROWID")

    def first(self, sha256: str, id: int) -> int:
        """The id that was first given with this SHA-256; ``id`` when it is new."""
        key = bytes.fromhex(sha256)
        known = self._database.execute("SELECT id FROM seen WHERE sha256 = ?", (key,)).fetchone()
        if known is not None:
            return int(known[0])
        self._database.execute("INSERT INTO seen VALUES (?, ?)", (key, id))
        return id

    def close(self) -> None:
        """Forget everything: a resumed run rebuilds it from the finished parts."""
        self._database.close()
        self._path.unlink(missing_ok=True)


@runtime_checkable
class Seen(Protocol):
    """Knows who came first with the same bytes."""

    def first(self, sha256: str, id: int) -> int:
        """The id that was first given with this SHA-256; ``id`` when it is new."""
        ...


class Embedder:
    """Writes the parts of one embedding set.

    Args:
        folder: where the parts go.
        root: what the paths of the scan are relative to.
        encoder: makes the vectors.
        part_size: files per part.
    """

    def __init__(self, folder: Path, root: Path, encoder: ImageEncoder, part_size: int) -> None:
        self._folder, self._root, self._encoder, self._part_size = folder, root, encoder, part_size
        self._transform = encoder.transform if isinstance(encoder, PixelImageEncoder) else None

    def run(self, scan: Path, files: int, workers: int, progress: Progress) -> Embedded:
        """Embed the files of a scan; parts that are there already are kept.

        Args:
            scan: list written by :func:`indexing.scan.write_items`.
            files: its length.
            workers: decoder processes.
            progress: told after every batch.

        Raises:
            BuildError: the disk has no room to remember which files were seen.
        """
        try:
            return self._run(scan, files, workers, progress)
        except sqlite3.OperationalError as error:
            raise BuildError(
                "cannot remember which files were seen",
                got=str(error),
                remedy="free the disk; the same command goes on where it was",
            ) from error

    def _run(self, scan: Path, files: int, workers: int, progress: Progress) -> Embedded:
        remove_leftovers(self._folder)
        self._scan = scan
        done, seen = self._before(), self._seen()
        starts = range(0, files, self._part_size)
        finished = next((i for i in range(len(starts)) if not self._part(i).exists()), len(starts))
        for part in range(finished):
            self._recount(part, done, seen)
        if finished:
            progress.note(f"resuming after {finished} finished parts ({done.rows - self._before().rows:,} images)")
        progress.start("embed", files, "images")
        progress.advance(min(finished * self._part_size, files))
        try:
            self._fill(scan, starts[finished:], workers, seen, done, progress)
        finally:
            seen.close()
        return done

    def _fill(
        self, scan: Path, starts: Sequence[int], workers: int, seen: SeenFiles, done: Embedded, progress: Progress
    ) -> None:
        """Write the parts that begin at ``starts``, the places of their first files in the scan."""
        with DecodePool(workers, self._transform) as pool, ThreadPoolExecutor(1) as caller:
            for start in starts:
                paths = read_scan(scan, start, start + self._part_size)
                builder = PartBuilder(self._encoder, caller, seen, done.rows)
                outcomes = pool.decode(str(self._file(path)) for path in paths)
                for path, (record, pixels) in zip(paths, outcomes, strict=True):
                    builder.add(path, record, pixels)
                    progress.advance(1)
                vectors = builder.vectors(self._earlier(done) if builder.has_copies else None)
                self._settle(builder.rows, builder.rejected, vectors, builder.duplicates, done)

    def _before(self) -> Embedded:
        """What there is before the first part of this embedder."""
        return Embedded()

    def _seen(self) -> SeenFiles:
        """The files that are known before the first part."""
        return SeenFiles(self._folder / ".seen.sqlite")

    def _earlier(self, done: Embedded) -> PartReader:
        """The rows with ids below ``done.rows``."""
        return PartReader(self._folder, done.parts)

    def _file(self, path: str) -> Path:
        """Where the file of a path in the scan is."""
        return self._root / path

    def _settle(
        self,
        rows: Sequence[ImageRow],
        rejected: Sequence[Rejected],
        vectors: Float32[np.ndarray, "n d"],
        duplicates: int,
        done: Embedded,
    ) -> None:
        """Write the next part and what it rejected."""
        part = len(done.parts)
        rejections = self._rejections(part)
        rejections.unlink(missing_ok=True)
        if rejected:
            write_rejected(rejections, rejected)
        told, more = self._described(part, rows)
        write_part(self._part(part), done.rows, told, vectors, more)  # the part's last file: it is done
        self._count(part, len(rows), duplicates, len(rejected), done)

    def _described(self, part: int, rows: Sequence[ImageRow]) -> tuple[list[ImageRow], pa.Table | None]:
        """Rows with their captions, and their further columns, as the scan has them."""
        start, columns = part * self._part_size, read_columns(self._scan)
        listed = iter(read_items(self._scan, start, start + self._part_size))
        items = [next(item for item in listed if item.path == row.path) for row in rows]  # the rejected are not there
        told = [replace(row, caption=item.caption) for row, item in zip(rows, items, strict=True)]
        return told, columns.table([item.facts for item in items]) if columns.types else None

    def _recount(self, part: int, done: Embedded, seen: SeenFiles) -> None:
        """Learn from a finished part what an uninterrupted run would know."""
        import pyarrow.parquet as pq

        shas = pq.read_table(self._part(part), columns=["sha256"])["sha256"].to_pylist()
        duplicates = sum(seen.first(sha, done.rows + row) != done.rows + row for row, sha in enumerate(shas))
        rejections = self._rejections(part)
        rejected = len(read_rejected(rejections)) if rejections.exists() else 0
        self._count(part, len(shas), duplicates, rejected, done)

    def _count(self, part: int, rows: int, duplicates: int, rejected: int, done: Embedded) -> None:
        done.parts.append(FileEntry.of(self._folder, self._part(part).name, rows))
        done.rows += rows
        done.duplicates += duplicates
        done.rejected += rejected

    def _part(self, part: int) -> Path:
        return self._folder / f"part-{part:06}.parquet"

    def _rejections(self, part: int) -> Path:
        return self._folder / f"rejected-{part:06}.parquet"


class PartBuilder:
    """Collects the rows of one part while the encoder works on the batches before."""

    def __init__(self, encoder: ImageEncoder, caller: ThreadPoolExecutor, seen: Seen, first_id: int) -> None:
        self._encoder, self._caller, self._seen, self._first_id = encoder, caller, seen, first_id
        self.rows: list[ImageRow] = []
        self.rejected: list[Rejected] = []
        self._batch_size = BATCH if isinstance(encoder, PixelImageEncoder) else BATCH_WHOLE
        self._source: list[int] = []  # per row: the id whose vector it has, its own unless it is a duplicate
        self._batch: list[Pixels] = []
        self._running: deque[Future[np.ndarray]] = deque()
        self._encoded: list[Float32[np.ndarray, "n d"]] = []

    @property
    def duplicates(self) -> int:
        """Rows whose bytes were seen before."""
        return sum(source != self._first_id + row for row, source in enumerate(self._source))

    @property
    def has_copies(self) -> bool:
        """Whether there are copies of images in the parts before this one."""
        return any(source < self._first_id for source in self._source)

    def add(self, path: str, record: Decoded, pixels: Pixels | None) -> None:
        """Take the next file of the part."""
        if pixels is None:
            self.rejected.append(Rejected(path, record.reason or "unreadable"))
            return
        id = self._first_id + len(self.rows)
        self.rows.append(ImageRow(path, record.sha256, record.width, record.height))
        self._source.append(self._seen.first(record.sha256, id))
        if self._source[-1] == id:
            self._batch.append(pixels)
            if len(self._batch) == self._batch_size:
                self._submit()

    def vectors(self, earlier: PartReader | None = None) -> Float32[np.ndarray, "n d"]:
        """One row per image of the part; ``earlier`` holds the parts before it, None where there are no copies."""
        if self._batch:
            self._submit()
        while self._running:
            self._encoded.append(self._running.popleft().result())
        fresh: Iterator[np.ndarray] = (row for block in self._encoded for row in block)
        vectors = np.empty((len(self.rows), self._encoder.space.dim), np.float32)
        for row, source in enumerate(self._source):
            if source == self._first_id + row:
                vectors[row] = next(fresh)
            elif source >= self._first_id:
                vectors[row] = vectors[source - self._first_id]
        if self.has_copies:
            assert earlier is not None
            sources = np.array(self._source)
            copies = np.flatnonzero(sources < self._first_id)
            vectors[copies] = earlier.vectors(sources[copies])  # at once: each row group is read once
        return vectors

    def _submit(self) -> None:
        while len(self._running) >= CALLS_AHEAD:
            self._encoded.append(self._running.popleft().result())
        self._running.append(self._caller.submit(_encode, self._encoder, self._batch))
        self._batch = []


def _encode(encoder: ImageEncoder, batch: Sequence[Pixels]) -> Float32[np.ndarray, "n d"]:
    if isinstance(encoder, PixelImageEncoder):
        vectors = encoder.encode_pixels(np.stack(batch))
    else:
        vectors = encoder.encode_images([Image.fromarray(pixels) for pixels in batch])
    if vectors.shape != (len(batch), encoder.space.dim) or not np.isfinite(vectors).all():
        raise EncoderError(f"{encoder.space} returned no finite vectors of its dimension", got=vectors.shape)
    return vectors
