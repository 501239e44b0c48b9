"""One answer in the making: stages with their times, progress after every step, cancellation before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from PIL.Image import Image

from simat.errors import Cancelled
from simat.generators.model import Diffusion
from simat.types import Cancel, OnStep, Step

T = TypeVar("T")


class Run:
    """Times, reports and stops the work of one answer.

    Attributes:
        timings: seconds by stage; a stage that is entered twice adds up.
    """

    def __init__(self, on_step: OnStep | None = None, cancel: Cancel | None = None) -> None:
        self.timings: dict[str, float] = {}
        self._on_step, self._cancel = on_step, cancel

    @contextmanager
    def whole(self, model: Diffusion) -> Iterator[None]:
        """Count everything inside as ``total``, and what the model's network takes of it as ``unet``."""
        started, before = time.perf_counter(), model.unet_seconds
        try:
            yield
        finally:
            self.timings["unet"] = model.unet_seconds - before
            self.timings["total"] = time.perf_counter() - started

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time inside to a stage; asks for cancellation first."""
        self.ask()
        started = time.perf_counter()
        try:
            yield
        finally:
            self.timings[name] = self.timings.get(name, 0.0) + time.perf_counter() - started

    def steps(self, name: str, items: Sequence[T], preview: Callable[[], Image | None] | None = None) -> Iterator[T]:
        """Each item as one step of a stage: cancellation is asked for before it, progress reported after.

        Args:
            name: of the stage.
            items: what the steps are about.
            preview: makes a small picture of the state; asked only where somebody listens.

        Raises:
            Cancelled: the caller wants no more.
        """
        with self.stage(name):
            for number, item in enumerate(items, 1):
                self.ask()
                yield item
                if self._on_step:
                    self._on_step(Step(name, number, len(items), preview() if preview else None))

    def ask(self) -> None:
        """Raise where the caller wants no more.

        Raises:
            Cancelled: so it is.
        """
        if self._cancel and self._cancel():
            raise Cancelled("cancelled")


def batches(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    """Consecutive slices of at most ``size`` items."""
    return [items[first : first + size] for first in range(0, len(items), size)]
