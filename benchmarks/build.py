"""Build throughput against what decoding and the network alone would cost, and peak memory against the number of files.

Throughput: N distinct files are made of the photographs; (decode-only CPU seconds + model-only CPU seconds) / cores
is the time that a build without any other work would take; it is divided by the wall seconds of the whole command
``simat index build``, its start included. Decoding and model are measured alone, in one process, on a sample, and
scaled up. The conversion of the network is in the cache by then, as it is in every build but a user's first.

Memory (``--memory``): the peak resident memory of builds of N and of 4 N files, of all processes together (pages
that they share count in each) and of the main process alone. The ``bench`` extra has what this needs.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
from jaxtyping import UInt8

import simat
from benchmarks.common import Facts, cores, cpu_timed, parser, run, temporary_folder
from indexing.decoder import decode_file
from indexing.embed import BATCH
from indexing.scan import walk
from simat.errors import BuildError
from simat.types import PixelEncoder

SAMPLE = 500  # files that decoding and the model are measured on
EVERY_S = 0.02  # between two samples of memory
GROWTH = 4  # how many times more files the second build of --memory has
JPEG_START, JPEG_COMMENT = b"\xff\xd8", b"\xff\xfe"


@dataclass
class Peak:
    """The largest resident memory seen, in bytes."""

    tree: int = 0
    main: int = 0

    def see(self, process: psutil.Process) -> None:
        """Look at a process and its descendants once."""
        with suppress(psutil.NoSuchProcess):
            main = process.memory_info().rss
            self.main = max(self.main, main)
            self.tree = max(self.tree, main + sum(map(resident, process.children(recursive=True))))


def measure(options: argparse.Namespace) -> Facts:
    """Throughput, or memory where it is asked for."""
    encoder = simat.load_encoder(options.encoder)
    if not isinstance(encoder, PixelEncoder):
        raise BuildError("this encoder takes no decoded pixels", got=options.encoder)
    with temporary_folder() as folder:
        if options.memory:
            return memory(options, folder)
        write_distinct(options.photos, folder / "photos", options.files)
        return throughput(options, encoder, folder)


def throughput(options: argparse.Namespace, encoder: PixelEncoder, folder: Path) -> Facts:
    """CPU seconds of the parts, wall seconds of the whole."""
    paths = [str(folder / "photos" / path) for path in islice(walk(folder / "photos"), SAMPLE)]
    scale = options.files / len(paths)
    frames = decoded(paths, encoder)
    encode_all(frames[:BATCH], encoder)  # converts and compiles the network
    decode = scale * cpu_timed(partial(decode_all, paths, encoder))
    model = scale * cpu_timed(partial(encode_all, frames, encoder))
    started = time.perf_counter()
    build(folder / "photos", folder / "index", options.encoder)
    wall = time.perf_counter() - started
    return {
        "files": options.files,
        "decode_cpu_s": decode,
        "model_cpu_s": model,
        "wall_s": wall,
        "files_per_s": options.files / wall,
        "efficiency": (decode + model) / cores() / wall,
    }


def memory(options: argparse.Namespace, folder: Path) -> Facts:
    """Peaks of two builds, and their ratio."""
    peaks = {}
    for files in (options.files, GROWTH * options.files):
        photos = folder / f"photos-{files}"
        write_distinct(options.photos, photos, files)
        peaks[files] = watched(command(photos, folder / f"index-{files}", options.encoder))
        shutil.rmtree(photos)
    small, large = peaks.values()
    sizes = {
        f"files_{files}": {"tree_mib": peak.tree / 2**20, "main_mib": peak.main / 2**20}
        for files, peak in peaks.items()
    }
    return {**sizes, "tree_ratio": large.tree / small.tree, "main_ratio": large.main / small.main}


def write_distinct(photos: Path, folder: Path, files: int) -> None:
    """Write ``files`` JPEG files, each with a comment of its own: the pixels repeat, no two files are the same."""
    folder.mkdir()
    sources = [data for path in walk(photos) if (data := (photos / path).read_bytes()).startswith(JPEG_START)]
    if not sources:
        raise BuildError("no JPEG files here", got=str(photos))
    for number in range(files):
        (folder / f"{number:07}.jpg").write_bytes(with_comment(sources[number % len(sources)], f"file {number}"))


def with_comment(jpeg: bytes, comment: str) -> bytes:
    """A JPEG file with a comment segment before all others."""
    text = comment.encode()
    return JPEG_START + JPEG_COMMENT + (len(text) + 2).to_bytes(2, "big") + text + jpeg[len(JPEG_START) :]


def decoded(paths: list[str], encoder: PixelEncoder) -> UInt8[np.ndarray, "n h w 3"]:
    """The frames of the files that can be read."""
    outcomes = (decode_file(path, encoder.transform) for path in paths)
    return np.stack([pixels for _, pixels in outcomes if pixels is not None])


def decode_all(paths: list[str], encoder: PixelEncoder) -> None:
    """What the decoder processes do, without the messages."""
    for path in paths:
        decode_file(path, encoder.transform)


def encode_all(frames: UInt8[np.ndarray, "n h w 3"], encoder: PixelEncoder) -> None:
    """What the encoder does, in the batches of a build."""
    for start in range(0, len(frames), BATCH):
        encoder.encode_pixels(frames[start : start + BATCH])


def command(photos: Path, index: Path, encoder: str) -> list[str]:
    """The build as a user would type it."""
    simat_command = Path(sys.executable).with_name("simat")
    return [str(simat_command), "index", "build", str(photos), str(index), "--encoder", encoder]


def build(photos: Path, index: Path, encoder: str) -> None:
    """Run a build to its end; says what it said where it fails."""
    ended = subprocess.run(command(photos, index, encoder), capture_output=True, text=True, check=False)
    require_success(ended.returncode, ended.stderr)


def watched(arguments: list[str]) -> Peak:
    """The peak memory of a command and all processes that it starts."""
    peak, ended = Peak(), threading.Event()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    watcher = threading.Thread(target=watch, args=(psutil.Process(process.pid), peak, ended))
    watcher.start()
    _, errors = process.communicate()
    ended.set()
    watcher.join()
    require_success(process.returncode, errors)
    return peak


def watch(process: psutil.Process, peak: Peak, ended: threading.Event) -> None:
    """Look again and again until the process has ended."""
    while not ended.wait(EVERY_S):
        peak.see(process)


def resident(process: psutil.Process) -> int:
    """Resident bytes of a process, 0 when it has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def require_success(code: int, errors: str) -> None:
    """Raise with the last line of the command's errors unless it ended well."""
    if code:
        raise BuildError(f"the build ended with code {code}", got=(errors.strip().splitlines() or [""])[-1])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("photos", type=Path, help="folder of photographs, JPEG files among them")
    arguments.add_argument("--files", type=int, default=4000, help="files to build from (4000)")
    arguments.add_argument("--encoder", default="offline", help="spec of the encoder (offline)")
    arguments.add_argument("--memory", action="store_true", help="measure peak memory instead")
    run(arguments, measure)


if __name__ == "__main__":
    main()
