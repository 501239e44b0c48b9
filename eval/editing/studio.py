"""The project's own backends as what the evaluation asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cached_property
from typing import Any

from simat.types import Accepts, Answer, Query

REFERENCE = "reference"


class StudioAnswerer:
    """Backends on one model, which is loaded when first asked.

    Args:
        options: of :func:`simat.studio`: model, device, dtype and so on.
    """

    def __init__(self, **options: Any) -> None:
        self._options = options

    @cached_property
    def _studio(self) -> Any:
        import simat

        return simat.studio(**self._options)

    @cached_property
    def model(self) -> str:
        """Name and fingerprint of the model, and the networks beside it."""
        diffusion = self._studio.diffusion
        networks = ",".join(self._options.get("networks") or ())
        return f"{diffusion.name} {diffusion.fingerprint} {networks}".strip()

    def accepts(self, backend: str) -> Accepts:
        """Of a backend: what it heeds.

        One without settings changes nothing whatever is asked: it gets only what it needs. A reference that would be
        ignored beside a text is left out.
        """
        made = self._studio.backend(backend)
        if not fields(made.Settings):
            return Accepts(made.accepts.requires, frozenset())
        heeds = getattr(made, "uses_reference", None)
        accepts: Accepts = made.accepts
        if heeds is None or heeds(Query(text="a", reference="b")):
            return accepts
        return Accepts(accepts.requires, accepts.optional - {REFERENCE})

    def answer(self, query: Query, backend: str, settings: Mapping[str, str]) -> Answer:
        """One answer."""
        answer: Answer = self._studio.answer(query, backend=backend, settings=dict(settings))
        return answer
