"""What a service may use and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from simat.encoders.runtime import RuntimeOptions
from simat.errors import SimatError
from simat.generators.options import ModelOptions


@dataclass(frozen=True)
class ServiceOptions:
    """How a service runs; every limit holds for one request or one process, never for one user.

    Attributes:
        upload_bytes: the greatest body of a request, and the greatest picture in one.
        pixels: the greatest picture, width × height.
        window: seconds that a query waits for others to come with it, where others are expected.
        batch: queries answered together.
        waiting: queries that may wait for their batch; one more is refused.
        queue: jobs that may wait; one more is refused.
        workers: jobs that run at once.
        kept: seconds for which the results of a job are kept.
        state: folder in which finished jobs outlive the process, None for nowhere.
        fetch: hosts that pictures may be fetched from; none unless named.
        backends: names of those that may be used, None for all that are installed.
        model: which generative model draws and edits, and how it runs.
        runtime: where the encoders of the indices run.
        root: where the images are now, if they moved since the index was built.
        follow: seconds between two looks whether an index has changed, and is to be opened anew; 0 for no look.
    """

    upload_bytes: int = 20 * 2**20
    pixels: int = 50_000_000
    window: float = 0.003
    batch: int = 64
    waiting: int = 1024
    queue: int = 16
    workers: int = 1
    kept: float = 3600.0
    state: Path | None = None
    fetch: tuple[str, ...] = ()
    backends: tuple[str, ...] | None = None
    model: ModelOptions = field(default_factory=ModelOptions)
    runtime: RuntimeOptions = field(default_factory=RuntimeOptions)
    root: Path | None = None
    follow: float = 0.0

    def __post_init__(self) -> None:
        for name in ("upload_bytes", "pixels", "batch", "waiting", "queue", "workers"):
            if getattr(self, name) < 1:
                raise SimatError(f"{name} must be at least 1", got=getattr(self, name))
        for name in ("window", "kept", "follow"):
            if not getattr(self, name) >= 0:
                raise SimatError(f"{name} must not be negative", got=getattr(self, name))
