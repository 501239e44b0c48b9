"""A Ray cluster of real nodes, and builds on it, in processes of their own: nodes that die may take a process along.

Whatever these processes start, and what that starts, has a mark in its environment, and is killed in the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from building import Recorder
from helpers import PixelColourEncoder

if TYPE_CHECKING:
    from indexing.config import BuildConfig

TESTS = Path(__file__).parent
MARK = "SIMAT_TESTS_OF_RAY"
LIMIT_S = 600.0  # for what takes seconds on a machine that does nothing else
EAGER = {  # beside much else, polite workers never start; and a node that is gone is known to be after 5 s, not 20
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
}
STORE = 80 * 2**20  # bytes of memory for a node's objects, the least that Ray takes


class MarkingEncoder(PixelColourEncoder):
    """Leaves the name of the node it works on in a folder, and never ends its work on one of them."""

    def __init__(self, folder: str, endless: str) -> None:
        super().__init__()
        self._folder, self._endless = folder, endless

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        import ray

        node = ray.get_runtime_context().get_node_id()
        (Path(self._folder) / node).touch()
        if node == self._endless:
            time.sleep(3600)
        return super().encode_pixels(pixels)


class Ends(Exception):
    """Stands for whatever ends a build that nobody catches."""


class Interrupting(Recorder):
    """Ends the build when so many images are embedded."""

    images = 0

    @classmethod
    def after(cls, images: int) -> Interrupting:
        """One that does so after ``images``; never, where that is 0."""
        recorder = cls.new()
        recorder.images = images  # type: ignore[attr-defined]
        return recorder  # type: ignore[return-value]

    def advance(self, count: int) -> None:
        super().advance(count)
        if 0 < self.images <= self.advanced.get("embed", 0):
            raise Ends


def hold(cores: int) -> None:
    """Be a cluster of two nodes with so many cores each; obey ``join`` and ``kill NODE`` until the input ends.

    Prints the address, and an answer to every line that was read: the name of the node.
    """
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    nodes = [_joined(cluster, cores) for _ in range(2)]
    print(cluster.address, flush=True)
    for line in sys.stdin:
        match line.split():
            case ["join"]:
                nodes.append(_joined(cluster, cores))
                print(nodes[-1].node_id, flush=True)
            case ["kill", name]:
                cluster.remove_node(next(node for node in nodes if node.node_id == name), allow_graceful=False)
                print(name, flush=True)
    cluster.shutdown()


def _joined(cluster: Any, cores: int) -> Any:
    """A new node; on a busy machine its start may take longer than the half minute that Ray gives it."""
    for _ in range(3):
        with contextlib.suppress(Exception):
            return cluster.add_node(num_cpus=cores, object_store_memory=STORE, include_dashboard=False)
    return cluster.add_node(num_cpus=cores, object_store_memory=STORE, include_dashboard=False)


def drive(address: str) -> None:
    """Build indexes on a cluster, one for each line of input, a JSON document of what :meth:`Nodes.build` takes.

    Prints what each build has told.
    """
    from indexing.build import build_index
    from indexing.config import BuildConfig, Machine
    from indexing.ray_cluster import connected

    machine = Machine(workers=1, threads=1, engine="ray", address=address)
    with connected(address, 1):
        for line in sys.stdin:
            task = json.loads(line)
            recorder = Interrupting.after(task["images"])
            encoder = MarkingEncoder(task["marks"], task["endless"])
            with contextlib.suppress(Ends):
                build_index(Path(task["index"]), BuildConfig(**task["config"]), machine, recorder, encoder)
            print(json.dumps({"notes": recorder.notes, "advanced": recorder.advanced}), flush=True)


@dataclass(frozen=True)
class Nodes:
    """A cluster that one process holds, and another that builds on it.

    Attributes:
        holder: the first.
        driver: the second.
        place: for what they leave.
    """

    holder: subprocess.Popen[str]
    driver: subprocess.Popen[str]
    place: Path

    def ask(self, order: str) -> str:
        """Have something done to the cluster; gives the name of the node that it was done to."""
        tell(self.holder, order)
        return line_of(self.holder, self.place)

    def build(self, place: Path, config: BuildConfig, endless: str = "", images: int = 0) -> Callable[[], Any]:
        """Begin to build ``place/index``.

        Args:
            place: where nodes that work leave their marks, too.
            config: of the build.
            endless: a node on which the work never ends.
            images: after which the build is interrupted; 0 for never.

        Returns:
            Waits for the end, and gives what the build has told.
        """
        task = {"index": str(place / "index"), "config": config.as_dict(), "marks": str(place / "marks")}
        (place / "marks").mkdir(exist_ok=True)
        tell(self.driver, json.dumps({**task, "endless": endless, "images": images}))
        return lambda: told(line_of(self.driver, self.place))

    def await_mark(self, place: Path, node: str) -> None:
        """Wait until a node works on the build of ``place/index``."""
        until = time.monotonic() + LIMIT_S
        while not (place / "marks" / node).exists():
            assert self.driver.poll() is None and time.monotonic() < until, output_of(self.place)
            time.sleep(0.05)


@contextmanager
def cluster(place: Path, cores: int = 1) -> Iterator[Nodes]:
    """A cluster of two nodes with so many cores each, whose workers find the tests' modules.

    Args:
        place: a folder for what is written on the way.
        cores: of each node.
    """
    mark = uuid.uuid4().hex
    try:
        with started(f"hold({cores})", mark, place) as holder:
            address = line_of(holder, place)
            with started(f"drive({address!r})", mark, place) as driver:
                yield Nodes(holder, driver, place)
    finally:
        for left in marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)


@contextmanager
def started(call: str, mark: str, place: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that calls a function of this module, in a session of its own; it is asked to end, and then killed."""
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **EAGER, MARK: mark}
    pipe: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command: Sequence[str] = [sys.executable, "-X", "faulthandler", "-c", f"from ray_clusters import *; {call}"]
    with (place / "output").open("a") as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors, start_new_session=True, **pipe)
    with process:
        try:
            yield process
            process.stdin.close()
            process.wait(20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def tell(process: subprocess.Popen[str], line: str) -> None:
    """Write a line to a process."""
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def line_of(process: subprocess.Popen[str], place: Path) -> str:
    """The next line that a process prints; fails where there is none in time, with what was printed beside."""
    assert process.stdout is not None
    line = process.stdout.readline().strip() if wait([process.stdout], LIMIT_S) else ""
    if not line:
        process.send_signal(signal.SIGABRT)  # it says where it is
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        pytest.fail(f"no answer from {process.args}:\n{output_of(place)}")
    return line


def told(line: str) -> Any:
    """The JSON document that a line is, and no other line may be: Ray is not to speak on standard output."""
    try:
        return json.loads(line)
    except ValueError:
        pytest.fail(f"printed beside: {line!r}")


def output_of(place: Path) -> str:
    """What the processes have printed beside."""
    return (place / "output").read_text(errors="replace")


def marked(mark: str) -> list[int]:
    """The processes that have the mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
    return found
