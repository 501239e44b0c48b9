"""What the tests of sources share: pictures packed as people pack them, without a file of their own each."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from helpers import blotches, encoded

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(seed: int) -> bytes:
    """The file of a small picture, different for every seed."""
    return encoded(blotches(seed))


def pack_tar(path: Path, files: Mapping[str, bytes | tarfile.TarInfo], format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of files, or of members that are something else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A member that is no file."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def samples(first: int, count: int, captions: bool = True) -> dict[str, bytes]:
    """WebDataset samples: pictures, with their words and documents."""
    files: dict[str, bytes] = {}
    for seed in range(first, first + count):
        files[f"{seed:04}.png"] = picture(seed)
        if captions:
            files[f"{seed:04}.txt"] = f"picture {seed}\n".encode()
            files[f"{seed:04}.json"] = json.dumps({"width": 9, "seed": seed, "score": seed / 2}).encode()
    return files


def structs(seeds: Sequence[int | None]) -> pa.Array:
    """A column of images as ``datasets`` keeps them; None for a null."""
    values = [None if seed is None else {"bytes": picture(seed), "path": f"{seed}.png"} for seed in seeds]
    return pa.array(values, IMAGE)


def pack_parquet(path: Path, columns: Mapping[str, Any], row_group: int = 4) -> Path:
    """A Parquet file of columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path, row_group_size=row_group)
    return path


def pack_arrow(path: Path, columns: Mapping[str, Any], batch: int = 4, stream: bool = True) -> Path:
    """An Arrow file of columns, in batches: a stream, or a file with an end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(dict(columns))
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=batch)
    return path


def not_utf8(*texts: str | bytes) -> pa.Array:
    """A column of text of which some is not UTF-8."""
    raw = pa.array([text if isinstance(text, bytes) else text.encode() for text in texts], pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
