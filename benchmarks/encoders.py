"""Encoder throughput in images/s: OpenVINO in f32 and bf16, torch eager, ONNX Runtime, in one run on the same photos.

The contenders run the same network on the same decoded frames, each at the batch size that is best for it, in
interleaved rounds; medians are reported. ``offline`` comes with its weights, ViT-B-32 gets seeded ones. Next to the
throughputs stand their ratio to torch eager, the cosine of the vectors against eager's (the worst image), and the
floating-point operations per second as a share of what a plain f32 matrix product reaches in the same rounds. bf16
may exceed that share: it runs on other units. The ``bench`` extra has what this needs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8

from benchmarks.common import Facts, cores, interleaved, median, parser, private_cache, run, temporary_folder, timed
from indexing.decoder import decode_file
from indexing.scan import walk
from simat.encoders.networks import FromPixels, Method
from simat.encoders.offline import OfflineEncoder, build_classifier, classifier_weights, conse
from simat.encoders.open_clip import locate, transform_of
from simat.encoders.runtime import Network, OpenVinoRuntime, RuntimeOptions
from simat.errors import BuildError
from simat.images import ImageTransform
from simat.vectors import unit_rows

BATCHES = (1, 4, 8, 32)
TUNING = 64  # photographs on which the batch size is chosen
TUNE_ON = 32  # frames that a batch size is chosen on
MATRICES = (1600, 768, 3072)  # a layer of ViT-B-32 on 32 images
REPEATS = 20  # products per timing
EAGER = "torch_eager_f32"

Frames = UInt8[np.ndarray, "n h w 3"]
Rows = Float32[np.ndarray, "n d"]
Run = Callable[[Frames], Rows]


@dataclass(frozen=True)
class Model:
    """A network to measure.

    Attributes:
        key: cache key of its conversion.
        build: makes the torch module, pixels in, rows out.
        transform: its preprocessing.
        vectors: from the network's rows to the encoder's vectors.
    """

    key: str
    build: Callable[[], torch.nn.Module]
    transform: ImageTransform
    vectors: Callable[[Rows], Rows]


def measure(options: argparse.Namespace) -> Facts:
    """Measure both models; conversions and checkpoints go to a temporary folder."""
    with temporary_folder() as folder, private_cache(folder / "cache"):
        models: dict[str, Callable[[], Model]] = {"offline": offline, "vit_b_32": partial(seeded_vit, folder)}
        wanted = options.only or list(models)
        return {name: compare(models[name](), options, folder / f"{name}.onnx") for name in wanted}


def offline() -> Model:
    """The classifier of the offline encoder; its vectors are those of :func:`simat.encoders.offline.conse`."""
    encoder = OfflineEncoder(RuntimeOptions(device="cpu"))
    build = partial(build_classifier, classifier_weights())
    return Model("offline", build, encoder.transform, lambda rows: conse(rows, encoder._labels))


def seeded_vit(folder: Path) -> Model:
    """The image tower of a ViT-B-32 with random weights, from a checkpoint as a user would have it."""
    import open_clip
    from safetensors.torch import save_file

    torch.manual_seed(0)
    path = folder / "ViT-B-32.safetensors"
    save_file(open_clip.create_model("ViT-B-32").state_dict(), path)
    checkpoint = locate(f"ViT-B-32/{path}")
    transform = transform_of(checkpoint.create())
    return Model(
        "vit-b-32", lambda: FromPixels(Method(checkpoint.create(), "encode_image"), transform), transform, unit_rows
    )


def compare(model: Model, options: argparse.Namespace, onnx: Path) -> Facts:
    """Tune every contender's batch size, then let them run in turn."""
    torch.set_num_threads(cores())
    frames = decoded(options.photos, model.transform, options.limit)
    contenders = {name: tuned(make, frames[:TUNE_ON]) for name, make in makers(model, onnx).items()}
    vectors = {name: model.vectors(work(frames)) for name, (_, work) in contenders.items()}
    rounds = {name: partial(work, frames) for name, (_, work) in contenders.items()}
    seconds = interleaved({**rounds, "matrix_product": matrix_product()}, options.rounds)
    limit = products_per_call() / median(seconds.pop("matrix_product"))
    flops = operations(model)
    facts: Facts = {"images": len(frames), "gflop_per_image": flops / 1e9, "matrix_product_gflop_per_s": limit / 1e9}
    eager = median(seconds[EAGER])
    for name, times in seconds.items():
        rate = len(frames) / median(times)
        facts[name] = {
            "batch": contenders[name][0],
            "images_per_s": rate,
            "over_eager": eager / median(times),
            "cosine_to_eager": float((vectors[name] * vectors[EAGER]).sum(axis=1).min()),
            "gflop_per_s": rate * flops / 1e9,
            "share_of_matrix_product": rate * flops / limit,
        }
    return facts


