"""FAISS on GPUs: which shards go where, exact search and inverted lists in their memory, graphs by CAGRA.

What a GPU holds is a copy made when an index is opened; files stay those of the CPU, so that one manifest serves both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simat.errors import StorageError
from simat.shardfiles import require_faiss

USABLE = 0.8  # of a GPU's free memory: the rest is for queries and FAISS's own
SCRATCH = 2**29  # bytes that FAISS sets aside on every GPU for a search
MAX_K = 2048  # that a GPU finds


@dataclass(frozen=True)
class Placement:
    """Where the shards of an index go.

    Attributes:
        replicas: every device holds all shards and answers a part of the queries; else each shard is on one device.
        devices: by shard, the devices that hold it.
    """

    replicas: bool
    devices: tuple[tuple[int, ...], ...]


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
    if min(room.values()) < 0:
        raise StorageError(
            "the index does not fit into the memory of the GPUs",
            got=f"{sum(sizes) / 2**30:.1f} GiB for {sum(free.values()) / 2**30:.1f} GiB on {len(free)}",
            remedy="build it with smaller codes (--memory) or smaller shards (--shard-size), or give more GPUs",
        )
    return Placement(False, tuple(chosen))


def gpu_bytes(shard: Any) -> int:
    """Bytes of a shard in a GPU's memory, its vectors and tables in float16.

    Raises:
        StorageError: no GPU searches this kind of index.
    """
    faiss = require_faiss()
    if isinstance(shard, faiss.IndexFlat):
        return int(shard.ntotal * shard.d * 2)
    found = faiss.try_extract_index_ivf(shard)
    ivf = None if found is None else faiss.downcast_index(found)
    if isinstance(ivf, faiss.IndexIVFFlat):
        return int(shard.ntotal * (2 * shard.d + 8) + 2 * ivf.nlist * shard.d)
    if isinstance(ivf, faiss.IndexIVFScalarQuantizer | faiss.IndexIVFPQ):
        return int(shard.ntotal * (ivf.code_size + 8) + 2 * ivf.nlist * shard.d)
    if isinstance(shard, faiss.IndexHNSW) and hasattr(faiss, "GpuIndexCagra"):
        return int(shard.ntotal * (shard.d * 4 + 64 * 4))
    remedy = "pip install 'simat[gpu-cuvs]'" if isinstance(shard, faiss.IndexHNSW) else "leave out --gpus"
    raise StorageError("no GPU searches this kind of index", got=type(shard).__name__, remedy=remedy)


def on_gpus(shards: Sequence[Any], search: Mapping[str, int], devices: Sequence[int]) -> list[Any]:
    """Copies of the shards on GPUs, which answer as they do.

    Args:
        shards: CPU indexes.
        search: parameters such as ``nprobe``; these copies are ours alone, so they are set on them.
        devices: of :func:`parse_devices`.

    Raises:
        StorageError: they do not fit, or no GPU searches such indexes.
    """
    faiss = require_faiss()
    resources = {device: faiss.StandardGpuResources() for device in devices}
    for device in devices:
        resources[device].setTempMemory(SCRATCH)
    placed = place([gpu_bytes(shard) for shard in shards], {device: _free(device) for device in devices})
    copies = []
    for shard, where in zip(shards, placed.devices, strict=True):
        copy = _copied(shard, [resources[device] for device in where], list(where))
        if "nprobe" in search:
            faiss.GpuParameterSpace().set_index_parameter(copy, "nprobe", search["nprobe"])
        copy.simat_resources = resources  # FAISS keeps a bare pointer to them
        copies.append(copy)
    return copies


def nearest_on_gpus(centroids: Any, devices: Sequence[int]) -> Any:
    """A flat index on all ``devices``, for the k-means and the assignments of a build."""
    faiss = require_faiss()
    return faiss.index_cpu_to_gpus_list(centroids, gpus=list(devices))


def is_on_gpu(index: Any) -> bool:
    """Whether an index, or what it is made of, searches on a GPU."""
    return hasattr(index, "simat_resources")


def _copied(shard: Any, resources: list[Any], devices: list[int]) -> Any:
    faiss = require_faiss()
    if isinstance(shard, faiss.IndexHNSW):
        return _graph(shard, resources, devices)
    options = faiss.GpuMultipleClonerOptions()
    options.shard, options.useFloat16, options.useFloat16CoarseQuantizer = False, True, True
    if len(devices) == 1:
        return faiss.index_cpu_to_gpu(resources[0], devices[0], shard, options)
    vectors, numbers = faiss.GpuResourcesVector(), faiss.Int32Vector()
    for device, resource in zip(devices, resources, strict=True):
        vectors.push_back(resource)
        numbers.push_back(device)
    return faiss.index_cpu_to_gpu_multiple(vectors, numbers, shard, options)


def _graph(shard: Any, resources: list[Any], devices: list[int]) -> Any:
    """A CAGRA graph (Ootomo et al. 2023) over the vectors of an HNSW shard, one on each device."""
    faiss = require_faiss()
    vectors = np.ascontiguousarray(shard.storage.reconstruct_n(0, shard.ntotal), np.float32)
    graphs = []
    for device, resource in zip(devices, resources, strict=True):
        options = faiss.GpuIndexCagraConfig()
        options.device = device
        graph = faiss.GpuIndexCagra(resource, shard.d, faiss.METRIC_INNER_PRODUCT, options)
        graph.train(vectors)
        graphs.append(graph)
    if len(graphs) == 1:
        return graphs[0]
    replicas = faiss.IndexReplicas()
    for graph in graphs:
        replicas.addIndex(graph)
    replicas.simat_graphs = graphs
    return replicas


def _free(device: int) -> int:
    """Bytes of a GPU's memory that nobody uses."""
    faiss = require_faiss()
    if hasattr(faiss, "getFreeMemory"):
        return int(faiss.getFreeMemory(device))
    import torch

    return int(torch.cuda.mem_get_info(device)[0])
