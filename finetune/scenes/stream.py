"""Batches of pictures and prompts, drawn as training goes; batch ``n`` of a seed is the same whenever it is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from queue import Empty, Full
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Int, Int64, UInt8
from PIL.Image import Image

from data.regions import Box, Triplet
from data.scenes.render import OBJECT, SUBJECT, Rendered, render
from data.scenes.scene import Scene, sample
from data.scenes.world import triplets
from finetune.scenes.prompts import draw_prompt, true_of
from finetune.scenes.vocabulary import build_tokenizer
from simat.errors import SimatError
from simat.images import ImageTransform

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess
    from multiprocessing.queues import Queue

    from tokenizers import Tokenizer

TRAINING, EVALUATION = 1_000_000, 2_000_000  # worlds that no corpus of a small seed shares
HELD_OUT_EVERY = 20
LARGE, LARGE_SHARE, CROP_SHARE = 128, 0.35, 0.5
JITTER = 0.06  # of the picture's edge, by which each side of a crop may move outwards or inwards
AHEAD = 4  # batches drawn in advance
WAIT_S = 2.0  # before either process looks whether the other still lives


class TrainingError(SimatError):
    """Training that cannot begin, go on or end."""


@dataclass(frozen=True)
class Batch:
    """Pictures and one prompt for each.

    Attributes:
        pixels: after the encoder's transform.
        tokens: of the prompts.
        true: whether prompt j is true of picture i; always so on the diagonal.
    """

    pixels: UInt8[np.ndarray, "n h w 3"]
    tokens: Int64[np.ndarray, "n context"]
    true: Bool[np.ndarray, "n n"]


@dataclass(frozen=True)
class StreamOptions:
    """What decides every batch.

    Attributes:
        context: tokens per prompt.
    """

    seed: int
    batch: int
    transform: ImageTransform
    context: int


def held_out() -> tuple[Triplet, ...]:
    """Triplets that training never sees: one in twenty, the same for every seed."""
    every = triplets()
    order = np.random.default_rng(HELD_OUT_EVERY).permutation(len(every))
    return tuple(every[i] for i in sorted(order[::HELD_OUT_EVERY].tolist()))


def training_scene(seed: int, number: int) -> Scene:
    """Scene ``number`` of the training world; every triplet that is not held out comes once before any comes twice."""
    kept = _kept()
    turn, place = divmod(number, len(kept))
    return sample(TRAINING + seed, number, triplet=kept[_order(seed, turn)[place]])


def draw_batch(options: StreamOptions, step: int) -> Batch:
    """Batch ``step``: whole scenes and crops around subject and object, small and large, in equal shares."""
    generator = np.random.default_rng([TRAINING + options.seed, step, 2])
    numbers = range(step * options.batch, (step + 1) * options.batch)
    scenes = [training_scene(options.seed, number) for number in numbers]
    pictures = [options.transform.pixels(_view(scene, generator)) for scene in scenes]
    prompts = [draw_prompt(scene, generator) for scene in scenes]
    encoded = _tokenizer(options.context).encode_batch([prompt.text for prompt in prompts])
    tokens = np.array([encoding.ids for encoding in encoded], np.int64)
    return Batch(np.stack(pictures), tokens, true_of(prompts, scenes))


def crop(rendered: Rendered, generator: np.random.Generator | None = None) -> Image:
    """The crop around subject and object, as corpora cut it; a generator moves its sides a little."""
    x0, y0, x1, y1 = union(rendered.box(SUBJECT), rendered.box(OBJECT))
    edge = rendered.image.width
    if generator is not None:
        moves = generator.uniform(-JITTER / 3, JITTER, 4) * edge
        x0, y0 = max(0, round(x0 - moves[0])), max(0, round(y0 - moves[1]))
        x1, y1 = min(edge, round(x1 + moves[2])), min(edge, round(y1 + moves[3]))
    return rendered.image.crop((x0, y0, x1, y1))


def union(one: Box, other: Box) -> Box:
    """The smallest box around both."""
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


@contextmanager
def stream(options: StreamOptions, first: int, last: int) -> Iterator[Iterator[Batch]]:
    """Batches ``first`` to ``last`` - 1, drawn by a process of their own."""
    context = get_context("spawn")  # not forked: the parent holds threads
    batches: Queue[Batch] = context.Queue(AHEAD)
    worker = context.Process(target=_fill, args=(batches, options, first, last), daemon=True)
    worker.start()
    try:
        yield (_next(batches, worker) for _ in range(first, last))
    finally:
        worker.terminate()
        worker.join()


def _fill(batches: Queue[Batch], options: StreamOptions, first: int, last: int) -> None:
    for step in range(first, last):
        if not _sent(batches, draw_batch(options, step)):
            batches.cancel_join_thread()
            return


def _sent(batches: Queue[Batch], batch: Batch) -> bool:
    parent = parent_process()
    while parent is None or parent.is_alive():  # a parent that is killed ends nobody
        with suppress(Full):
            batches.put(batch, timeout=WAIT_S)
            return True
    return False


def _next(batches: Queue[Batch], worker: BaseProcess) -> Batch:
    while True:
        try:
            return batches.get(timeout=WAIT_S)
        except Empty:
            if not worker.is_alive():
                raise TrainingError("the process that draws scenes has ended", got=worker.exitcode) from None


def _view(scene: Scene, generator: np.random.Generator) -> Image:
    large, cropped = generator.random() < LARGE_SHARE, generator.random() < CROP_SHARE
    rendered = render(scene, LARGE if large else 64)
    return crop(rendered, generator) if cropped else rendered.image


@lru_cache(maxsize=1)
def _kept() -> tuple[Triplet, ...]:
    apart = set(held_out())
    return tuple(triplet for triplet in triplets() if triplet not in apart)


@lru_cache(maxsize=8)
def _order(seed: int, turn: int) -> Int[np.ndarray, " n"]:
    return np.random.default_rng([TRAINING + seed, turn, 1]).permutation(len(_kept()))


@lru_cache(maxsize=1)
def _tokenizer(context: int) -> Tokenizer:
    return build_tokenizer(context)
