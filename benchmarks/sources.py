"""Listing and decoding the same photographs from a folder, tars, Parquet and Arrow files, with the decoders of a build.

N distinct files are made of the photographs and packed: tars of 1,000 samples with their captions, Parquet with row
groups of 100 and Arrow with batches of 100 rows, as ``datasets`` writes images. The rounds are interleaved; the best
of each is told, and how much slower than the folder it is. No round finds a table that an earlier one has read. No
network runs: what is measured is all that differs.
"""

from __future__ import annotations

import argparse
import io
import os
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import simat
from benchmarks.build import write_distinct
from benchmarks.common import Facts, cores, parser, run, temporary_folder
from indexing.scan import read_scan, write_items
from indexing.sources import open_source
from indexing.workers import DecodePool
from simat import containers
from simat.errors import BuildError
from simat.images import ImageTransform
from simat.types import PixelEncoder

SHARD, GROUP = 1000, 100
SCHEMA = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("caption", pa.string())])


def measure(options: argparse.Namespace) -> Facts:
    """Files per second from each source."""
    encoder = simat.load_encoder(options.encoder)
    if not isinstance(encoder, PixelEncoder):
        raise BuildError("this encoder takes no decoded pixels", got=options.encoder)
    with temporary_folder() as folder:
        write_distinct(options.photos, folder / "folder", options.files)
        words = {name: pack(folder, folder / name) for name, pack in PACKED.items()}
        sources = {"folder": str(folder / "folder"), **words}
        rounds = [
            {name: timed(text, folder, options.workers, encoder.transform) for name, text in sources.items()}
            for _ in range(options.rounds)
        ]
    best = {name: {kind: min(one[name][kind] for one in rounds) for kind in ("list_s", "decode_s")} for name in sources}
    plain = best["folder"]["list_s"] + best["folder"]["decode_s"]
    told = {
        name: {
            **seconds,
            "files_per_s": options.files / seconds["decode_s"],
            "over_folder": (seconds["list_s"] + seconds["decode_s"]) / plain,
        }
        for name, seconds in best.items()
    }
    return {"files": options.files, "workers": options.workers, **told}


def timed(text: str, folder: Path, workers: int, transform: ImageTransform) -> dict[str, float]:
    """Seconds to list a source, and to decode all that it lists."""
    containers.forget()
    started = time.perf_counter()
    source = open_source(text)
    files = write_items(source.items(), folder / "scan.parquet")
    listed = time.perf_counter()
    paths = [os.fspath(source.root / path) for path in read_scan(folder / "scan.parquet", 0, files)]
    with DecodePool(workers, transform) as pool:
        good = sum(pixels is not None for _, pixels in pool.decode(paths))
    if good != files:
        raise BuildError("files were lost on the way", got=f"{good} of {files} from {text}")
    return {"list_s": listed - started, "decode_s": time.perf_counter() - listed}


def pack_tars(folder: Path, out: Path) -> str:
    """Tars of ``SHARD`` samples each."""
    out.mkdir()
    photos = sorted((folder / "folder").iterdir())
    for shard, first in enumerate(range(0, len(photos), SHARD)):
        with tarfile.open(out / f"{shard:05}.tar", "w") as tar:
            for photo in photos[first : first + SHARD]:
                tar.add(photo, photo.name)
                member = tarfile.TarInfo(f"{photo.stem}.txt")
                member.size = len(photo.stem)
                tar.addfile(member, io.BytesIO(photo.stem.encode()))
    return f"{out}/{{00000..{(len(photos) - 1) // SHARD:05}}}.tar"


def pack_parquet(folder: Path, out: Path) -> str:
    """One Parquet file."""
    path = out.with_suffix(".parquet")
    with pq.ParquetWriter(path, SCHEMA) as writer:
        for batch in batches(folder):
            writer.write_batch(batch, row_group_size=GROUP)
    return str(path)


def pack_arrow(folder: Path, out: Path) -> str:
    """One Arrow stream."""
    path = out.with_suffix(".arrow")
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, SCHEMA) as writer:
        for batch in batches(folder):
            writer.write_batch(batch)
    return str(path)


def batches(folder: Path) -> Iterator[pa.RecordBatch]:
    """The photographs, ``GROUP`` at a time."""
    photos = sorted((folder / "folder").iterdir())
    for first in range(0, len(photos), GROUP):
        chosen = photos[first : first + GROUP]
        rows = [{"image": {"bytes": p.read_bytes(), "path": p.name}, "caption": p.stem} for p in chosen]
        yield pa.RecordBatch.from_pylist(rows, SCHEMA)


PACKED: dict[str, Callable[[Path, Path], str]] = {"tars": pack_tars, "parquet": pack_parquet, "arrow": pack_arrow}


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("photos", type=Path, help="folder of photographs, JPEG files among them")
    arguments.add_argument("--files", type=int, default=4000)
    arguments.add_argument("--workers", type=int, default=cores())
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--encoder", default="offline", help="whose preprocessing")
    run(arguments, measure)


if __name__ == "__main__":
    main()
