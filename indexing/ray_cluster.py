"""A connection to a Ray cluster, and how many workers of which size its machines can hold."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from simat.errors import BuildError
from simat.plugins import required
from simat.reach import listens

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray warns of it at every start
}
MOST_TOLD = 300  # characters of what Ray says


@dataclass(frozen=True)
class Crew:
    """The workers of a build.

    Attributes:
        size: how many.
        cpus: cores that each claims; a part of one where a machine has more GPUs than cores.
        gpus: GPUs that each claims.
        threads: cores that each uses.
    """

    size: int
    cpus: float
    gpus: int
    threads: int

    @classmethod
    def of(cls, machines: Sequence[Mapping[str, float]], device: str) -> Crew:
        """One worker per machine, or per GPU where there are any: as many as fit if machines differ in size.

        Args:
            machines: what each living machine has: ``CPU``, ``GPU``.
            device: ``auto``, ``cpu``, ``cuda`` or ``torch``.

        Raises:
            BuildError: no machine of the cluster offers a core, or a GPU where ``device`` asks for one.
        """
        gpus = [machine for machine in machines if machine.get("GPU", 0) >= 1 and device in {"auto", "cuda"}]
        if device == "cuda" and not gpus:
            raise BuildError("no machine of the cluster has a GPU", remedy="use --device auto or cpu")
        machines = gpus or [machine for machine in machines if machine.get("CPU", 0) >= 1]
        if not machines:
            raise BuildError("no machine of the cluster offers a core", remedy="start one: ray start --address …")
        if gpus:
            share = min(machine.get("CPU", 0) / machine["GPU"] for machine in gpus)
            claim = float(int(share)) if share >= 1 else share  # Ray takes whole numbers, or parts of one
            return cls(sum(int(machine["GPU"]) for machine in gpus), claim, 1, max(1, int(share)))
        cores = min(int(machine["CPU"]) for machine in machines)
        return cls(sum(int(machine["CPU"]) // cores for machine in machines), float(cores), 0, cores)


def living() -> list[dict[str, float]]:
    """What each machine of the cluster has that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


@contextmanager
def connected(address: str | None, cores: int) -> Iterator[None]:
    """A connection to a cluster; the caller's own where there is one already.

    Args:
        address: ``HOST:PORT`` of its head, ``auto`` on one of its machines, None for this machine alone.
        cores: how many of this machine's to use, where it is alone.

    Raises:
        BuildError: ray is not installed, or there is no cluster.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in QUIET.items()})
    ray = require_ray()  # which looks at them
    if ray.is_initialized():
        yield
        return
    if address is not None:
        _check(address)
    alone: dict[str, Any] = {} if address else {"num_cpus": cores, "include_dashboard": False}
    try:
        ray.init(address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **alone)
    except Exception as error:  # Ray raises just this where a node does not start in time
        ray.shutdown()
        reason = " ".join(str(error).split())[:MOST_TOLD] or type(error).__name__
        remedy = "start one: ray start --head; all its machines need the same Python and Ray" if address else None
        raise BuildError(
            "cannot join the Ray cluster", got=f"{address or 'this machine'}: {reason}", remedy=remedy
        ) from error
    try:
        with _silent():
            yield
    finally:
        ray.shutdown()


@contextmanager
def _silent() -> Iterator[None]:
    """Ray prints what befalls a cluster, such as the death of a node, on standard output, where documents go."""
    from ray._private import worker

    before = getattr(worker, "_worker_logs_enabled", True)
    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


def require_ray() -> Any:
    """The module ``ray``, with Ray Data.

    Raises:
        BuildError: it is not installed.
    """
    ray, _ = (required(module, BuildError, "pip install 'simat[ray]'") for module in ("ray", "ray.data"))
    return ray


def _check(address: str) -> None:
    """Refuse at once what Ray would wait a minute for."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise BuildError(
            "not the address of a Ray cluster", got=repr(address), remedy="give HOST:PORT of its head, or auto"
        )
    if (reason := listens(host, int(port))) is not None:
        raise BuildError("no Ray cluster answers", got=f"{address}: {reason}", remedy="start one: ray start --head")
