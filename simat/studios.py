"""The studio: answers queries by making pictures, where no index is open."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from simat import plugins
from simat.backends import Generator
from simat.errors import QueryError
from simat.generators.options import ModelOptions
from simat.types import Answer, Cancel, OnStep, Query

if TYPE_CHECKING:
    from simat.generators.inversion import Trajectories
    from simat.generators.model import Diffusion


def open_studio(model: str = "scenes", **options: Any) -> Studio:
    """A studio with a model; ``simat.studio`` is this function.

    Args:
        model: ``scenes``, the folder of a diffusers pipeline, or a hub id.
        options: the other fields of :class:`simat.generators.options.ModelOptions`: device, dtype, slicing, offload,
            networks.

    Raises:
        ModelError: an option with a value that it does not take; the model itself loads when it is first needed.
    """
    return Studio(ModelOptions(model, **options))


class Studio:
    """Answers queries with generators; loads the model once, keeps inversions, is safe to share between threads.

    Attributes:
        options: which model and how it runs.
    """

    def __init__(self, options: ModelOptions | None = None) -> None:
        self.options = options or ModelOptions()
        self._lock = threading.RLock()
        self._generators: dict[str, Generator] = {}

    def answer(
        self,
        query: Query,
        backend: str = "diffedit",
        *,
        settings: Mapping[str, Any] | None = None,
        on_step: OnStep | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        """Answer one query.

        Args:
            query: what is asked.
            backend: name of an installed generator.
            settings: values for its ``Settings``.
            on_step: told after every step.
            cancel: asked before every step.

        Raises:
            QueryError: the backend finds pictures and needs an index; or what it does not take.
            Cancelled: asked for by ``cancel``.
        """
        return self.backend(backend).answer(query, on_step, cancel, settings)

    def backend(self, name: str) -> Generator:
        """The generator of a name, made once.

        Raises:
            SimatError: no such backend.
            QueryError: it needs an index.
        """
        with self._lock:
            if name not in self._generators:
                factory = plugins.load(plugins.BACKENDS, name)
                if not makes_pictures(factory):
                    raise QueryError(f"the backend {name!r} needs an index", remedy="open one with simat.open(INDEX)")
                self._generators[name] = factory(self)
            return self._generators[name]

    @property
    def diffusion(self) -> Diffusion:
        """The diffusion model, loaded when first asked for."""
        with self._lock:
            return self._diffusion

    @cached_property
    def trajectories(self) -> Trajectories:
        """Inversions of pictures, kept from one answer to the next."""
        from simat.generators.inversion import Trajectories

        return Trajectories()

    @cached_property
    def _diffusion(self) -> Diffusion:
        from simat.generators.model import load

        return load(self.options)


def makes_pictures(factory: object) -> bool:
    """Whether a backend is a generator: only those declare settings."""
    return hasattr(factory, "Settings")
