"""Where networks run: OpenVINO gives what torch gives, converts once, and shares well between threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from simat.encoders.networks import FromPixels, MeanPooled
from simat.encoders.runtime import REVISION, Network, OpenVinoRuntime, RuntimeOptions, TorchRuntime, start
from simat.errors import EncoderError
from simat.images import ImageTransform

CPU = RuntimeOptions(device="cpu", threads=2)
EAGER = RuntimeOptions(device="torch", threads=2)
TRANSFORM = ImageTransform(6, 6, edge=6, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def convolution() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, last = torch.nn.Conv2d(3, 5, 3), torch.nn.Linear(80, 7)
    layers = torch.nn.Sequential(first, torch.nn.GELU(), torch.nn.Flatten(), last)
    return FromPixels(layers, TRANSFORM)


class Tokens(torch.nn.Module):
    """Token ids and mask of any length to the mean of their embeddings."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.table = torch.nn.Embedding(50, 8)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask.unsqueeze(-1).float()
        return (self.table(tokens) * weights).sum(1) / weights.sum(1)


def pixels(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, 6, 6, 3), dtype=np.uint8)


def token_rows(rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows * 100 + length)
    mask = np.arange(length) < rng.integers(1, length + 1, (rows, 1))
    return rng.integers(0, 50, (rows, length)), mask.astype(np.int64)


def image_network(build: Callable[[], torch.nn.Module] = convolution, key: str = "image", batch: int = 3) -> Network:
    return Network(key, build, lambda: (np.zeros((2, 6, 6, 3), np.uint8),), batch, fixed=True)


def token_network() -> Network:
    return Network("tokens", Tokens, lambda: token_rows(2, 7), batch=4, fixed=False)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMAT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def images(cache: Path) -> tuple[OpenVinoRuntime, TorchRuntime]:
    return start(image_network(), CPU), start(image_network(), EAGER)


@pytest.fixture(scope="module")
def texts(cache: Path) -> tuple[OpenVinoRuntime, TorchRuntime]:
    return start(token_network(), CPU), start(token_network(), EAGER)


@settings(max_examples=15)
@given(seed=st.integers(0, 99), rows=st.integers(1, 10))
def test_fixed_networks_give_what_torch_gives(
    images: tuple[OpenVinoRuntime, TorchRuntime], seed: int, rows: int
) -> None:
    fast, slow = (runtime(pixels(seed, rows)) for runtime in images)
    assert fast.shape == (rows, 7)
    np.testing.assert_allclose(fast, slow, atol=1e-4)


@settings(max_examples=15)
@given(rows=st.integers(1, 10), length=st.integers(1, 20))
def test_networks_of_any_shape_give_what_torch_gives(
    texts: tuple[OpenVinoRuntime, TorchRuntime], rows: int, length: int
) -> None:
    fast, slow = (runtime(*token_rows(rows, length)) for runtime in texts)
    assert fast.shape == (rows, 8)
    np.testing.assert_allclose(fast, slow, atol=1e-5)


@settings(max_examples=15)
@given(seed=st.integers(0, 99), rows=st.integers(1, 10))
def test_fixed_networks_give_each_row_the_same_bits_in_any_batch(
    images: tuple[OpenVinoRuntime, TorchRuntime], seed: int, rows: int
) -> None:
    fast, many = images[0], pixels(seed, rows)
    np.testing.assert_array_equal(fast(many), np.concatenate([fast(row[None]) for row in many]))


