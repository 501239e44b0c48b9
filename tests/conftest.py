"""Every test runs without a network and with the shapes and types of all annotations checked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"
install_import_hook(["simat", "indexing", "finetune", "eval", "data"], "beartype.beartype")

settings.register_profile("house", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("house")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def photos() -> Path:
    """500 real photographs with labels; tests that read them skip where they are not at hand."""
    folder = SHARED / "photos"
    if not folder.is_dir():
        pytest.skip("the real photographs are not here")
    return folder
