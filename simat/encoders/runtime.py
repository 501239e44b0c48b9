"""Where networks run: OpenVINO on CPUs, torch on CUDA and as the reference.

OpenVINO beats ONNX Runtime and torch eager on the CPUs we measured (``benchmarks/encoders.py``). A network is
converted once and cached under a key that names its weights; from then on, torch is not imported at all.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import threading
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Shaped

from simat.errors import EncoderError
from simat.files import cache_folder

if TYPE_CHECKING:
    import torch

REVISION = 1  # of the conversion: raised when the same weights would be converted to another graph
LOG = logging.getLogger("simat")
Rows = Shaped[np.ndarray, "n ..."]
PRECISIONS = ("f32", "bf16")
DEVICES = ("auto", "cpu", "cuda", "torch")


@dataclass(frozen=True)
class RuntimeOptions:
    """How networks run.

    Attributes:
        precision: ``f32``, or ``bf16`` where a little accuracy may be traded for speed.
        device: ``auto`` (CUDA when torch sees it, else OpenVINO), ``cpu`` (OpenVINO), ``cuda`` (torch), or
            ``torch`` (torch eager on the CPU: the reference).
        threads: CPU threads; None for every core this process may use.
        gpus: that hold the index for searching: ``all`` or numbers such as ``0,1``.
    """

    precision: Literal["f32", "bf16"] = "f32"
    device: Literal["auto", "cpu", "cuda", "torch"] = "auto"
    threads: int | None = None
    gpus: str = ""

    def __post_init__(self) -> None:
        for value, allowed in ((self.precision, PRECISIONS), (self.device, DEVICES)):
            if value not in allowed:
                raise EncoderError("unknown runtime option", got=value, remedy=f"use {', '.join(allowed)}")

    @property
    def cores(self) -> int:
        """The number of threads to use."""
        return self.threads or len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Network:
    """A network with its weights, not yet loaded.

    Attributes:
        key: names weights and architecture; the cache key of the conversion.
        build: makes the torch module; called only when there is no conversion yet, or torch shall run it.
        example: inputs to trace with, at least two rows.
        batch: rows per inference.
        fixed: compile for exactly ``batch`` rows (faster, results independent of the batch) instead of any shape.
        rows_only: where not fixed, only the number of rows varies.
    """

    key: str
    build: Callable[[], torch.nn.Module]
    example: Callable[[], tuple[Rows, ...]]
    batch: int
    fixed: bool
    rows_only: bool = False


@runtime_checkable
class Runtime(Protocol):
    """A network ready to run."""

    def __call__(self, *inputs: Rows) -> Float32[np.ndarray, "n ..."]:
        """Outputs, one row per row of the inputs."""
        ...


def start(network: Network, options: RuntimeOptions) -> Runtime:
    """Make a network ready on the device that the options name."""
    device = _device(options)
    if device == "cpu":
        return OpenVinoRuntime(network, options)
    return TorchRuntime(network, options, "cuda" if device == "cuda" else "cpu")


def torch_device(options: RuntimeOptions) -> Literal["cuda", "cpu"]:
    """Where a library that runs torch itself shall run."""
    return "cuda" if _device(options) == "cuda" else "cpu"


def _device(options: RuntimeOptions) -> str:
    if options.device not in {"auto", "cuda"}:
        return options.device
    # Importing torch takes seconds: ask it only where a driver is there.
    if Path("/dev/nvidiactl").exists():
        import torch

        if torch.cuda.is_available():
            return "cuda"
    if options.device == "cuda":
        raise EncoderError("no CUDA device", got="device=cuda", remedy="use device=cpu or install a CUDA torch")
    return "cpu"


class TorchRuntime:
    """Torch eager, on CUDA or as the reference on the CPU."""

    def __init__(self, network: Network, options: RuntimeOptions, device: str) -> None:
        import torch

        self._module = network.build().eval().to(device)
        self._device, self._bf16 = device, options.precision == "bf16"
        self._batch = 256 if device == "cuda" else 32
        if device == "cpu":
            torch.set_num_threads(options.cores)

    def __call__(self, *inputs: Rows) -> Float32[np.ndarray, "n ..."]:
        """Outputs, one row per row of the inputs."""
        import torch

        chunks = []
        with torch.inference_mode(), torch.autocast(self._device, torch.bfloat16, enabled=self._bf16):
            for start_row in range(0, len(inputs[0]), self._batch):
                rows = (torch.from_numpy(x[start_row : start_row + self._batch]) for x in inputs)
                chunks.append(self._module(*(x.to(self._device) for x in rows)).float().cpu().numpy())
        return np.concatenate(chunks)


class OpenVinoRuntime:
    """OpenVINO on the CPU; safe to call from several threads, one call runs at a time."""

    def __init__(self, network: Network, options: RuntimeOptions) -> None:
        import openvino

        self._batch, self._fixed = network.batch, network.fixed
        core = openvino.Core()
        model = _read(core, _converted(network))
        if network.fixed:
            model.reshape({port: [network.batch, *port.get_partial_shape()[1:]] for port in model.inputs})
        # One stream per core has the best throughput; a single row in any shape (a query's words) the best latency.
        streams = options.cores if network.fixed else 1
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": options.precision,
                "INFERENCE_NUM_THREADS": options.cores,
                "NUM_STREAMS": streams,
            },
        )
        self._queue = openvino.AsyncInferQueue(compiled, streams)
        self._lock = threading.Lock()

    def __call__(self, *inputs: Rows) -> Float32[np.ndarray, "n ..."]:
        """Outputs, one row per row of the inputs."""
        starts = range(0, len(inputs[0]), self._batch)
        chunks: list[Any] = [None] * len(starts)

        def keep(request: Any, slot: int) -> None:
            chunks[slot] = request.get_output_tensor(0).data.copy()

        with self._lock:
            self._queue.set_callback(keep)
            for slot, start_row in enumerate(starts):
                self._queue.start_async(self._feed(inputs, start_row), slot)
            self._queue.wait_all()
        outputs: Float32[np.ndarray, "n ..."] = np.concatenate(chunks)[: len(inputs[0])]
        return outputs

    def _feed(self, inputs: Sequence[Rows], start_row: int) -> dict[int, Shaped[np.ndarray, "batch ..."]]:
        rows = {i: x[start_row : start_row + self._batch] for i, x in enumerate(inputs)}
        missing = self._batch - len(rows[0])
        if not (self._fixed and missing):
            return rows
        return {i: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) for i, x in rows.items()}


def _converted(network: Network) -> Path:
    folder = cache_folder("openvino") / f"{network.key}-{REVISION}"
    if not folder.exists():
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
        temporary.mkdir()
        try:
            LOG.info("preparing %s for this processor, once", network.key)
            _convert(network, temporary / "network.xml")
            with contextlib.suppress(OSError):  # another process converted the same weights first
                temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return folder / "network.xml"


def _read(core: Any, path: Path) -> Any:
    try:
        return core.read_model(path)
    except RuntimeError as error:
        raise EncoderError("a converted network is damaged", remedy=f"remove {path.parent}") from error


def _convert(network: Network, path: Path) -> None:
    """Trace and translate through the front end itself: ``openvino.convert_model`` reports use to its vendor."""
    import openvino
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    module = network.build().eval()
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused kernel has no translation
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's; the golden tests compare the outputs
            example = tuple(torch.from_numpy(x) for x in network.example())
            traced: Any = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    front_end = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced)  # must outlive the conversion
    loaded = front_end.load(decoder)
    model = front_end.convert(loaded)
    for port, array in zip(model.inputs, network.example(), strict=True):
        port.get_node().set_partial_shape(_partial_shape(array, network.fixed or network.rows_only))
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, path, compress_to_fp16=False)


def _partial_shape(example: Rows, known: bool) -> Any:
    import openvino

    # Most networks know the shape of a row; one that reads tokens knows neither rows nor length.
    return openvino.PartialShape([-1, *example.shape[1:]] if known else [-1] * example.ndim)
