"""A corpus of scenes: rendered by several processes, written as tables, Visual Genome and COCO."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.corpus import CorpusError, new_corpus
from data.scenes.formats import write_coco, write_visual_genome
from data.scenes.record import IMAGES, MAPS, MASKS, Record, encode, write_scene
from data.scenes.render import SIZES, render
from data.scenes.scene import SceneError, sample
from data.scenes.world import triplets
from simat.files import human
from simat.progress import Progress, Silent

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 50
PROBE = 24  # scenes that the estimate is made from
BLOCK = 4096  # what a file system gives to a small file at least
JSON_BYTES = 4000  # of documents and tables per image, at most
WORLD_VERSION = 2  # grows when the same seed gives other pictures


@dataclass(frozen=True)
class SceneOptions:
    """What to render.

    Raises:
        SceneError: a number out of range.
    """

    images: int = 20_000
    size: int = 128
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.images <= 10_000_000:
            raise SceneError("the number of images must be in [1, 10,000,000]", got=self.images)
        if not SIZES[0] <= self.size <= SIZES[1]:
            raise SceneError(f"the size must be in [{SIZES[0]}, {SIZES[1]}] pixels", got=self.size)
        if self.seed < 0:
            raise SceneError("a seed is not negative", got=self.seed)


def build_scenes(
    out: Path, options: SceneOptions, workers: int | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Render a corpus of kind ``scenes`` to ``out``; the same options give the same files, however many processes.

    Args:
        workers: processes; one per core by default.

    Returns:
        The counts of the corpus.

    Raises:
        CorpusError: something is there already, or the disk is too full.
    """
    bars = progress or Silent()
    count = workers or os.cpu_count() or 1
    with new_corpus(out) as corpus:
        _announce(out, options, count, bars)
        corpus.images.rmdir()
        for name in (IMAGES, MASKS, MAPS):
            (corpus.folder / name).mkdir(parents=True)
        bars.start("render", options.images, "images")
        records = list(_counted(_rendered(corpus.folder, options, count), bars))
        write_visual_genome(corpus.folder / "visual_genome", records)
        write_coco(corpus.folder / "coco", records)
        corpus.add_table("scenes", _table(records), COLUMNS)
        counts = _counts(records)
        corpus.finish("scenes", _provenance(options), counts, images=IMAGES)
    return counts


def estimate(options: SceneOptions, workers: int) -> tuple[float, int]:
    """Seconds and bytes that a corpus will take, from a few scenes rendered now."""
    probe, started, size = min(PROBE, options.images), time.perf_counter(), 0
    for number in range(probe):
        scene = sample(options.seed, number)
        size += sum(-(-len(data) // BLOCK) * BLOCK for data in encode(scene, render(scene, options.size), 1).values())
    seconds = (time.perf_counter() - started) / probe * options.images / workers
    return seconds, int(size / probe + JSON_BYTES) * options.images


def _announce(out: Path, options: SceneOptions, workers: int, bars: Progress) -> None:
    seconds, size = estimate(options, workers)
    free = shutil.disk_usage(out.parent).free
    if size > free:
        raise CorpusError(
            "the disk is too full for this corpus", got=f"{human(free)} free", remedy=f"free {human(size)}"
        )
    bars.note(f"{options.images:,} images: at most {seconds / 60:.1f} minutes on {workers} processes, {human(size)}")


def _rendered(folder: Path, options: SceneOptions, workers: int) -> Iterator[list[Record]]:
    chunks = [range(start, min(start + CHUNK, options.images)) for start in range(0, options.images, CHUNK)]
    work = partial(_render_chunk, folder, options.seed, options.size)
    if workers == 1 or len(chunks) == 1:
        yield from map(work, chunks)
        return
    # Spawned, not forked: the parent may hold threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield from pool.map(work, chunks)
        finally:
            pool.shutdown(cancel_futures=True)


def _render_chunk(folder: Path, seed: int, size: int, numbers: range) -> list[Record]:
    return [write_scene(folder, seed, number, size) for number in numbers]


def _counted(chunks: Iterable[list[Record]], bars: Progress) -> Iterator[Record]:
    for chunk in chunks:
        yield from chunk
        bars.advance(len(chunk))


def _counts(records: list[Record]) -> dict[str, Any]:
    return {
        "images": len(records),
        "triplets": len({record.scene.triplet for record in records}),
        "triplets_of_the_world": len(triplets()),
        "relations": dict(sorted(Counter(record.scene.triplet[1] for record in records).items())),
        "places": dict(sorted(Counter(record.scene.place for record in records).items())),
    }


def _provenance(options: SceneOptions) -> dict[str, Any]:
    return {
        "world_version": WORLD_VERSION,
        "simat": version("simat"),
        "pillow": version("pillow"),
        "images": options.images,
        "size": options.size,
        "seed": options.seed,
    }


COLUMNS = {
    "image_id": "number of the image, from 1; also its id in the Visual Genome and COCO documents",
    "image": "file of the picture in the folder of images",
    "mask": "path of the id map: 1 subject, 2 object, 0 neither; visible pixels only",
    "subject": "who",
    "relation": "does what",
    "object": "with what",
    "place": "where",
    "subject_colour": "colour of the subject; of a person, of the clothes",
    "object_colour": "colour of the object; empty where it has its own",
    "subject_facing": "left or right",
    "object_facing": "left or right; empty where both sides are alike",
    "subject_box": "x0, y0, x1, y1 of its visible pixels; x1 and y1 are outside",
    "object_box": "the same of the object",
    "subject_area": "visible pixels of the subject",
    "object_area": "visible pixels of the object",
    "caption": "everything in one sentence",
    "captions": "five captions; the first is the bare triplet",
}


def _table(records: list[Record]) -> pa.Table:
    import pyarrow as pa

    whole = pa.int32()
    kinds = {"image_id": pa.int64(), "subject_box": pa.list_(whole, 4), "object_box": pa.list_(whole, 4),
             "subject_area": whole, "object_area": whole, "captions": pa.list_(pa.string())}  # fmt: skip
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    return pa.Table.from_pylist([_row(record) for record in records], schema=schema)


def _row(record: Record) -> dict[str, Any]:
    subject, relation, thing = record.scene.triplet
    row = {
        "image_id": record.image_id,
        "image": Path(record.file).name,
        "mask": f"{MASKS}/{record.image_id}.png",
        "subject": subject,
        "relation": relation,
        "object": thing,
        "place": record.scene.place,
        "caption": record.captions[1],
        "captions": list(record.captions),
    }
    for role, item in zip(("subject", "object"), record.objects, strict=True):
        row |= {f"{role}_{key}": item[key] for key in ("colour", "facing", "box", "area")}
    return row
