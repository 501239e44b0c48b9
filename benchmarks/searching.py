"""One process that opens an index, answers queries one at a time, and tells how long each took.

It runs in other environments as well and imports nothing of ours but what searches: ``simat INDEX`` or ``faiss FILE``,
then the queries and the file for the ids, both ``.npy``. Prints JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

K, WARM_UP = 10, 20


def searcher(kind: str, path: str) -> Callable[[np.ndarray], np.ndarray]:
    """What finds the ids of the nearest vectors of one query."""
    if kind == "simat":
        import simat

        engine = simat.open(path)
        return lambda query: engine.searcher.search(query, K).ids
    import faiss

    index = faiss.read_index(path)
    return lambda query: index.search(query, K)[1]


def peak_mib() -> float:
    """The most that this process has held; ``ru_maxrss`` would begin with what the process that started it held."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) / 1024


def main() -> None:
    kind, path, queries, out = sys.argv[1:]
    started = time.perf_counter()
    search = searcher(kind, path)
    opened = time.perf_counter() - started
    rows = np.load(queries)
    for row in rows[:WARM_UP]:
        search(row[None])
    ids, seconds = [], []
    for row in rows:
        started = time.perf_counter()
        ids.append(search(row[None])[0])
        seconds.append(time.perf_counter() - started)
    np.save(out, np.array(ids))
    seconds.sort()
    p50, p99 = (1000 * seconds[int(share * (len(seconds) - 1))] for share in (0.5, 0.99))
    print(json.dumps({"p50_ms": p50, "p99_ms": p99, "open_s": opened, "peak_mib": peak_mib()}))


if __name__ == "__main__":
    main()
