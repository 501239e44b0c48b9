"""Two real nodes of a Ray cluster in one process."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import PixelColourEncoder

TESTS = Path(__file__).parent


@contextmanager
def cluster(*cores: int, path: tuple[Path, ...] = ()) -> Iterator[Any]:
    """A cluster of nodes with so many cores each, the first its head; whose workers find the tests' modules.

    Args:
        cores: of each node.
        path: more folders for the Python path of the workers.
    """
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    found = [str(folder) for folder in (*path, TESTS, TESTS.parent)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([*found, os.environ.get("PYTHONPATH", "")]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Cluster()
        try:
            for count in cores:
                join(nodes, count)
            yield nodes
        finally:
            nodes.shutdown()


def join(nodes: Any, cores: int) -> Any:
    """Add a node; on a busy machine its start may take longer than the half minute that Ray gives it."""
    for attempt in range(4):
        try:
            node = nodes.add_node(num_cpus=cores, object_store_memory=80 * 2**20, include_dashboard=False)
            nodes.wait_for_nodes(timeout=120)
            return node
        except Exception as error:
            if attempt == 3 or "timed out during startup" not in str(error):
                raise
    return None


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
            time.sleep(600)
        return super().encode_pixels(pixels)
