"""The two manifests: what an embedding set and an index hold, in which space, with which checksums.

Manifests carry no times: the same input gives the same bytes, whether or not the build was interrupted.

An index changes in generations. Whatever a generation adds is written under names of its own, files that a manifest
names are never written again, and the index's ``manifest.json``, renamed into place, is the one moment at which
everything changes.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from simat.errors import StorageError
from simat.files import sha256_file, write_text
from simat.types import EmbeddingSpace

T = TypeVar("T")
M = TypeVar("M", "EmbeddingManifest", "IndexManifest")
FORMAT_VERSION = 2  # version 1, which is still written where it says all, knows no generations
NAME = "manifest.json"
HEADS = "heads"  # of an index whose space has any: its own copy, so that it can be moved


@dataclass(frozen=True)
class FileEntry:
    """A file of ``rows`` rows beside its manifest.

    Attributes:
        name: path relative to the manifest's folder.
    """

    name: str
    rows: int
    bytes: int
    sha256: str

    @classmethod
    def of(cls, folder: Path, name: str, rows: int) -> FileEntry:
        """Measure ``folder / name``."""
        path = folder / name
        return cls(name, rows, path.stat().st_size, sha256_file(path))

    def check_size(self, folder: Path) -> Path:
        """The path of the file, which must be there and of the right size.

        Raises:
            StorageError: missing or truncated.
        """
        path = folder / self.name
        if not path.is_file():
            raise StorageError(f"{self.name} is missing", got=str(folder), remedy="build the index again")
        size = path.stat().st_size
        if size != self.bytes:
            raise StorageError(
                f"{self.name} was truncated or altered",
                got=f"{size} bytes instead of {self.bytes}",
                remedy="build the index again",
            )
        return path

    def check(self, folder: Path) -> Path:
        """As :meth:`check_size`, and every byte must be the one that was written."""
        path = self.check_size(folder)
        if sha256_file(path) != self.sha256:
            raise StorageError(
                f"{self.name} was altered", got="another SHA-256 than its manifest's", remedy="build the index again"
            )
        return path


@dataclass(frozen=True)
class EmbeddingManifest:
    """An embedding set.

    Attributes:
        space: where the vectors live.
        root: folder that the paths of the images are relative to.
        parts: Parquet files, in the order of their ids.
        rows: images embedded.
        duplicates: how many of them share their bytes with an earlier one.
        rejected: the list of files that could not be read, None when there are none.
        config: what the build was asked for.
        folders: where images outside ``root`` are: the first component of their paths, and the folder it stands for.
    """

    space: EmbeddingSpace
    root: str
    parts: tuple[FileEntry, ...]
    rows: int
    duplicates: int = 0
    rejected: FileEntry | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class IndexManifest:
    """An index over an embedding set.

    Attributes:
        space: where the vectors live.
        embeddings: folder of the embedding set, relative to the index or absolute.
        factory: the FAISS factory string of every shard.
        shards: FAISS files; ids run through them in order.
        rows: vectors in all shards, those of removed images too.
        search: parameters of a search, e.g. ``{"nprobe": 16}``.
        recall: recall@k against exact search, measured on held-back queries.
        config: what the build was asked for.
        generation: how often the index was changed since it was built.
        embedding_manifest: the manifest of its embedding set, a file in that folder.
        removed: which rows are removed (:mod:`simat.tombstones`), a file of so many removed rows; None where none are.
        trained: how well the training of the shards suited what they held then, and how many ``rows`` that were.
    """

    space: EmbeddingSpace
    embeddings: str
    factory: str
    shards: tuple[FileEntry, ...]
    rows: int
    search: Mapping[str, int] = field(default_factory=dict)
    recall: Mapping[str, float] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 0
    embedding_manifest: str = NAME
    removed: FileEntry | None = None
    trained: Mapping[str, float] = field(default_factory=dict)

    @property
    def images(self) -> int:
        """How many rows are not removed."""
        return self.rows - (self.removed.rows if self.removed else 0)


def write_manifest(folder: Path, manifest: EmbeddingManifest | IndexManifest, name: str = NAME) -> None:
    """Write ``folder/name``; the last file of a build or of a generation, it makes the folder whole."""
    kind = "index" if isinstance(manifest, IndexManifest) else "embeddings"
    # What an older simat would overlook must not be opened by it.
    newer = manifest.generation if isinstance(manifest, IndexManifest) else manifest.folders
    document = {"format": f"simat/{kind}", "version": FORMAT_VERSION if newer else 1, **asdict(manifest)}
    write_text(folder / name, json.dumps(document, indent=1) + "\n")


def read_index_manifest(folder: Path) -> IndexManifest:
    """Read and check the manifest of an index.

    Raises:
        StorageError: no index, half built, another kind of folder, damaged, or of a newer version.
    """
    document = _read(folder, "index")
    with _damaged(folder):
        document["shards"] = tuple(FileEntry(**entry) for entry in document["shards"])
        removed = document.get("removed")
        document["removed"] = FileEntry(**removed) if removed else None
        return _build(IndexManifest, document)


def of_one_generation(folder: Path, read: Callable[[IndexManifest], T]) -> T:
    """What ``read`` makes of the index in ``folder``; it is asked again where the index is changed meanwhile.

    Raises:
        StorageError: as :func:`read_index_manifest` and ``read`` do, where nothing has changed.
    """
    while True:
        manifest = read_index_manifest(folder)
        try:
            return read(manifest)
        except StorageError:
            if read_index_manifest(folder) == manifest:
                raise
            # Files of the old generation are gone.


def read_embedding_manifest(folder: Path, name: str = NAME) -> EmbeddingManifest:
    """Read and check ``folder/name``, the manifest of an embedding set; raises as :func:`read_index_manifest` does."""
    document = _read(folder, "embeddings", name)
    with _damaged(folder, name):
        document["parts"] = tuple(FileEntry(**entry) for entry in document["parts"])
        document["rejected"] = FileEntry(**document["rejected"]) if document["rejected"] else None
        return _build(EmbeddingManifest, document)


def _read(folder: Path, kind: str, name: str = NAME) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        if name != NAME:
            raise StorageError(f"{name} is missing", got=str(folder), remedy="build the index again")
        if (folder / "building.json").is_file():
            raise StorageError(
                "the index is half built", got=str(folder), remedy="run the same 'simat index build' again to resume"
            )
        raise StorageError("no index here", got=str(folder), remedy="make one with 'simat index build PHOTOS INDEX'")
    with _damaged(folder, name):
        document = json.loads(path.read_bytes())
        format_name, version = document.pop("format"), document.pop("version")
    if format_name != f"simat/{kind}":
        raise StorageError(f"not a folder of kind {kind}", got=str(format_name))
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise StorageError(
            f"format version {version} is newer than {FORMAT_VERSION}, the newest this simat reads",
            got=str(folder),
            remedy="upgrade simat",
        )
    return dict(document)


def _build(kind: type[M], document: dict[str, Any]) -> M:
    names = {field.name for field in dataclasses.fields(kind)}
    document["space"] = EmbeddingSpace(**document["space"])
    # Fields that a later minor version added do not matter to this one.
    return kind(**{name: value for name, value in document.items() if name in names})


@contextmanager
def _damaged(folder: Path, name: str = NAME) -> Iterator[None]:
    """Whatever a document of another shape makes Python raise means one thing."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        got = str(folder / name)
        raise StorageError("the manifest is damaged", got=got, remedy="build the index again") from error
