"""The server of clip-retrieval, with the weights and the index that we serve.

It needs a virtual environment of its own: ``pip install clip-retrieval 'setuptools<81'``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.loads import LoadError, free_port, server
from simat.engine import Engine

MODEL = "ViT-B-32"
NAME = "bench"


def write_weights(path: Path, seed: int = 0) -> str:
    """Seeded random weights of ``MODEL`` in a file that open_clip loads; returns the encoder's spec."""
    import open_clip
    import torch

    torch.manual_seed(seed)
    torch.save(open_clip.create_model(MODEL).state_dict(), path)
    return f"open_clip:{MODEL}/{path}"


def write_folder(engine: Engine, folder: Path) -> None:
    """The index of an engine in the layout of clip-retrieval: the very vectors, in the very shard."""
    (folder / "metadata").mkdir(parents=True)
    if len(engine.manifest.shards) != 1:
        raise LoadError("clip-retrieval reads an index of one shard", got=len(engine.manifest.shards))
    shutil.copy(engine.folder / engine.manifest.shards[0].name, folder / "image.index")
    parts = (engine.folder / engine.manifest.embeddings / part.name for part in engine.embeddings.manifest.parts)
    paths = pa.concat_arrays([chunk for part in parts for chunk in pq.read_table(part)["path"].chunks])
    columns = {"image_path": paths, "caption": pa.array([""] * len(paths))}
    pq.write_table(pa.table(columns), folder / "metadata" / "metadata_0.parquet")


@contextmanager
def back(environment: Path, folder: Path, encoder: str) -> Iterator[str]:
    """Run ``clip-retrieval back``; gives its address.

    Args:
        environment: the virtual environment that it is installed in.
        folder: what :func:`write_folder` wrote.
        encoder: the spec of :func:`write_weights`.

    Raises:
        LoadError: it did not start.
    """
    indices, port = folder.parent / "indices_paths.json", free_port()
    indices.write_text(json.dumps({NAME: str(folder)}))
    command = [
        *(str(environment / "bin" / "clip-retrieval"), "back"),
        *("--indices_paths", str(indices), "--port", str(port), "--clip_model", encoder),
        # What it would download: other weights, which neither of the two then uses.
        *("--provide_aesthetic_embeddings", "False", "--enable_mclip_option", "False"),
    ]
    url = f"http://127.0.0.1:{port}"
    with server(command, f"{url}/indices-list", folder.parent / "clip-retrieval.log"):
        yield url
