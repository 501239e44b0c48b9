"""A server as an engine: the same questions, the same answers, the same errors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

import numpy as np
from jaxtyping import Float32
from PIL.Image import Image

from simat.asking import Asking
from simat.client import answers, questions
from simat.client.channel import Channel
from simat.client.jobs import Job
from simat.errors import Cancelled, NotFound
from simat.images import decode
from simat.types import Answer, Cancel, EmbeddingSpace, ImageInput, OnStep, Query, Result, Step

TIMEOUT_S = 300.0


def connect(url: str, token: str | None = None, index: str | None = None, timeout: float = TIMEOUT_S) -> Client:
    """Connect to a server; ``simat.connect`` is this function. Nothing is sent before the first question.

    Args:
        url: address of a ``simat serve``, as ``http://localhost:8000``.
        token: what it was started with, if with any.
        index: name of one of its indices, None for its first.
        timeout: seconds that one answer may take; those of jobs may take longer.

    Raises:
        QueryError: not such an address.
        FetchError: httpx is not installed.
    """
    return Client(Channel(url, token, timeout), index)


class Client(Asking):
    """Asks one index of a server; safe to share between threads. Use it as a context manager, or close it.

    Every method raises what the server raised, by the same class; and ``FetchError`` where there is no answer,
    ``Denied`` without the right token, ``Busy`` where the server has too much to do.

    Attributes:
        index: name of the index, None for the server's first.
    """

    def __init__(self, channel: Channel, index: str | None = None) -> None:
        self._channel, self.index = channel, index

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connections."""
        self._channel.close()

    def __len__(self) -> int:
        return int(self._facts()["images"])

    @property
    def space(self) -> EmbeddingSpace:
        """The space of the index's vectors."""
        return EmbeddingSpace(**self._facts()["space"])

    def indices(self) -> list[str]:
        """The names of the server's indices."""
        return [index["name"] for index in self._channel.get("/v1/indices")["indices"]]

    def backends(self) -> list[str]:
        """The names of the backends that the server lets us use."""
        return list(self._backends)

    def answer(
        self,
        query: Query,
        backend: str = "retrieve",
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Answer any query with any backend of the server.

        A backend that makes pictures works in a job of the server: it goes on if the connection breaks, and ends if
        this call is left. The paths of images that were found are relative to the folder that was indexed;
        :meth:`open` and :meth:`thumbnail` get the pictures.

        Args:
            query: what is asked; an image may be an id of the index.
            backend: one of :meth:`backends`.
            on_step: told after every step.
            cancel: asked several times a second.
            settings: values for the ``Settings`` of a backend that makes pictures.

        Raises:
            QueryError: what the backend does not take.
            Cancelled: asked for by ``cancel``.
        """
        kind = questions.kind_of(query)
        fields = {**self._asked(), **questions.fields_of(query), "backend": backend}
        if settings:
            fields["settings"] = dict(settings)
        if self._backends.get(backend, False):
            with Job(self._channel, {"kind": kind, **fields}) as job:
                return job.answer(on_step, cancel)
        if cancel is not None and cancel():
            raise Cancelled("cancelled before the search")
        answer = answers.answer_of(self._channel.post(f"/v1/{kind}", fields))
        if on_step is not None:
            on_step(Step("search", 1, 1))
        return answer

    def encode_texts(self, texts: list[str]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per text.

        Raises:
            QueryError: the index's encoder reads images only.
        """
        return self._vectors("texts", texts)

    def encode_images(self, images: list[ImageInput]) -> Float32[np.ndarray, "n d"]:
        """Unit rows, one per picture: paths, PIL images or RGB arrays."""
        return self._vectors("images", [questions.picture(image) for image in images])

    def open(self, image: Result | int) -> Image:
        """The picture of a result, or of an id of the index, in full size.

        Raises:
            NotFound: its file is not there any more, or is another one.
        """
        return self._picture(image, "")

    def thumbnail(self, image: Result | int, size: int = 256) -> Image:
        """The same, small: at most 128, 256 or 512 pixels wide and high."""
        return self._picture(image, "/thumbnail", size=size)

    def _asked(self) -> dict[str, str]:
        return {} if self.index is None else {"index": self.index}

    def _facts(self) -> dict[str, Any]:
        if self.index is not None:
            facts: dict[str, Any] = self._channel.get(f"/v1/indices/{quote(self.index, safe='')}")
            return facts
        for facts in self._channel.get("/v1/indices")["indices"]:
            return dict(facts)
        raise NotFound("the server has no index", got=self._channel.url)

    @cached_property
    def _backends(self) -> dict[str, bool]:
        """Which backends there are, and whether they make pictures."""
        return {one["name"]: one["makes_pictures"] for one in self._channel.get("/v1/indices")["backends"]}

    def _vectors(self, kind: str, what: list[str]) -> Float32[np.ndarray, "n d"]:
        if not what:
            return np.empty((0, self.space.dim), np.float32)
        rows = self._channel.post("/v1/encode", {**self._asked(), kind: what})[kind]
        return np.array(rows, np.float32)

    def _picture(self, image: Result | int, of: str, **asked: object) -> Image:
        if isinstance(image, Result) and image.image is not None:
            return image.image
        id = image.id if isinstance(image, Result) else image
        if id is None:
            raise NotFound("a result without a picture", got=image)
        words = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in {**self._asked(), **asked}.items())
        return decode(self._channel.get_bytes(f"/v1/images/{id}{of}?{words}"))
