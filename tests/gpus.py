"""GPUs played by the CPU: FAISS's names for them with their signatures, limits, and dislike of two users at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import faiss
import numpy as np

MOST = 2048  # rows and lists


class StandardGpuResources:
    """The scratch memory of a device: a stack that only one may use."""

    def __init__(self) -> None:
        self.scratch, self._user = 0, threading.Lock()

    def setTempMemory(self, size: int) -> None:
        self.scratch = size

    def __enter__(self) -> None:
        assert self._user.acquire(blocking=False), "'p + size == head_' failed"  # FAISS ends the process

    def __exit__(self, *_: object) -> None:
        self._user.release()


class GpuClonerOptions:
    __slots__ = (
        *("allowCpuCoarseQuantizer", "indicesOptions", "reserveVecs", "storeTransposed", "useFloat16"),
        *("useFloat16CoarseQuantizer", "usePrecomputed", "use_cuvs", "verbose"),
    )


class GpuIndexCagraConfig:
    __slots__ = ("build_algo", "device", "graph_degree", "intermediate_graph_degree", "store_dataset")


class SearchParametersCagra:
    def __init__(self, *, itopk_size: int) -> None:
        self.itopk_size = itopk_size


class OnDevice:
    """An index on a device."""

    def __init__(self, index: Any, provider: StandardGpuResources, device: int, searches: Counter[int]) -> None:
        assert provider.scratch
        self._index, self._provider, self.device, self._searches = index, provider, device, searches
        self.ntotal, self.d, self.nprobe = index.ntotal, index.d, 1

    def search(self, x: np.ndarray, k: int, *, params: Any = None, D: Any = None, I: Any = None) -> Any:  # noqa: E741
        """What the CPU finds."""
        if not 0 < k <= MOST or self.nprobe > MOST:
            raise RuntimeError(f"GPU index only supports min/max-K selection up to {MOST} (requested {k})")
        with self._provider:
            self._searches[self.device] += 1
            time.sleep(0.002)  # long enough for others to come
            return self._found(x, k, params)

    def _found(self, x: np.ndarray, k: int, params: Any) -> Any:
        assert params is None
        return self._index.search(x, k)


class GpuIndexCagra(OnDevice):
    """A graph: exact here; two of the last neighbours are missing, as where a graph does not lead to them."""

    def __init__(self, provider: StandardGpuResources, dims: int, metric: int, config: GpuIndexCagraConfig) -> None:
        assert metric == faiss.METRIC_INNER_PRODUCT
        super().__init__(faiss.IndexFlatIP(dims), provider, config.device, Counter())

    def train(self, x: np.ndarray) -> None:
        """Make the graph."""
        self._index.add(x)
        self.ntotal = self._index.ntotal

    def _found(self, x: np.ndarray, k: int, params: Any) -> Any:
        if k > (params.itopk_size if params else 64):
            raise RuntimeError(f"topk = {k} must be smaller than itopk_size")
        scores, rows = self._index.search(x, k)
        scores[:, -2:], rows[:, -2:] = np.finfo(np.float32).max, 2**32 - 1
        return scores, rows


class GpuParameterSpace:
    def set_index_parameter(self, index: Any, name: str, val: float) -> None:
        """Set it on one index."""
        assert name == "nprobe"
        index.nprobe = val
        faiss.ParameterSpace().set_index_parameter(index._index, name, val)


class FakeFaiss:
    """The module, with GPUs.

    Attributes:
        searches: by device, how many there were.
        options: of every copy.
    """

    StandardGpuResources, GpuClonerOptions = StandardGpuResources, GpuClonerOptions
    GpuParameterSpace = GpuParameterSpace
    GpuIndexCagra, GpuIndexCagraConfig = GpuIndexCagra, GpuIndexCagraConfig
    SearchParametersCagra = SearchParametersCagra

    def __init__(self, gpus: int) -> None:
        self._gpus = gpus
        self.searches: Counter[int] = Counter()
        self.options: list[GpuClonerOptions] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(faiss, name)

    def get_num_gpus(self) -> int:
        """How many are pretended."""
        return self._gpus

    def index_cpu_to_gpu(
        self, provider: StandardGpuResources, device: int, index: Any, options: GpuClonerOptions | None = None
    ) -> OnDevice:
        """A copy."""
        ivf = faiss.try_extract_index_ivf(index)
        if ivf is not None and not isinstance(faiss.downcast_index(ivf.quantizer), faiss.IndexFlat):
            raise RuntimeError("Error in clone_Index at GpuCloner.cpp:1: This index type is not implemented on GPU.")
        assert options is not None
        self.options.append(options)
        return OnDevice(faiss.clone_index(index), provider, device, self.searches)