def test_runtime_is_shared_between_threads(images: tuple[OpenVinoRuntime, TorchRuntime]) -> None:
    batches = [pixels(seed, 1 + seed % 5) for seed in range(40)]
    alone = [images[0](batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(alone, pool.map(images[0], batches), strict=True):
            np.testing.assert_array_equal(one, other)


def test_results_outlive_the_next_call(images: tuple[OpenVinoRuntime, TorchRuntime]) -> None:
    first = images[0](pixels(1, 1))
    kept = first.copy()
    images[0](pixels(2, 1))
    np.testing.assert_array_equal(first, kept)


def test_bf16_stays_near_f32(images: tuple[OpenVinoRuntime, TorchRuntime]) -> None:
    exact = images[1](pixels(0, 5))
    for device in ("cpu", "torch"):
        rough = start(image_network(), RuntimeOptions("bf16", device, 2))(pixels(0, 5))
        assert rough.dtype == np.float32
        np.testing.assert_allclose(rough, exact, atol=0.03 * np.abs(exact).max())


def test_conversion_is_made_once_and_kept_by_key(own_cache: Path) -> None:
    built = []

    def counted() -> torch.nn.Module:
        built.append(1)
        return convolution()

    def never() -> torch.nn.Module:
        raise AssertionError("built again")

    first = start(image_network(counted, key="counted"), CPU)(pixels(0, 4))
    assert len(built) == 1
    assert sorted(path.name for path in (own_cache / "openvino").iterdir()) == [f"counted-{REVISION}"]
    np.testing.assert_array_equal(start(image_network(never, key="counted"), CPU)(pixels(0, 4)), first)
    with pytest.raises(AssertionError, match="built again"):
        start(image_network(never, key="another"), CPU)


def test_conversion_that_fails_leaves_nothing_behind(own_cache: Path) -> None:
    def broken() -> torch.nn.Module:
        raise RuntimeError("no such weights")

    with pytest.raises(RuntimeError, match="no such weights"):
        start(image_network(broken), CPU)
    assert [*(own_cache / "openvino").iterdir()] == []


def test_conversion_leaves_torch_as_it_was(own_cache: Path) -> None:
    assert torch.backends.mha.get_fastpath_enabled()
    start(image_network(), CPU)
    assert torch.backends.mha.get_fastpath_enabled()


def test_from_pixels_normalises_as_torchvision_does() -> None:
    from torchvision.transforms.functional import normalize, to_tensor

    picture = pixels(3, 1)
    with torch.inference_mode():
        found = FromPixels(torch.nn.Identity(), TRANSFORM)(torch.from_numpy(picture))[0]
    expected = normalize(to_tensor(picture[0]), TRANSFORM.mean, TRANSFORM.std)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_mean_pooling_ignores_what_is_masked() -> None:
    from types import SimpleNamespace

    hidden = torch.tensor([[[3.0, 0.0], [0.0, 4.0], [100.0, 100.0]]])
    pooled = MeanPooled(lambda **_: SimpleNamespace(last_hidden_state=hidden))
    found = pooled(torch.zeros(1, 3, dtype=torch.long), torch.tensor([[1, 1, 0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8]]))


def test_device_auto_is_openvino_where_there_is_no_cuda(cache: Path) -> None:
    expected = TorchRuntime if torch.cuda.is_available() else OpenVinoRuntime
    assert isinstance(start(image_network(), RuntimeOptions(threads=1)), expected)
    assert isinstance(start(image_network(), EAGER), TorchRuntime)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_device_cuda_is_refused_where_there_is_none() -> None:
    with pytest.raises(EncoderError, match="no CUDA device; got device=cuda; use device=cpu"):
        start(image_network(), RuntimeOptions(device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_device_cuda_gives_what_torch_gives() -> None:
    fast = start(image_network(), RuntimeOptions(device="cuda"))(pixels(0, 5))
    np.testing.assert_allclose(fast, start(image_network(), EAGER)(pixels(0, 5)), atol=1e-3)


def test_options_count_the_cores_this_process_may_use() -> None:
    import os

    assert RuntimeOptions(threads=3).cores == 3
    assert RuntimeOptions().cores == len(os.sched_getaffinity(0))


def test_runtime_names_the_folder_of_a_damaged_conversion(own_cache: Path) -> None:
    network = image_network()
    OpenVinoRuntime(network, CPU)
    (graph,) = own_cache.rglob("network.xml")
    graph.write_text("<net")
    with pytest.raises(EncoderError, match=f"damaged; remove .*{graph.parent.name}"):
        OpenVinoRuntime(network, CPU)
