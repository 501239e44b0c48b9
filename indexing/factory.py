"""Which FAISS index for how many vectors: exact while that is fast, inverted lists beyond."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from simat.blocks import unwrapped
from simat.errors import BuildError
from simat.searcher import require_faiss

EXACT_BYTES = 2**28  # a scan of 256 MiB takes one core about 25 ms
SAMPLES_PER_LIST = 64  # vectors to train on, per inverted list
ID_BYTES = 8
RABITQ_BYTES = 8  # of a code, beside one bit for every dimension


def choose_factory(rows: int, dim: int, shard_size: int, memory: int) -> str:
    """A FAISS factory string for ``rows`` vectors in shards of ``shard_size``.

    ``Flat`` while an exact scan is fast; else inverted lists, about 4·√n of them per shard (FAISS's guideline for
    n up to a million), whose codes are as exact as ``memory`` bytes for all shards allow: float32, float16, 8 bits;
    then the sign of each number (RaBitQ, Gao and Long 2024), and where even that is too much, product quantisation
    in 4 bits. The last two are for finding candidates that the stored vectors then score (``benchmarks/scaling.py``).
    """
    if rows * dim * 4 <= min(EXACT_BYTES, memory):
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(min(rows, shard_size))))
    return f"IVF{lists},{_codes(rows, dim, memory)}"


def _codes(rows: int, dim: int, memory: int) -> str:
    for name, size in (("Flat", 4 * dim), ("SQfp16", 2 * dim), ("SQ8", dim)):
        if rows * (size + ID_BYTES) <= memory:
            return name
    if rows * (-(-dim // 8) + RABITQ_BYTES + ID_BYTES) <= memory:
        return "RaBitQfs"
    divisors = [m for m in range(dim // 2, 0, -1) if dim % m == 0]
    fitting = (m for m in divisors if rows * (-(-m // 2) + ID_BYTES) <= memory)
    return f"PQ{next(fitting, divisors[-1])}x4fs"


def empty_index(dim: int, factory: str) -> Any:
    """An empty inner-product index.

    Raises:
        BuildError: FAISS does not understand the string, or not for this dimension.
    """
    faiss = require_faiss()
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise BuildError(
            f"FAISS cannot make a {dim}-d index of this factory string",
            got=repr(factory),
            remedy="try Flat, IVF1024,Flat or HNSW32",
        ) from error
    for part in (innermost(index), unwrapped(index)):
        if isinstance(part, faiss.IndexPQ | faiss.IndexIVFPQ):
            part.do_polysemous_training = False  # minutes of annealing for a kind of search that is not used
    return index


def training_size(index: Any) -> int:
    """How many vectors an index wants to be trained on; 0 when it needs no training."""
    import faiss

    if index.is_trained:
        return 0
    ivf = faiss.try_extract_index_ivf(index)
    return max(SAMPLES_PER_LIST * ivf.nlist if ivf is not None else 0, 65_536)


def search_knob(index: Any) -> tuple[str, Iterator[int]] | None:
    """The parameter that trades time for recall, and its values from fast to exact; None where there is none."""
    import faiss

    ivf = faiss.try_extract_index_ivf(index)
    if ivf is not None:
        return "nprobe", iter(sorted({min(2**i, ivf.nlist) for i in range(ivf.nlist.bit_length() + 1)}))
    if isinstance(unwrapped(index), faiss.IndexHNSW):
        return "efSearch", (2**i for i in range(4, 13))
    return None


def is_compressed(index: Any) -> bool | None:
    """Whether codes keep little of a vector (products, single bits); None where they keep all, or refine themselves."""
    import faiss

    inner = innermost(index)
    if inner is None:
        return None
    if isinstance(inner, faiss.IndexFlat | faiss.IndexIVFFlat):
        return None
    return not isinstance(inner, faiss.IndexScalarQuantizer | faiss.IndexIVFScalarQuantizer)


def code_bytes(index: Any) -> int:
    """Bytes that a vector takes in an index, but for its id."""
    import faiss

    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return code_bytes(index.index)
    if isinstance(index, faiss.IndexRefine):
        return code_bytes(index.base_index) + code_bytes(index.refine_index)
    if isinstance(index, faiss.IndexHNSW):
        return code_bytes(index.storage) + 4 * int(index.hnsw.nb_neighbors(0))  # type: ignore[attr-defined]
    return int(index.code_size) if hasattr(index, "code_size") else 4 * int(index.d)


def innermost(index: Any) -> Any | None:
    """What holds the codes, below transformations and graphs; None where an index refines its own answers."""
    import faiss

    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexRefine):
        return None
    if isinstance(index, faiss.IndexPreTransform):
        return innermost(index.index)
    return innermost(index.storage) if isinstance(index, faiss.IndexHNSW) else index
