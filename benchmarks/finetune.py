"""Training of linear heads at the size of the thesis: minutes, memory, and how much of the time is matrix products.

The thesis trains for 30 epochs on COCO (118,287 images of 5 captions) in batches of 4,096. Here features are drawn at
random in that shape. With ``--epochs`` below 30 the minutes of 30 epochs are extrapolated: ``minutes_of_30`` says from
how many. ``ratio`` is the time of our step over that of its bare matrix products, measured in turns.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.common import Facts, cores, median, parser, run, timed
from simat.types import EmbeddingSpace

IMAGES, CAPTIONS, DIM, EPOCHS, BATCH, VALIDATION = 118_287, 5, 512, 30, 4096, 5_000
WANTED = {"minutes": 10.0, "memory_gb": 6.0, "ratio": 1.3}


def measure(options: argparse.Namespace) -> Facts:
    import torch

    from finetune.config import TrainConfig

    torch.set_num_threads(options.threads)
    features = synthetic(options.images, options.seed)
    config = TrainConfig(
        options.tau, options.epochs, options.batch, head="linear", dim=DIM, precision=options.precision,
        seed=options.seed,
    )  # fmt: skip
    facts: Facts = {"wanted": WANTED, "batch": config.batch, "tau": config.tau, "precision": config.precision}
    facts["threads"] = options.threads
    if options.rounds:
        facts["step"] = step_times(features, config, options.rounds)
    if not options.steps_only:
        facts["training"] = training_times(features, config)
    facts["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return facts


def synthetic(images: int, seed: int) -> Any:
    """Random unit features of COCO's shape, and 5,000 images to measure recall on."""
    from finetune.pairs import Features

    rng, count = np.random.default_rng(seed), images + VALIDATION
    space = EmbeddingSpace("synthetic", "0" * 64, DIM)
    owners = np.repeat(np.arange(count), CAPTIONS)
    splits = np.where(owners < images, "train", "val")
    rows = [unit_half(rng, number) for number in (count, count * CAPTIONS)]
    return Features(Path("synthetic"), space, space, "0" * 64, "0" * 64, *rows, owners, splits)


def unit_half(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random unit rows as float16, drawn in blocks that keep memory small."""
    rows = np.empty((count, DIM), np.float16)
    for start in range(0, count, 65_536):
        block = rng.standard_normal((min(65_536, count - start), DIM), np.float32)
        rows[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return rows


def step_times(features: Any, config: Any, rounds: int) -> Facts:
    """Seconds of a whole step, of its bare products, and their ratio."""
    from finetune.train import Batch, Training

    training = Training(features, config, "cpu", SimpleNamespace(note=print))
    batches = training.batches(0)
    products = bare_products(config.batch, config.precision)

    def step() -> None:
        batch: Batch = next(batches)  # what a step costs begins with fetching its rows
        training.step(batch, 0)

    step()
    products()
    rounds = min(rounds, training.steps - 1)
    turns = [(cost(step), cost(products)) for _ in range(rounds)]
    facts: Facts = {"rounds": rounds}
    for number, clock in enumerate(("wall", "cpu")):
        ours, bare = ([turn[side][number] for turn in turns] for side in (0, 1))
        facts[clock] = {
            "step_s": median(ours),
            "products_s": median(bare),
            "ratio": median([a / b for a, b in zip(ours, bare, strict=True)]),
            "ratio_of_fastest": min(ours) / min(bare),
        }
    return facts


def cost(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds and CPU seconds of all threads; on a machine that others use, one thread's CPU says most."""
    started = time.process_time()
    wall = timed(work)
    return wall, time.process_time() - started


def bare_products(batch: int, precision: str) -> Any:
    """The matrix products of a step and nothing else: two heads forward and back, the logits and their gradients."""
    import torch

    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    draw = partial(torch.randn, generator=torch.Generator().manual_seed(0))
    image, text, weight = (draw(rows, DIM).to(kind) for rows in (batch, batch, DIM))
    logits, mapped, gradient = torch.empty(batch, batch, dtype=kind), torch.empty_like(image), torch.empty_like(weight)

    def products() -> None:
        for side in (image, text):
            torch.mm(side, weight, out=mapped)
            torch.mm(side.T, mapped, out=gradient)
        torch.mm(image, text.T, out=logits)
        torch.mm(logits, text, out=mapped)
        if kind == torch.bfloat16:  # the faster order of each precision
            torch.mm(image.T, logits)
        else:
            torch.mm(logits.T, image, out=mapped)

    return products


def training_times(features: Any, config: Any) -> Facts:
    """Minutes of the training, with its recall after every epoch and its checkpoints."""
    from finetune.train import train

    with tempfile.TemporaryDirectory(prefix="simat-benchmark-") as folder:
        minutes = timed(lambda: train(features, Path(folder) / "heads", config, "cpu")) / 60
    return {
        "epochs": config.epochs,
        "minutes": minutes,
        "minutes_of_30": minutes / config.epochs * EPOCHS,
        "extrapolated": config.epochs != EPOCHS,
    }


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--epochs", type=int, default=EPOCHS, help="epochs to train; fewer are extrapolated")
    arguments.add_argument("--images", type=int, default=IMAGES, help="training images")
    arguments.add_argument("--batch", type=int, default=BATCH, help="pairs per step")
    arguments.add_argument("--tau", type=float, default=0.1, help="temperature")
    arguments.add_argument("--precision", default="f32", help="f32 or bf16")
    arguments.add_argument("--rounds", type=int, default=20, help="steps timed against bare products; 0 for none")
    arguments.add_argument("--steps-only", action="store_true", help="time steps, train nothing")
    arguments.add_argument("--threads", type=int, default=cores(), help="of the processor")
    arguments.add_argument("--seed", type=int, default=0, help="of the features and the training")
    run(arguments, measure)
