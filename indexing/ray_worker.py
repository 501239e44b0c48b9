"""What a worker of a cluster does: from the files of one part to its rows and vectors."""

from __future__ import annotations

import os
import pickle
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32

from indexing.embed import PartBuilder
from indexing.workers import DecodePool
from simat.embeddings import ImageRow, PartReader, Rejected
from simat.encoders import load_image_encoder
from simat.encoders.runtime import RuntimeOptions
from simat.errors import BuildError, SimatError, SpaceMismatchError
from simat.types import EmbeddingSpace, ImageEncoder, PixelImageEncoder

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Setup:
    """What every worker needs to know, whatever its part.

    Attributes:
        root: what the paths are relative to; the same folder on every machine.
        space: what the encoder must make vectors of.
        encoder: its spec, which every machine loads for itself, or an object that can be pickled.
        options: precision, device and threads.
        decoders: decoder processes.
    """

    root: str
    space: EmbeddingSpace
    encoder: str | ImageEncoder
    options: RuntimeOptions
    decoders: int


@dataclass(frozen=True)
class Part:
    """The files of one part, embedded without a look at the other parts: copies within it have the same vector."""

    rows: Sequence[ImageRow]
    rejected: Sequence[Rejected]
    vectors: Float32[np.ndarray, "n d"]


@dataclass(frozen=True)
class Failure:
    """An error of ours on its way home: exceptions themselves lose their keywords on it."""

    kind: type[SimatError]
    what: str
    got: str | None
    remedy: str | None

    @classmethod
    def of(cls, error: SimatError) -> Failure:
        """What there is to tell of an error."""
        return cls(type(error), error.what, None if error.got is None else str(error.got), error.remedy)

    def error(self) -> SimatError:
        """The error itself."""
        return self.kind(self.what, got=self.got, remedy=self.remedy)


class SeenInPart:
    """Which SHA-256 has which row, within one part."""

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}

    def first(self, sha256: str, id: int) -> int:
        """The row that was first given with this SHA-256; ``id`` when it is new."""
        return self._rows.setdefault(sha256, id)


class PartWorker:
    """An actor of Ray Data; it loads the encoder with its first part and keeps it."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._encoder: ImageEncoder | None = None

    def __call__(self, table: pa.Table) -> pa.Table:
        """One row in, one row out: see :func:`packed_paths` and :func:`unpacked`."""
        import pyarrow as pa

        done = [pickle.dumps(self._done(paths), protocol=5) for paths in ordered_paths(table)]
        return pa.table({"done": pa.array(done, pa.large_binary())})

    def _done(self, paths: Sequence[str]) -> Part | Failure:
        try:
            return self._embed(paths)
        except SimatError as error:
            return Failure.of(error)

    def _embed(self, paths: Sequence[str]) -> Part:
        encoder = self._ready()
        builder = PartBuilder(encoder, self._caller, SeenInPart(), 0)
        outcomes = self._pool.decode(str(Path(self._setup.root) / path) for path in paths)
        for path, (record, pixels) in zip(paths, outcomes, strict=True):
            builder.add(path, record, pixels)
        return Part(builder.rows, builder.rejected, builder.vectors(PartReader(Path(), [])))

    def _ready(self) -> ImageEncoder:
        if self._encoder is not None:
            return self._encoder
        given = self._setup.encoder
        encoder = load_image_encoder(given, self._setup.options) if isinstance(given, str) else given
        _require_same(self._setup.space, encoder.space)
        if not Path(self._setup.root).is_dir():
            raise BuildError(
                f"the machine {os.uname().nodename} does not see the folder of photos",
                got=self._setup.root,
                remedy="mount it there under the same path",
            )
        self._caller = ThreadPoolExecutor(1)
        self._pool = DecodePool(
            self._setup.decoders, encoder.transform if isinstance(encoder, PixelImageEncoder) else None
        )
        self._encoder = encoder
        return encoder


def _require_same(space: EmbeddingSpace, ours: EmbeddingSpace) -> None:
    try:
        space.require(ours)
    except SpaceMismatchError as error:
        raise BuildError(
            f"the machine {os.uname().nodename} has other weights of the encoder",
            got=str(ours),
            remedy=f"install those of {space} on every machine",
        ) from error


def packed_paths(paths: Sequence[str]) -> pa.Table:
    """A part's order to a worker: a table of one row, whose size in memory is a tenth of the paths'."""
    import pyarrow as pa

    return pa.table({"files": pa.array([zlib.compress(pickle.dumps([*paths], protocol=5))], pa.large_binary())})


def ordered_paths(table: pa.Table) -> Iterator[list[str]]:
    """The paths of every part that a table of orders is for."""
    for order in table["files"]:
        yield pickle.loads(zlib.decompress(order.as_py()))


def unpacked(table: pa.Table) -> Iterator[Part]:
    """What a worker made of parts, in their order.

    Raises:
        SimatError: what the worker met.
    """
    for row in table["done"]:
        done: Part | Failure = pickle.loads(row.as_py())
        if isinstance(done, Failure):
            raise done.error()
        yield done
