"""Ray on this machine alone against the local engine: seconds of the same build, and whether the bytes are the same.

Both run in a process of their own, as ``simat index build`` does, in turns. Ray's start is reported by itself: it is
paid once, however long the build.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.common import Facts, interleaved, median, parser, run, temporary_folder, timed
from simat.files import sha256_file

START = "import ray, ray.data; ray.init(address='local', include_dashboard=False, log_to_driver=False); ray.shutdown()"


def build(photos: Path, index: Path, engine: str, options: argparse.Namespace) -> None:
    command = [sys.executable, "-m", "simat.cli.main", "index", "build", str(photos), str(index), "--json"]
    command += ["--engine", engine, "--encoder", options.encoder, "--config", str(index.parent / "settings.toml")]
    subprocess.run(command, check=True, capture_output=True)


def digest(index: Path) -> str:
    """SHA-256 over every file of an index and its name."""
    files = sorted(path for path in index.rglob("*") if path.is_file())
    whole = hashlib.sha256()
    for path in files:
        whole.update(f"{path.relative_to(index)}\n{sha256_file(path)}\n".encode())
    return whole.hexdigest()


def measure(options: argparse.Namespace) -> Facts:
    with temporary_folder() as place:
        (place / "settings.toml").write_text(f"part_size = {options.part_size}\n")
        count = iter(range(1000))
        digests: dict[str, str] = {}

        def contender(engine: str) -> None:
            index = place / f"{engine}-{next(count)}"
            build(options.photos, index, engine, options)
            digests[engine] = digest(index)

        contender("local")  # the conversion of the network, and the files, are in the cache
        engines = {name: lambda name=name: contender(name) for name in ("local", "ray")}
        seconds = {name: median(times) for name, times in interleaved(engines, options.rounds).items()}
        start = timed(lambda: subprocess.run([sys.executable, "-c", START], check=True, capture_output=True))
        return {
            "local_s": seconds["local"],
            "ray_s": seconds["ray"],
            "ray_start_s": start,
            "ratio": seconds["ray"] / seconds["local"],
            "ratio_without_start": (seconds["ray"] - start) / seconds["local"],
            "same_bytes": digests["local"] == digests["ray"],
        }


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("photos", type=Path, help="folder of images")
    arguments.add_argument("--encoder", default="offline", help="see 'simat encoders'")
    arguments.add_argument("--part-size", type=int, default=4096, help="files per part")
    arguments.add_argument("--rounds", type=int, default=3)
    run(arguments, measure)
