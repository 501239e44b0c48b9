"""The images that queries start from, and how to know each when it turns up among its own answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from simat.backends import Resources
from simat.backends.ranking import stored_vectors
from simat.compose import Vector
from simat.embeddings import ImageRow
from simat.errors import ImageError, QueryError, SimatError
from simat.images import decode, load_image, read_bytes
from simat.types import PixelImageEncoder, Query
from simat.vectors import unit_rows

SAME_VECTOR = 1 - 1e-5  # a picture's vector against its own float16 copy
NEAR_VECTOR = 0.98  # against the vector of its own draft: large JPEGs are indexed from one


@dataclass(frozen=True)
class QueryImage:
    """The image a query starts from, and how to know it.

    A file, or the id of one, is known by the SHA-256 of its bytes, so that exact copies are left out as well. A
    bare picture has no bytes: it is known by its size and its vector, or by the pixels of the file. A vector is
    nobody's picture. An imported image is known by its id, as nobody may know the bytes of its file.
    """

    vector: Vector
    sha256: str | None = None
    picture: Image.Image | None = None
    id: int | None = None


@dataclass(frozen=True)
class _Opened:
    """A picture that waits for its vector."""

    picture: Image.Image
    sha256: str | None = None


class Sources:
    """Reads the images of queries; all that need the encoder go through it together."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def read(self, queries: Sequence[Query]) -> list[QueryImage | SimatError | None]:
        """The image of every query, or why it has none; None where it asks without any."""
        opened = [self._opened(query) for query in queries]
        pictures = [one.picture for one in opened if isinstance(one, _Opened)]
        vectors = iter(self._resources.encoder.encode_images(pictures) if pictures else ())
        return [self._encoded(one, next(vectors)) if isinstance(one, _Opened) else one for one in opened]

    def is_source(self, source: QueryImage, id: int, row: ImageRow) -> bool:
        """Whether the image ``id`` of the index is the one that the query started from."""
        if source.id == id:
            return True
        if source.sha256 is not None:
            return row.sha256 == source.sha256
        if source.picture is None or source.picture.size != (row.width, row.height):
            return False
        stored = self._stored(id)
        likeness = float(stored @ source.vector / np.linalg.norm(stored))
        return likeness > SAME_VECTOR or (likeness > NEAR_VECTOR and self._same_pixels(source.picture, row))

    def _same_pixels(self, picture: Image.Image, row: ImageRow) -> bool:
        try:
            return load_image(self._resources.embeddings.resolve(row)).tobytes() == picture.tobytes()
        except ImageError:  # moved or deleted since the build
            return False

    def _opened(self, query: Query) -> QueryImage | _Opened | SimatError | None:
        try:
            if query.vector is not None:
                return self._given(query)
            return None if query.image is None else self._image(query)
        except SimatError as error:
            return error

    def _given(self, query: Query) -> QueryImage:
        dim = self._resources.embeddings.manifest.space.dim
        vector = np.asarray(query.vector, np.float64)
        if query.image is not None:
            raise QueryError("an image and a vector are given", remedy="give one of them")
        if vector.shape != (dim,):
            raise QueryError(f"the index holds {dim}-d vectors", got=f"a query of shape {vector.shape}")
        with np.errstate(over="ignore"):  # its length is then infinite, and that is an error
            return QueryImage(unit_rows(vector[None], "query vector")[0])

    def _image(self, query: Query) -> QueryImage | _Opened:
        image = query.image
        if isinstance(image, int | np.integer):
            row = self._resources.rows(np.array([image]))[0]
            return QueryImage(self._stored(int(image)), row.sha256 or None, id=int(image))
        if isinstance(image, str | Path):
            data = read_bytes(image)
            return _Opened(decode(data, self._draft_edge()), hashlib.sha256(data).hexdigest())
        assert image is not None
        return _Opened(load_image(image))

    def _stored(self, id: int) -> Vector:
        vector: Vector = stored_vectors(self._resources.searcher, self._resources.embeddings, np.array([id]))[0]
        return vector

    def _draft_edge(self) -> int | None:
        # The index's images were decoded with the same draft.
        encoder = self._resources.encoder
        return encoder.transform.draft_edge if isinstance(encoder, PixelImageEncoder) else None

    @staticmethod
    def _encoded(opened: _Opened, vector: Vector) -> QueryImage:
        # A file is known by its bytes: its pixels are not needed any more.
        return QueryImage(vector, opened.sha256, None if opened.sha256 else opened.picture)