def decoded(photos: Path, transform: ImageTransform, limit: int | None) -> Frames:
    """The frames of all photographs that can be read."""
    paths = islice(walk(photos), limit)
    frames = [pixels for path in paths if (pixels := decode_file(str(photos / path), transform)[1]) is not None]
    if not frames:
        raise BuildError("no image files here that can be read", got=str(photos))
    return np.stack(frames)


def makers(model: Model, onnx: Path) -> dict[str, Callable[[int], Run]]:
    """From a batch size to a network ready to run, by contender."""
    return {
        "openvino_f32": partial(openvino_runtime, model, "f32"),
        "openvino_bf16": partial(openvino_runtime, model, "bf16"),
        EAGER: partial(torch_eager, model.build().eval()),
        "onnxruntime_f32": partial(onnx_session, exported(model, onnx)),
    }


def tuned(make: Callable[[int], Run], frames: Frames) -> tuple[int, Run]:
    """The fastest batch size, each by the better of two runs after a batch that does not count."""
    frames, best = frames[:TUNING], None
    for batch in BATCHES:
        if batch > len(frames):
            break
        work = make(batch)
        work(frames[:batch])
        seconds = min(timed(partial(work, frames)) for _ in range(2))
        if best is None or seconds < best[0]:
            best = seconds, batch, work
    assert best is not None
    return best[1], best[2]


def openvino_runtime(model: Model, precision: Any, batch: int) -> Run:
    """The runtime that the engine uses."""
    frame = (2, model.transform.height, model.transform.width, 3)
    network = Network(model.key, model.build, lambda: (np.zeros(frame, np.uint8),), batch=batch, fixed=True)
    return OpenVinoRuntime(network, RuntimeOptions(precision, "cpu"))


def torch_eager(module: torch.nn.Module, batch: int) -> Run:
    """Torch as it comes, on all cores."""

    def work(frames: Frames) -> Rows:
        with torch.inference_mode():
            return np.concatenate([module(torch.from_numpy(block)).numpy() for block in blocks(frames, batch)])

    return work


def onnx_session(path: Path, batch: int) -> Run:
    """ONNX Runtime's CPU provider on all cores."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda frames: np.concatenate([session.run(None, {"pixels": b})[0] for b in blocks(frames, batch)])


def exported(model: Model, path: Path) -> Path:
    """The network as an ONNX file that takes any number of frames."""
    example = torch.zeros(2, model.transform.height, model.transform.width, 3, dtype=torch.uint8)
    names: dict[str, Any] = {"input_names": ["pixels"], "output_names": ["rows"]}
    shapes = {"pixels": {0: "n"}, "rows": {0: "n"}}
    torch.backends.mha.set_fastpath_enabled(False)  # the fused kernel has no translation
    try:
        torch.onnx.export(model.build().eval(), (example,), str(path), dynamo=False, dynamic_axes=shapes, **names)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return path


def blocks(frames: Frames, batch: int) -> Iterable[Frames]:
    """The frames in batches, the last one perhaps smaller."""
    return (frames[start : start + batch] for start in range(0, len(frames), batch))


def operations(model: Model) -> int:
    """Floating-point operations per image (two per multiply-add) of products and convolutions, as torch counts."""
    from torch.utils.flop_counter import FlopCounterMode

    pixels = torch.zeros(1, model.transform.height, model.transform.width, 3, dtype=torch.uint8)
    torch.backends.mha.set_fastpath_enabled(False)  # the fused kernel is not counted
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.build().eval()(pixels)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    return int(counter.get_total_flops())


def matrix_product() -> Callable[[], object]:
    """The work that a rate is measured on: a product repeated for long enough to be timed."""
    rows, inner, columns = MATRICES
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(rows, inner, generator=generator), torch.randn(inner, columns, generator=generator)
    out = torch.empty(rows, columns)
    return lambda: [torch.mm(left, right, out=out) for _ in range(REPEATS)]


def products_per_call() -> int:
    """Floating-point operations of one call of :func:`matrix_product`'s work."""
    rows, inner, columns = MATRICES
    return 2 * rows * inner * columns * REPEATS


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("photos", type=Path, help="folder of photographs")
    arguments.add_argument("--rounds", type=int, default=5, help="interleaved rounds (5)")
    arguments.add_argument("--limit", type=int, help="photographs to use (all)")
    arguments.add_argument("--only", choices=["offline", "vit_b_32"], action="append", help="one model (both)")
    run(arguments, measure)


if __name__ == "__main__":
    main()
