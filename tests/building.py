"""What the tests of building share: pictures by the dozen, an encoder that counts, the command line in a process."""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import pytest
from helpers import PixelColourEncoder, blotches, encoded
from PIL import Image

from indexing.decoder import decode_file
from simat import plugins
from simat.embeddings import EmbeddingSet, ImageRow, write_part
from simat.encoders.unknown import unknown_space
from simat.manifest import EmbeddingManifest, FileEntry, write_manifest

TESTS = Path(__file__).parent
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


class CountingEncoder(PixelColourEncoder):
    """Counts the pictures it is given; raises ``Interrupted`` instead of taking more than ``limit``."""

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.encoded, self._limit = 0, limit

    def encode_pixels(self, pixels: np.ndarray) -> np.ndarray:
        self.encoded += len(pixels)
        if self._limit is not None and self.encoded > self._limit:
            raise Interrupted
        return super().encode_pixels(pixels)


class Interrupted(Exception):
    """Stands for whatever ends a build that nobody catches."""


@dataclass
class Recorder:
    """A Progress that remembers."""

    stages: list[tuple[str, int | None, str]]
    advanced: dict[str, int]
    notes: list[str]

    @classmethod
    def new(cls) -> Recorder:
        return cls([], {}, [])

    def start(self, stage: str, total: int | None, unit: str) -> None:
        self.stages.append((stage, total, unit))

    def advance(self, count: int) -> None:
        stage = self.stages[-1][0]
        self.advanced[stage] = self.advanced.get(stage, 0) + count

    def note(self, message: str) -> None:
        self.notes.append(message)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on standard output."""
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def progress(self) -> list[dict[str, Any]]:
        """The JSON lines on standard error."""
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]

    @property
    def error(self) -> str:
        """The one line of an error; fails where there is anything else."""
        lines = [line for line in self.err.splitlines() if not line.startswith("{")]
        assert self.code == 2, (self.code, self.err)
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), lines[0]
        return lines[0].removeprefix("error: ")


def simat(*arguments: str | bytes | Path, **options: Any) -> Ran:
    """Run the command line to its end in a process of its own."""
    with start(*arguments, **options) as process:
        out, err = process.communicate(timeout=300)
    return Ran(process.returncode, os.fsdecode(out), os.fsdecode(err))


def start(
    *arguments: str | bytes | Path,
    extra: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    before: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start the command line in a process of its own."""
    command = [sys.executable, "-m", "simat.cli.main", *arguments]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SIMAT_CACHE": cache_beside(), **(extra or {})},
        cwd=cwd,
        preexec_fn=before,  # noqa: PLW1509
    )


@cache
def cache_beside() -> str:
    """A cache that shares the converted networks with the user's and keeps its own record of verified shards."""
    users = Path(os.environ.get("SIMAT_CACHE") or platformdirs.user_cache_dir("simat"))
    folder = Path(tempfile.mkdtemp(prefix="simat-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("openvino", "labels"):
        (users / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(users / name)
    return str(folder)


def colour_plugin(folder: Path) -> Path:
    """A stranger's package that registers the encoder ``colours``: put the folder on the Python path."""
    info = folder / "colours-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: colours\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[simat.encoders]\ncolours = colours_plugin:load\n")
    (folder / "colours_plugin.py").write_text(
        "from helpers import PixelColourEncoder\n\n\ndef load(argument, options):\n    return PixelColourEncoder()\n"
    )
    return folder


def colour_environment(folder: Path) -> dict[str, str]:
    """Environment in which a process finds the plugin of :func:`colour_plugin`."""
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(TESTS), os.environ.get("PYTHONPATH", "")])}


def without_privileges() -> None:
    """Let permissions bind root too: drops from the coming program what lets root read everything."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


class Here:
    """A decode pool without processes."""

    def __init__(self, count: int, transform: Any) -> None:
        self._transform = transform

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def decode(self, paths: Iterable[str]) -> Iterator[Any]:
        return (decode_file(path, self._transform) for path in paths)


@contextmanager
def without_processes() -> Iterator[None]:
    """Decode in this process: for what builds again and again, and is not about decoders."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexing.embed.DecodePool", Here)
        yield


def save_blotches(folder: Path, count: int, first: int = 0) -> Path:
    """``count`` different small pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        blotches(seed).save(folder / f"{seed:04}.png")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, byte by byte."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def same_contents(a: Path, b: Path) -> bool:
    """Whether two folders hold the same files with the same bytes; says which do not."""
    ours, theirs = contents(a), contents(b)
    different = [name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)]
    assert not different, sorted(different)
    return True


def vector_set(folder: Path, vectors: np.ndarray, part_size: int = 1000) -> EmbeddingSet:
    """An embedding set of given vectors, without any pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number, first in enumerate(range(0, len(vectors), part_size)):
        block = vectors[first : first + part_size]
        rows = [ImageRow(f"{first + i}.png", f"{first + i:064x}", 4, 3) for i in range(len(block))]
        name = f"part-{number:06}.parquet"
        write_part(folder / name, first, rows, block)
        entries.append(FileEntry.of(folder, name, len(block)))
    space = unknown_space(vectors.shape[1], "noise")
    write_manifest(folder, EmbeddingManifest(space, "/nowhere", tuple(entries), len(vectors)))
    return EmbeddingSet(folder)


def bomb(width: int = 20_000, height: int = 20_000) -> bytes:
    """A PNG that is small on disk and enormous in memory."""
    return encoded(Image.new("1", (width, height)))


def here(capsys: Any, *arguments: str | Path) -> Ran:
    """Run the command line to its end in this process."""
    from simat.cli.main import main

    capsys.readouterr()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(sys, "argv", ["simat", *map(str, arguments)])
        main()
        raise SystemExit(0)
    out, err = capsys.readouterr()
    return Ran(end.value.code or 0, out, err)


@contextmanager
def plugged_in(folder: Path) -> Iterator[None]:
    """Let this process find the plugin of :func:`colour_plugin`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        plugins.registered.cache_clear()
        yield
    plugins.registered.cache_clear()
