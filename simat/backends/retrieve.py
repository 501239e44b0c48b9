"""Answer by finding: compose a query, rank the images, leave out the query image itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from simat.backends import Resources, check_accepts
from simat.backends.ranking import best
from simat.compose import Fusion, Parts, Vector, compose
from simat.embeddings import ImageRow
from simat.errors import ImageError, QueryError
from simat.images import decode, load_image, read_bytes
from simat.types import Accepts, Answer, Cancel, OnStep, PixelImageEncoder, Query, Result, Step
from simat.vectors import unit_rows

DEFAULT_K = 10
SAME_VECTOR = 1 - 1e-5  # a picture's vector against its own float16 copy
NEAR_VECTOR = 0.98  # against the vector of its own draft: large JPEGs are indexed from one


@dataclass
class QueryImage:
    """The image a query starts from, and how to know it when it turns up among its own answers.

    A file, or the id of one, is known by the SHA-256 of its bytes, so that exact copies are left out as well. A
    bare picture has no bytes: it is known by its size and its vector, or by the pixels of the file.
    """

    vector: Vector
    sha256: str | None = None
    picture: Image.Image | None = None


class Retrieve:
    """Retrieval over one open index; the ``simat.backends`` entry point ``retrieve``."""

    name = "retrieve"
    accepts = Accepts(frozenset(), frozenset({"image", "vector", "text", "edits", "scale", "composer"}))

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def answer(self, query: Query, on_step: OnStep | None = None, cancel: Cancel | None = None) -> Answer:
        """The k images nearest to what the composer makes of the query, best first.

        Raises:
            QueryError: a query that cannot be composed, or k out of range.
            ImageError: the query image cannot be read.
            SpaceMismatchError: the encoder is not the one the index was built with.
        """
        check_accepts(query, self.accepts, self.name)
        k = self._count(query.k)
        started = time.perf_counter()
        source = self._source(query)
        parts = Parts(query, lambda: _vector(source), self._resources.encode_texts, self._resources.background)
        composition = compose(parts)
        composed = time.perf_counter()
        results = tuple(self._nearest(composition, k, None if query.include_self else source))
        if on_step:
            on_step(Step("search", 1, 1))
        timings = {"compose": composed - started, "search": time.perf_counter() - composed}
        return Answer(results, self.name, timings)

    def _count(self, k: int | None) -> int:
        images = len(self._resources.embeddings)
        if k is None:
            return min(DEFAULT_K, images)
        if k > images:
            raise QueryError(f"k is more than the {images} images of the index", got=k, remedy="ask for fewer")
        return k

    def _nearest(self, composition: Vector | Fusion, k: int, source: QueryImage | None) -> Iterator[Result]:
        embeddings, wanted, seen, given = self._resources.embeddings, k + (source is not None), 0, 0
        while given < k:
            hits = best(self._resources.searcher, embeddings, composition, min(wanted, len(embeddings)))
            fresh = [(int(i), float(s)) for i, s in zip(hits.ids[0], hits.scores[0], strict=True) if i >= 0][seen:]
            rows = embeddings.rows(np.array([i for i, _ in fresh], np.int64))
            for (id, score), row in zip(fresh, rows, strict=True):
                if given < k and not (source and self._is_source(source, id, row)):
                    given += 1
                    yield Result(score, id, embeddings.resolve(row), row.caption)
            seen += len(fresh)
            if wanted >= len(embeddings):
                return
            wanted *= 2  # more copies of the query image than expected

    def _is_source(self, source: QueryImage, id: int, row: ImageRow) -> bool:
        if source.sha256 is not None:
            return row.sha256 == source.sha256
        if source.picture is None or source.picture.size != (row.width, row.height):
            return False
        stored = self._resources.embeddings.vectors(np.array([id]))[0]
        likeness = float(stored @ source.vector / np.linalg.norm(stored))
        return likeness > SAME_VECTOR or (likeness > NEAR_VECTOR and self._same_pixels(source.picture, row))

    def _same_pixels(self, picture: Image.Image, row: ImageRow) -> bool:
        try:
            return load_image(self._resources.embeddings.resolve(row)).tobytes() == picture.tobytes()
        except ImageError:  # moved or deleted since the build
            return False

    def _source(self, query: Query) -> QueryImage | None:
        if query.vector is not None:
            return QueryImage(self._given(query))
        return None if query.image is None else self._query_image(query)

    def _given(self, query: Query) -> Vector:
        dim = self._resources.encoder.space.dim
        vector = np.asarray(query.vector, np.float32)
        if query.image is not None:
            raise QueryError("an image and a vector are given", remedy="give one of them")
        if vector.shape != (dim,):
            raise QueryError(f"the index holds {dim}-d vectors", got=f"a query of shape {vector.shape}")
        unit: Vector = unit_rows(vector[None], "the query vector")[0]
        return unit

    def _query_image(self, query: Query) -> QueryImage:
        image = query.image
        if isinstance(image, int | np.integer):
            ids = np.array([image])
            row = self._resources.embeddings.rows(ids)[0]
            return QueryImage(self._resources.embeddings.vectors(ids)[0], row.sha256)
        if isinstance(image, str | Path):
            data = read_bytes(image)
            return QueryImage(self._encode(decode(data, self._draft_edge())), hashlib.sha256(data).hexdigest())
        assert image is not None
        picture = load_image(image)
        return QueryImage(self._encode(picture), picture=picture)

    def _encode(self, picture: Image.Image) -> Vector:
        vector: Vector = self._resources.encoder.encode_images([picture])[0]
        return vector

    def _draft_edge(self) -> int | None:
        # The index's images were decoded with the same draft.
        encoder = self._resources.encoder
        return encoder.transform.draft_edge if isinstance(encoder, PixelImageEncoder) else None


def _vector(source: QueryImage | None) -> Vector:
    if source is None:
        raise QueryError("this query needs an image", remedy="give a path, a picture, or an id of the index")
    return source.vector
