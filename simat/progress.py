"""How long work tells how far it is; the command line draws it, programs may listen."""

from __future__ import annotations

from typing import Protocol, runtime_checkable


@runtime_checkable
class Progress(Protocol):
    """Receives the progress of one stage after another."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """A stage begins, of ``total`` units where known."""
        ...

    def advance(self, count: int) -> None:
        """``count`` more units of the current stage are done."""
        ...

    def note(self, message: str) -> None:
        """One line that a person should read."""
        ...


class Silent:
    """Listens to nothing."""

    def start(self, stage: str, total: int | None, unit: str) -> None:
        """Ignore the beginning of a stage."""

    def advance(self, count: int) -> None:
        """Ignore progress."""

    def note(self, message: str) -> None:
        """Ignore a message."""
