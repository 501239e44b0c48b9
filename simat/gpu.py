"""FAISS on GPUs: which shards go where, exact search and inverted lists in their memory, graphs by CAGRA.

What a GPU holds is a copy made when an index is opened; files stay those of the CPU, so that one manifest serves both.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from simat.errors import StorageError
from simat.shardfiles import faiss_reason, require_faiss

USABLE = 0.8  # of a GPU's free memory: the rest is for queries and FAISS's own
SCRATCH = 2**29  # bytes that FAISS sets aside on every GPU for a search
MAX_K = 2048  # rows that a GPU finds, and lists that it probes
ID_BYTES = 8
PADDING = 16  # rows: lists are filled up to multiples of 32
GRAPH_LINKS = 64 + 128  # of a vector: those that a CAGRA graph keeps, and those that it chooses among
GRAPH_WIDTH = 64  # candidates that a search of a graph keeps at least


@dataclass(frozen=True)
class Placement:
    """Where the shards of an index go.

    Attributes:
        replicas: every device holds all shards and answers a part of the queries; else each shard is on one device.
        devices: by shard, the devices that hold it.
    """

    replicas: bool
    devices: tuple[tuple[int, ...], ...]


class GpuShard:
    """A shard in the memory of GPUs, the same copy on each of its devices; safe to share between threads.

    FAISS's scratch memory of a device serves one search at a time: all shards on a device share its lock.

    Args:
        copies: FAISS indexes, each with the lock of its device.
        width: candidates that a search of a graph keeps; None where the copies are no graphs.

    Attributes:
        ntotal: number of vectors.
        d: their length.
        copies: number of copies.
    """

    def __init__(self, copies: Sequence[tuple[Any, threading.Lock]], width: int | None = None) -> None:
        self._copies, self._width, self._turns = list(copies), width, count()
        self.copies, self.ntotal, self.d = len(copies), int(copies[0][0].ntotal), int(copies[0][0].d)

    def search(
        self, queries: Float32[np.ndarray, "q d"], k: int
    ) -> tuple[Float32[np.ndarray, "q k"], Int64[np.ndarray, "q k"]]:
        """Scores and rows, best first, of the k best for k ≤ ``MAX_K``; row −1 where there are fewer."""
        with self._free() as index:
            scores, rows = index.search(queries, k, params=self._parameters(k))
        rows[rows >= self.ntotal] = -1  # a graph's missing neighbour is the largest number of 32 bits
        return scores, rows

    @contextmanager
    def _free(self) -> Iterator[Any]:
        """A copy that nobody searches, else the next one in turn."""
        turn = next(self._turns) % self.copies
        order = self._copies[turn:] + self._copies[:turn]
        found = next((copy for copy in order if copy[1].acquire(blocking=False)), None)
        if found is None:
            found = order[0]
            found[1].acquire()
        try:
            yield found[0]
        finally:
            found[1].release()

    def _parameters(self, k: int) -> Any:
        return None if self._width is None else require_faiss().SearchParametersCagra(itopk_size=max(self._width, k))


def parse_devices(text: str) -> tuple[int, ...]:
    """The GPUs that ``all``, or numbers such as ``0,1``, name; none where the text is empty.

    Raises:
        StorageError: this FAISS knows no GPUs, there are none, or not these.
    """
    if not text:
        return ()
    there = gpu_count()
    if text == "all":
        return tuple(range(there))
    try:
        devices = tuple(dict.fromkeys(int(number) for number in text.split(",")))
    except ValueError:
        devices = (-1,)
    if not all(0 <= device < there for device in devices):
        raise StorageError("no such GPUs", got=repr(text), remedy=f"give all, or numbers from 0 to {there - 1}")
    return devices


def gpu_count() -> int:
    """How many GPUs FAISS may use.

    Raises:
        StorageError: it was built without them, or finds none.
    """
    faiss = require_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        raise StorageError(
            "this faiss knows no GPUs",
            got=f"faiss {faiss.__version__} for CPUs",
            remedy="pip uninstall faiss-cpu, then pip install 'simat[gpu]' or 'simat[gpu-cuvs]'",
        )
    count = int(faiss.get_num_gpus())
    if not count:
        raise StorageError("faiss finds no GPU", remedy="leave out --gpus, or see what nvidia-smi says")
    return count


def place(sizes: Sequence[int], free: Mapping[int, int]) -> Placement:
    """All shards on every device where they fit; else each on the device that has most room left.

    Args:
        sizes: bytes of each shard in a GPU's memory.
        free: bytes that each device has free.

    Raises:
        StorageError: they fit neither way.
    """
    room = {device: int(USABLE * size) - SCRATCH for device, size in free.items()}
    if sum(sizes) <= min(room.values()):
        return Placement(True, tuple(tuple(room) for _ in sizes))
    chosen: list[tuple[int, ...]] = [()] * len(sizes)
    for shard in sorted(range(len(sizes)), key=lambda shard: -sizes[shard]):
        device = max(room, key=lambda device: room[device])
        room[device] -= sizes[shard]
        chosen[shard] = (device,)
        if room[device] < 0:
            raise StorageError(
                "the index does not fit into the memory of the GPUs",
                got=f"{sum(sizes) / 2**30:.1f} GiB for {sum(free.values()) / 2**30:.1f} GiB on {len(free)}",
                remedy="give more GPUs, or build it with smaller --shard-size or codes, as --factory IVF4096,SQ8",
            )
    return Placement(False, tuple(chosen))


def gpu_bytes(shard: Any) -> int:
    """Bytes of a shard in a GPU's memory; of exact indexes in float16, else in the codes that it has.

    Raises:
        StorageError: no GPU searches this kind of index.
    """
    faiss = require_faiss()
    index, rows = shard, int(shard.ntotal)
    while isinstance(index, faiss.IndexPreTransform):
        index = faiss.downcast_index(index.index)
    # Kinds derived from these know more than their copies would.
    if type(index) in {faiss.IndexFlat, faiss.IndexFlatIP}:
        return rows * int(index.d) * 2
    if type(index) in {faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer, faiss.IndexIVFPQ}:
        lists = int(index.nlist)
        return (rows + PADDING * lists) * (int(index.code_size) + ID_BYTES) + 4 * lists * int(index.d)
    if isinstance(shard, faiss.IndexHNSW) and hasattr(faiss, "GpuIndexCagra"):
        return rows * 4 * (int(shard.d) + GRAPH_LINKS)
    remedy = "pip install 'simat[gpu-cuvs]'" if isinstance(shard, faiss.IndexHNSW) else "leave out --gpus"
    raise StorageError("no GPU searches this kind of index", got=type(index).__name__, remedy=remedy)


def on_gpus(shards: Sequence[Any], search: Mapping[str, int], devices: Sequence[int]) -> list[GpuShard]:
    """Copies of the shards on GPUs: exact indexes in float16, graphs made anew, others with the codes that they have.

    Args:
        shards: CPU indexes.
        search: parameters such as ``nprobe``; these copies are ours alone, so they are set on them.
        devices: of :func:`parse_devices`.

    Raises:
        StorageError: they do not fit, or no GPU searches such indexes, or so many of their lists.
    """
    if search.get("nprobe", 0) > MAX_K:
        raise StorageError(
            f"a GPU probes at most {MAX_K:,} lists",
            got=search["nprobe"],
            remedy="'simat index tune INDEX --recall R --apply' with a lower recall, or leave out --gpus",
        )
    faiss = require_faiss()
    placed = place([gpu_bytes(shard) for shard in shards], {device: _free(device) for device in devices})
    resources = {device: faiss.StandardGpuResources() for device in devices}
    locks = {device: threading.Lock() for device in devices}
    for device in devices:
        resources[device].setTempMemory(SCRATCH)
    return [
        GpuShard(
            [(_copied(shard, resources[device], device, search), locks[device]) for device in where],
            max(GRAPH_WIDTH, search.get("efSearch", 0)) if isinstance(shard, faiss.IndexHNSW) else None,
        )
        for shard, where in zip(shards, placed.devices, strict=True)
    ]


def nearest_on_gpus(centroids: Any, devices: Sequence[int]) -> Any:
    """A flat index on all ``devices``, for the k-means and the assignments of a build."""
    faiss = require_faiss()
    return faiss.index_cpu_to_gpus_list(centroids, gpus=list(devices))


def _copied(shard: Any, resource: Any, device: int, search: Mapping[str, int]) -> Any:
    faiss = require_faiss()
    try:
        if isinstance(shard, faiss.IndexHNSW):
            return _graph(shard, resource, device)
        options = faiss.GpuClonerOptions()
        options.useFloat16, options.use_cuvs = True, False  # cuVS knows no scalar quantiser
        copy = faiss.index_cpu_to_gpu(resource, device, shard, options)
        if "nprobe" in search:
            faiss.GpuParameterSpace().set_index_parameter(copy, "nprobe", search["nprobe"])
    except RuntimeError as error:
        raise StorageError(
            f"FAISS cannot copy the index to GPU {device}", got=faiss_reason(error), remedy="leave out --gpus"
        ) from error
    return copy


def _graph(shard: Any, resource: Any, device: int) -> Any:
    """A CAGRA graph (Ootomo et al. 2023) over the vectors of an HNSW shard."""
    faiss = require_faiss()
    options = faiss.GpuIndexCagraConfig()
    options.device = device
    graph = faiss.GpuIndexCagra(resource, shard.d, faiss.METRIC_INNER_PRODUCT, options)
    graph.train(np.ascontiguousarray(shard.storage.reconstruct_n(0, shard.ntotal), np.float32))
    return graph


def _free(device: int) -> int:
    """Bytes of a GPU's memory that nobody uses, as torch knows them: FAISS does not tell.

    Raises:
        StorageError: torch is one for CPUs.
    """
    import torch

    try:
        return int(torch.cuda.mem_get_info(device)[0])
    except (AssertionError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise StorageError("torch does not reach this GPU", got=reason, remedy="install torch for CUDA") from error
