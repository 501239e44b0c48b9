"""Nearest images of words, pictures and vectors, by id alone; questions of many are answered together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64
from PIL.Image import Image

from simat.engine import Engine
from simat.errors import QueryError
from simat.server.batching import Batcher
from simat.server.options import ServiceOptions
from simat.vectors import unit_rows

Sought = str | Image | Float32[np.ndarray, " d"]


@dataclass(frozen=True)
class Question:
    """What to look for.

    Attributes:
        sought: words, a picture, or a vector of :meth:`Neighbours.vector`.
        k: how many images, at least 1.
    """

    sought: Sought
    k: int


@dataclass(frozen=True)
class Found:
    """The nearest images, best first: as many as asked for, or all there are.

    Attributes:
        ids: of the images.
        scores: their cosines to what was sought.
    """

    ids: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]


class Neighbours:
    """Encodes and searches together what comes together; safe to share between threads.

    Attributes:
        engine: the open index.
    """

    def __init__(self, engine: Engine, options: ServiceOptions, on_batch: Callable[[int], None] | None = None) -> None:
        self.engine = engine
        limits = (options.window, options.batch, options.waiting)
        self._asked: Batcher[Question, Found] = Batcher(self.find, *limits, on_batch)

    def vector(self, numbers: Sequence[float]) -> Float32[np.ndarray, " d"]:
        """Numbers as a vector to look for, of length 1.

        Raises:
            QueryError: too few, too many, not finite, or all zero.
        """
        if len(numbers) != self.engine.space.dim:
            raise QueryError(f"the index holds {self.engine.space.dim}-d vectors", got=f"{len(numbers)} numbers")
        unit: Float32[np.ndarray, " d"] = unit_rows(np.array([numbers], np.float32), "vector")[0]
        return unit

    def submit(self, question: Question) -> Future[Found]:
        """Hand in a question, to be answered together with others.

        Raises:
            Busy: too many are waiting.
        """
        return self._asked.submit(question)

    def close(self) -> None:
        """Take no more questions; those handed in are answered."""
        self._asked.close()

    def find(self, questions: list[Question]) -> list[Found]:
        """Answer several questions with one search.

        Raises:
            QueryError: words, where the encoder of the index reads none.
        """
        vectors = self._vectors([question.sought for question in questions])
        hits = self.engine.searcher.search(vectors, min(max(q.k for q in questions), len(self.engine) or 1))
        answers = []
        for question, ids, scores in zip(questions, hits.ids, hits.scores, strict=True):
            there = np.flatnonzero(ids[: question.k] >= 0)
            answers.append(Found(ids[there], scores[there]))
        return answers

    def _vectors(self, sought: list[Sought]) -> Float32[np.ndarray, "q d"]:
        words = [one for one in sought if isinstance(one, str)]
        pictures = [one for one in sought if isinstance(one, Image)]
        of_words = iter(self.engine.encode_texts(words) if words else ())
        of_pictures = iter(self.engine.encoder.encode_images(pictures) if pictures else ())
        return np.stack(
            [
                one if isinstance(one, np.ndarray) else next(of_words if isinstance(one, str) else of_pictures)
                for one in sought
            ]
        )
