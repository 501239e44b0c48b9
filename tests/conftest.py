"""Every test runs without a network and with the shapes and types of all annotations checked."""

from __future__ import annotations

import gc
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

os.environ["HF_HUB_OFFLINE"] = "1"
install_import_hook(["simat", "indexing", "finetune", "eval", "data"], "beartype.beartype")

settings.register_profile("house", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("house")

SHARED = Path(__file__).resolve().parents[2] / "shared"
SAMPLES = ("astronaut", "cat", "coffee", "rocket", "coins", "camera", "hubble_deep_field", "moon", "page", "horse")


def pytest_collection_finish() -> None:
    """What the tests have imported stays to their end: the collector need not go through all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def photos() -> Path:
    """500 real photographs with labels; tests that read them skip where they are not at hand."""
    folder = SHARED / "photos"
    if not folder.is_dir():
        pytest.skip("the real photographs are not here")
    return folder


@pytest.fixture(autouse=True)
def logs_end_with_their_test() -> Any:
    """A command that ran in this process leaves no handler that writes to a stream which is closed by then."""
    from simat.cli.console import Lines

    loggers = [logging.getLogger(name) for name in (None, "simat")]
    before = [[*logger.handlers] for logger in loggers]
    yield
    for logger, known in zip(loggers, before, strict=True):
        for handler in [*logger.handlers]:
            if handler not in known and (type(handler) is logging.StreamHandler or isinstance(handler, Lines)):
                logger.removeHandler(handler)


@pytest.fixture(scope="module")
def one_faiss_thread() -> Iterator[None]:
    """Small indexes are trained sooner by one thread than by several that wait for each other."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(before)


@pytest.fixture(autouse=True, scope="session")
def own_record_of_verified_shards(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Keep the many short-lived indexes of the tests out of the user's record."""
    import simat.shardfiles

    folder = tmp_path_factory.mktemp("verified")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simat.shardfiles, "cache_folder", lambda *parts: folder)
        yield


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache for one test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SIMAT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``build(photos, encoder=None, **settings)``: the folder of a new index."""
    from indexing.build import build_index
    from indexing.config import BuildConfig, Machine

    def make(folder: Path, encoder: Any = None, **settings: Any) -> Path:
        index = tmp_path_factory.mktemp("built") / "index"
        build_index(index, BuildConfig(str(folder), **settings), Machine(workers=1), encoder=encoder)
        return index

    return make


@pytest.fixture(scope="session")
def colour_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Colour pictures, and an exact copy of one of them under another name, in a subfolder."""
    from helpers import colour_pictures, save_pictures

    folder = tmp_path_factory.mktemp("colours") / "photos"
    save_pictures(folder, colour_pictures())
    (folder / "copies").mkdir()
    shutil.copy(folder / "blotch_03.png", folder / "copies" / "another name.png")
    return folder


@pytest.fixture(scope="session")
def colour_index(build: Callable[..., Path], colour_photos: Path) -> Path:
    """An index of the colour pictures by an encoder of whole images, in one shard."""
    from helpers import ColourEncoder

    return build(colour_photos, ColourEncoder())


@pytest.fixture
def colours(colour_index: Path) -> Any:
    """The opened colour index."""
    from helpers import ColourEncoder

    import simat

    return simat.open(colour_index, ColourEncoder())


@pytest.fixture(scope="session")
def sample_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photographs that scikit-image carries in its wheel, as files of several formats."""
    from helpers import blotches
    from PIL import Image
    from skimage import data

    folder = tmp_path_factory.mktemp("samples") / "photos"
    folder.mkdir()
    for name in SAMPLES:
        array = getattr(data, name)()
        array = array if array.dtype != bool else array.astype("uint8") * 255
        Image.fromarray(array).convert("RGB").save(folder / f"{name}.jpg", quality=92)
    for seed in range(20):
        blotches(seed, (300, 260)).save(folder / f"blotch_{seed:02}.png")
    return folder


@pytest.fixture(scope="session")
def sample_index(build: Callable[..., Path], sample_photos: Path) -> Path:
    """A real index by the offline encoder over the sample photographs."""
    return build(sample_photos)


@pytest.fixture(scope="session")
def samples(sample_index: Path) -> Any:
    """The opened sample index."""
    import simat

    return simat.open(sample_index)


@pytest.fixture(scope="module")
def one_thread() -> Any:
    """Tiny networks on one core: a second one costs more than it brings, and beside other work many times more."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Stable Diffusion, float32."""
    from tiny_diffusion import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny") / "sd")


@pytest.fixture(scope="session")
def tiny_v_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one that predicts v."""
    from tiny_diffusion import save_tiny

    return save_tiny(tmp_path_factory.mktemp("tiny") / "v", seed=10, prediction="v_prediction")


@pytest.fixture(scope="session")
def tiny_xl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Stable Diffusion XL."""
    from tiny_diffusion import save_tiny_xl

    return save_tiny_xl(tmp_path_factory.mktemp("tiny") / "xl")


@pytest.fixture
def tiny(tiny_folder: Path) -> Any:
    """A tiny Stable Diffusion, loaded once: leave it as you find it."""
    from tiny_diffusion import loaded

    return loaded(tiny_folder)


@pytest.fixture
def tiny_v(tiny_v_folder: Path) -> Any:
    """A tiny model that predicts v, loaded once."""
    from tiny_diffusion import loaded

    return loaded(tiny_v_folder)


@pytest.fixture
def tiny_xl(tiny_xl_folder: Path) -> Any:
    """A tiny Stable Diffusion XL, loaded once."""
    from tiny_diffusion import loaded

    return loaded(tiny_xl_folder)


@pytest.fixture
def service(colours: Any) -> Any:
    """A service of the colour index."""
    from simat.server.service import Service

    with closing(Service([colours])) as opened:
        yield opened


@pytest.fixture
def api(service: Any) -> Any:
    """A client of the whole application, without a page and without guards."""
    from fastapi.testclient import TestClient

    from simat.server.app import create_app

    with TestClient(create_app(service, page=False)) as client:
        yield client
