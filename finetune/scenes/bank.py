"""Many scenes drawn once and read often: pictures, what each pixel shows, and what may be said, as arrays on disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float16, Int64, UInt8, UInt16

from data.scenes.render import OBJECT, SUBJECT, Rendered, render
from data.scenes.scene import Scene, sample
from data.scenes.world import PLACES, RELATIONS, THINGS
from finetune.scenes.prompts import sentences, words
from finetune.scenes.stream import TrainingError, training_scene
from finetune.scenes.vocabulary import build_tokenizer
from simat.files import human, write_text
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    from tokenizers import Tokenizer

JUDGE = 4_000_000  # worlds of the judge, which no other model sees
CONTEXT = 32  # tokens per prompt
SENTENCES, BARE_WORDS = 6, 2  # prompts per scene
CHUNK = 250  # scenes
CELL = 4  # pixels, the edge of what a latent stands for
SHARES = -1
FACTS = ("subject", "relation", "object", "place")
_PARTS = {
    "pictures": ((0, 0, 3), np.uint8),
    "labels": ((0, 0), np.uint8),
    "shares": ((SHARES, SHARES), np.float16),
    "tokens": ((SENTENCES + BARE_WORDS, CONTEXT), np.uint16),
    "facts": ((len(FACTS),), np.int64),
}  # zeros stand for the edge of the pictures, SHARES for a quarter of it


@dataclass(frozen=True)
class BankOptions:
    """What to draw.

    Attributes:
        images: how many scenes.
        size: their edge in pixels.
        judge: from the judge's worlds, every triplet; else from training worlds without the held-out triplets.

    Raises:
        TrainingError: a number out of range.
    """

    seed: int = 0
    images: int = 200_000
    size: int = 128
    judge: bool = False

    def __post_init__(self) -> None:
        if self.images < 1 or self.seed < 0:
            raise TrainingError("a bank takes an image and a seed of no sign", got=f"{self.images}, {self.seed}")

    def scene(self, number: int) -> Scene:
        """Scene ``number`` of the bank."""
        return sample(JUDGE + self.seed, number) if self.judge else training_scene(self.seed, number)


@dataclass(frozen=True)
class Bank:
    """Scenes as arrays, read from disk as they are asked for.

    Attributes:
        labels: 0, or 1 + the number of a thing of the world.
        shares: of the pixels of each cell, those that show a thing.
        tokens: prompts true of the scene: sentences, then bare words.
        facts: numbers of subject, relation, object and place, see :func:`fact_names`.
    """

    pictures: UInt8[np.ndarray, "n size size 3"]
    labels: UInt8[np.ndarray, "n size size"]
    shares: Float16[np.ndarray, "n cells cells"]
    tokens: UInt16[np.ndarray, "n prompts context"]
    facts: Int64[np.ndarray, "n 4"]

    def __len__(self) -> int:
        return len(self.facts)

    def order(self, seed: int, step: int, batch: int) -> Int64[np.ndarray, " batch"]:
        """Scenes of batch ``step``: each comes once before any comes twice; sorted, as disks like it."""
        first = step * batch
        picked = [self._shuffled(seed, (first + n) // len(self))[(first + n) % len(self)] for n in range(batch)]
        return np.sort(np.array(picked, np.int64))

    def _shuffled(self, seed: int, turn: int) -> Int64[np.ndarray, " n"]:
        return _permutation(seed, turn, len(self))


def fact_names() -> tuple[tuple[str, ...], ...]:
    """The names behind ``facts``: of subjects and of objects (any thing), of relations and of places."""
    things = tuple(THINGS)
    return things, tuple(RELATIONS), things, PLACES


def open_bank(folder: Path, options: BankOptions, workers: int | None = None, progress: Progress | None = None) -> Bank:
    """Draw what of the bank is not drawn yet, and open it.

    Args:
        workers: processes; None for one per core.

    Raises:
        TrainingError: a bank of other options lies there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _check_same(folder / "bank.json", options)
    done = _array(folder / "done.npy", (-(-options.images // CHUNK),), np.uint8)
    for name in _PARTS:
        _part(folder, name, options)
    left = np.flatnonzero(done == 0).tolist()
    bars = progress or Silent()
    if left:
        bars.note(f"{options.images:,} scenes take {human(_bytes(options))} of disk")
        bars.start("draw", options.images, "scenes")
        bars.advance((len(done) - len(left)) * CHUNK)
        _draw(partial(_fill, folder, options), left, workers or os.cpu_count() or 1, done, bars)
    return Bank(**{name: _part(folder, name, options) for name in _PARTS})


def label_map(rendered: Rendered, scene: Scene) -> UInt8[np.ndarray, "size size"]:
    """Which thing each pixel shows: 0 for none, else 1 + its number."""
    things, labels = list(THINGS), np.zeros(rendered.segments.shape, np.uint8)
    for which, name in ((SUBJECT, scene.triplet[0]), (OBJECT, scene.triplet[2])):
        labels[rendered.mask(which)] = 1 + things.index(name)
    return labels


def _draw(
    work: Callable[[int], int], chunks: list[int], workers: int, done: UInt8[np.ndarray, " chunks"], bars: Progress
) -> None:
    if workers == 1 or len(chunks) == 1:
        for chunk in map(work, chunks):
            done[chunk] = 1
            bars.advance(CHUNK)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for chunk in pool.map(work, chunks):
                done[chunk] = 1
                bars.advance(CHUNK)
        finally:
            pool.shutdown(cancel_futures=True)


def _fill(folder: Path, options: BankOptions, chunk: int) -> int:
    numbers = range(chunk * CHUNK, min((chunk + 1) * CHUNK, options.images))
    parts = {name: _part(folder, name, options) for name in _PARTS}
    for number in numbers:
        scene = options.scene(number)
        rendered = render(scene, options.size)
        parts["pictures"][number] = np.asarray(rendered.image)
        labels = label_map(rendered, scene)
        cells = options.size // CELL
        parts["labels"][number] = labels
        parts["shares"][number] = (labels > 0).reshape(cells, CELL, cells, CELL).mean((1, 3))
        parts["tokens"][number] = _tokens(scene, np.random.default_rng([JUDGE, options.seed, number]))
        parts["facts"][number] = _facts(scene)
    for array in parts.values():
        array.flush()
    return chunk


def _tokens(scene: Scene, generator: np.random.Generator) -> UInt16[np.ndarray, "prompts context"]:
    bare = [prompt for prompts in words(scene) for prompt in prompts]
    picked = [bare[int(n)] for n in generator.choice(len(bare), BARE_WORDS, replace=False)]
    encoded = _tokenizer().encode_batch([prompt.text for prompt in (*sentences(scene), *picked)])
    return np.array([encoding.ids for encoding in encoded], np.uint16)


def _facts(scene: Scene) -> list[int]:
    values = (*scene.triplet, scene.place)
    return [names.index(value) for names, value in zip(fact_names(), values, strict=True)]


def _part(folder: Path, name: str, options: BankOptions) -> np.memmap[Any, Any]:
    shape, kind = _PARTS[name]
    edges = {0: options.size, SHARES: options.size // CELL}
    return _array(folder / f"{name}.npy", (options.images, *(edges.get(edge, edge) for edge in shape)), kind)


def _array(path: Path, shape: tuple[int, ...], kind: Any) -> np.memmap[Any, Any]:
    if path.exists():
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape != shape:
            raise TrainingError("a bank of another shape lies here", got=f"{path}: {array.shape}", remedy="remove it")
        return array
    return np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)


def _check_same(path: Path, options: BankOptions) -> None:
    import json

    known = asdict(options)
    if path.exists() and json.loads(path.read_text()) != known:
        raise TrainingError(
            "a bank of other options lies here", got=str(path), remedy="remove it or name another folder"
        )
    write_text(path, json.dumps(known) + "\n")


def _bytes(options: BankOptions) -> int:
    return options.images * (options.size**2 * 4 + (SENTENCES + BARE_WORDS) * CONTEXT * 2 + 8 * len(FACTS))


@lru_cache(maxsize=4)
def _permutation(seed: int, turn: int, count: int) -> Int64[np.ndarray, " n"]:
    return np.random.default_rng([seed, turn, 3]).permutation(count)


@lru_cache(maxsize=1)
def _tokenizer() -> Tokenizer:
    return build_tokenizer(CONTEXT)
