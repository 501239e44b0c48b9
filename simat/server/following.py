"""Following indices that change: a look every so often, and a reload where there is something new."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simat.errors import SimatError
from simat.files import FileState, file_state
from simat.manifest import NAME

if TYPE_CHECKING:
    from simat.server.service import Service

LOG = logging.getLogger("simat")
LONGEST_REST = 16  # looks that are left out after failures, at most
JOIN_S = 5.0


@dataclass
class _Known:
    """What the last looks at an index have shown.

    Attributes:
        state: of the manifest that is open.
        failed: of the manifest that could not be opened.
        failures: how often, one after the other.
        rest: looks that are left out.
        told: what the log said of it.
    """

    state: FileState | None = None
    failed: FileState | None = None
    failures: int = 0
    rest: int = 0
    told: str = ""


class Follower:
    """Looks whether the indices of a service have changed, and lets it reload those that have.

    A look costs one call to the system as long as the manifest is the same file, or one to Milvus for an index that is
    there. Where an index cannot be opened, the old generation goes on answering, the log says so once, and looks become
    rarer until the manifest is another one.

    Args:
        service: whose indices.
        seconds: between two looks; 0 for none.
    """

    def __init__(self, service: Service, seconds: float) -> None:
        self._service, self._seconds = service, min(seconds, threading.TIMEOUT_MAX)
        self._known: dict[str, _Known] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="simat-follow", daemon=True)

    def start(self) -> None:
        """Look from now on, in a thread."""
        if self._seconds:
            self._thread.start()

    def close(self) -> None:
        """Look no more; a reload under way may still end."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(JOIN_S)

    def look(self) -> None:
        """Look at every index once."""
        for name in self._service.names:
            try:
                self._look_at(name, self._known.setdefault(name, _Known()))
            except Exception as error:  # whatever it is, the next look may be luckier
                LOG.error("%s: cannot be followed", name, exc_info=error)

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self.look()

    def _look_at(self, name: str, known: _Known) -> None:
        engine = self._service.engine(name)
        state = file_state(engine.folder / NAME)
        if state is not None and state == known.state:
            return
        if known.failures and state == known.failed and known.rest:
            known.rest -= 1
            return
        try:
            if engine.changed():
                engine = self._service.reload(name)
                LOG.info("%s: generation %d, %s images", name, engine.manifest.generation, f"{len(engine):,}")
        except (SimatError, OSError) as error:
            known.failed, known.failures = state, known.failures + 1 if state == known.failed else 1
            known.rest = min(2 ** (known.failures - 1), LONGEST_REST) - 1
            if known.told != str(error):
                LOG.warning("%s: the generation that is open goes on answering: %s", name, error)
            known.told = str(error)
        else:
            self._known[name] = _Known(state)
