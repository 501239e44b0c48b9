"""The engine: an open index that answers queries."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Int

from simat import plugins
from simat.asking import Asking
from simat.composers import Background
from simat.composers.background import sample_ids
from simat.composers.sentences import Texts, read_texts
from simat.embeddings import ImageRow
from simat.encoders import load_image_encoder
from simat.encoders.combined import moved_heads
from simat.encoders.runtime import RuntimeOptions
from simat.errors import QueryError, SimatError, StorageError
from simat.generators.options import ModelOptions
from simat.manifest import IndexManifest
from simat.milvus import Address, is_address
from simat.opened import open_index
from simat.protocols import Images, IndexSearch, OpenIndex
from simat.selection import Selection
from simat.studios import Studio, makes_pictures
from simat.types import Answer, Backend, Cancel, EmbeddingSpace, ImageEncoder, OnStep, Query, TextEncoder
from simat.vectors import unit_rows

REMEMBERED_TEXTS = 4096


def open_engine(
    index: str | Path,
    encoder: ImageEncoder | str | None = None,
    root: str | Path | None = None,
    options: RuntimeOptions | None = None,
    texts: Texts | None = None,
    model: ModelOptions | None = None,
) -> Engine:
    """Open an index; ``simat.open`` is this function.

    Args:
        index: folder made by ``simat index build``, or the address that ``simat index push`` was given.
        encoder: an encoder or its spec, if not the one the index names.
        root: where the images are now, if they moved since the build.
        options: precision, device and threads.
        texts: captions and sentences with a slot ``{}`` for the composers that need some, or a file of them.
        model: which generative model the backends use that make pictures, and how it runs.

    Raises:
        QueryError: the texts cannot be read.
        StorageError: no index, half built, damaged, or of a newer format; or GPUs that there are not.
        SpaceMismatchError: ``encoder`` does not make the vectors that the index holds.
    """
    known = None if texts is None else read_texts(texts)
    root = Path(root) if root else None
    place: Path | OpenIndex = Path(index)
    if is_address(str(index)):
        if options is not None and options.gpus:
            raise StorageError("Milvus searches this index, no GPU here", got=str(index), remedy="leave out --gpus")
        from simat.milvus.opening import open_milvus

        place = open_milvus(Address.parse(str(index)), root)
    return Engine(place, encoder, root, options or RuntimeOptions(), known, model)


class Engine(Asking):
    """Answers queries over one index; safe to share between threads.

    Args:
        index: the folder of an index, or one that is open.
        encoder, root, options, texts, model: as :func:`open_engine` takes them.

    Attributes:
        opened: the index.
        studio: answers with backends that make pictures.
    """

    def __init__(
        self,
        index: Path | OpenIndex,
        encoder: ImageEncoder | str | None,
        root: Path | None,
        options: RuntimeOptions,
        texts: tuple[str, ...] | None = None,
        model: ModelOptions | None = None,
    ) -> None:
        self._options, self._given = options, texts
        self.opened: OpenIndex = open_index(index, root, options) if isinstance(index, Path) else index
        self._texts: OrderedDict[str, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()
        self._backends: dict[str, Backend] = {}
        self.studio = Studio(model)
        if encoder is not None:
            self.encoder = self._checked(load_image_encoder(encoder, options) if isinstance(encoder, str) else encoder)

    @property
    def folder(self) -> Path:
        """Where the index is."""
        return self.opened.folder

    @property
    def manifest(self) -> IndexManifest:
        """What the index holds."""
        return self.opened.manifest

    @property
    def embeddings(self) -> Images:
        """Metadata and vectors by id, those of removed images too."""
        return self.opened.embeddings

    @property
    def searcher(self) -> IndexSearch:
        """Finds the nearest vectors."""
        return self.opened.searcher

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the index's vectors."""
        return self.manifest.space

    def __len__(self) -> int:
        return len(self.opened)

    def selected(self, where: str) -> Selection:
        """The rows that a filter over the metadata selects, removed ones too; remembered from one query to the next.

        Raises:
            QueryError: the filter tries to do anything but filter, or names a column that is not there.
        """
        return self.opened.selected(where)

    def rows(self, ids: Int[np.ndarray, " n"]) -> list[ImageRow]:
        """Metadata of the images ``ids``, in that order.

        Raises:
            QueryError: there is no image with such an id, or it was removed.
        """
        return self.opened.rows(ids)

    @cached_property
    def encoder(self) -> ImageEncoder:
        """The encoder that the index names, loaded when first needed; one of images alone answers no words.

        Raises:
            SpaceMismatchError: it is installed with other weights than the index was built with.
        """
        return self._checked(load_image_encoder(moved_heads(self.space.encoder, self.opened.heads), self._options))

    @cached_property
    def background(self) -> Background:
        """What composers may know beside the query: texts, captions and statistics of the index."""
        ids = self.opened.live(sample_ids(len(self)))
        return Background(
            self.encode_texts,
            sample=lambda: unit_rows(self.embeddings.vectors(ids), "stored vector"),
            captions=lambda: [caption for caption in self.opened.captions() if caption],
            texts=self._given,
            key=f"{self.space.fingerprint} {self.space.heads} {self.space.dim}",
        )

    def answer(
        self,
        query: Query,
        backend: str = "retrieve",
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Answer any query with any installed backend.

        Args:
            query: what is asked; an image may be an id of the index.
            backend: name of an installed backend.
            on_step: told after every step.
            cancel: asked before every step.
            settings: values for the ``Settings`` of a backend that makes pictures.

        Raises:
            QueryError: what the backend does not take.
            Cancelled: asked for by ``cancel``.
        """
        factory = plugins.load(plugins.BACKENDS, backend)
        if makes_pictures(factory):
            return self.studio.answer(
                self._with_file(query), backend, settings=settings, on_step=on_step, cancel=cancel
            )
        if settings:
            raise QueryError(f"the backend {backend!r} takes no settings", got=", ".join(settings))
        return self._finder(backend).answer(query, on_step, cancel)

    def answer_many(self, queries: Sequence[Query]) -> list[Answer | SimatError]:
        """What ``retrieve`` answers to each query, or the error that it raises; far quicker than one by one."""
        finder: Any = self._finder("retrieve")
        answers: list[Answer | SimatError] = finder.answer_many(queries)
        return answers

    def changed(self) -> bool:
        """Whether the folder holds something else than what was opened; to answer from that, open it again."""
        return self.opened.changed()

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text; the last ``REMEMBERED_TEXTS`` are kept.

        Raises:
            QueryError: the index's encoder reads images only.
        """
        with self._lock:
            known = {t: self._texts[t] for t in texts if t in self._texts}
        new = [t for t in dict.fromkeys(texts) if t not in known]
        if new:
            known.update(zip(new, unit_rows(self._words.encode_texts(new), "text vector"), strict=True))
        with self._lock:
            for t in texts:
                self._texts[t] = known[t]
                self._texts.move_to_end(t)
            while len(self._texts) > REMEMBERED_TEXTS:
                self._texts.popitem(last=False)
        return np.stack([known[t] for t in texts])

    def _finder(self, name: str) -> Backend:
        with self._lock:
            if name not in self._backends:
                self._backends[name] = plugins.load(plugins.BACKENDS, name)(self)
            return self._backends[name]

    @property
    def _words(self) -> TextEncoder:
        encoder = self.encoder
        if not isinstance(encoder, TextEncoder):
            raise QueryError(
                "the encoder of this index reads no words",
                got=self.space.encoder,
                remedy="search for images, or give it heads with 'simat index project'",
            )
        return encoder

    def _with_file(self, query: Query) -> Query:
        if not isinstance(query.image, int | np.integer):
            return query
        return replace(query, image=self.embeddings.resolve(self.rows(np.array([query.image]))[0]))

    def _checked(self, encoder: ImageEncoder) -> ImageEncoder:
        self.space.require(encoder.space)
        return encoder
