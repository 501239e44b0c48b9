"""The published package of clip-retrieval, unpacked: its client and its front end, which must work with our server.

``python tests/clip_retrieval_wheel.py`` downloads it, once, to ``$SIMAT_CLIP_RETRIEVAL`` or to the cache folder.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import platformdirs
import pytest

VERSION = "2.45.0"
FOLDER = "SIMAT_CLIP_RETRIEVAL"


def home() -> Path:
    """Where the wheel is, or would be."""
    return Path(os.environ.get(FOLDER) or Path(platformdirs.user_cache_dir("simat")) / "clip-retrieval")


def unpacked(folder: Path) -> Path:
    """The contents of the wheel in a new folder; a test that needs them skips where it is not at hand."""
    wheel = next(home().glob(f"clip_retrieval-{VERSION}-*.whl"), None)
    if wheel is None:
        pytest.skip("clip-retrieval is not here: python tests/clip_retrieval_wheel.py")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def client_module(package: Path) -> ModuleType:
    """The published client, loaded by its file: the package's other modules need other libraries."""
    spec = importlib.util.spec_from_file_location("clip_client", package / "clip_retrieval" / "clip_client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def download() -> None:
    """Fetch the wheel, without what it depends on."""
    target = home()
    target.mkdir(parents=True, exist_ok=True)
    what = ["--no-deps", "--only-binary", ":all:", "--quiet", f"clip-retrieval=={VERSION}"]
    subprocess.run([sys.executable, "-m", "pip", "download", *what, "--dest", str(target)], check=True)


if __name__ == "__main__":
    download()
