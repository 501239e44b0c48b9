"""Time and memory of making a SIMAT corpus from Visual Genome: a generated data set of its size and layout, no images.

Real files hold 2,316,104 relationships of 108,077 images; the generated ones have as many by default, with
``objects.json``, ``attributes.json`` and ``image_data.json`` beside them, 2 GB together.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from benchmarks import common
from data.simat.vocabulary import RELATIONS, SUBJECTS

RELATIONSHIPS, IMAGES = 2_316_104, 108_077
OBJECTS_PER_IMAGE = 35
COMMON_RELATIONS = ("ON", "has", "wearing", "in", "of", "behind", "near", "holding", "next to", "WITH", "under")
COMMON_THINGS = ("window", "shirt", "tree", "sign", "wall", "sky", "leg", "table", "chair", "person", "hair", "plate")
COLOURS = ("white", "black", "green", "brown", "large", "wooden", "parked", "standing")
WANTED_SHARE = 0.02  # of relationships in the vocabulary


def generate(folder: Path, relationships: int, images: int, seed: int = 0) -> int:
    """Write a data set in Visual Genome's layout, image by image; the same arguments give the same bytes.

    Returns:
        Bytes of all files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = ("relationships", "objects", "attributes", "image_data")
    files = [(folder / f"{name}.json").open("w", encoding="utf-8") for name in names]
    rng, relationship_id = random.Random(seed), 1
    for image_id in range(1, images + 1):
        count = relationships * image_id // images - relationships * (image_id - 1) // images
        for file, line in zip(files, _image(rng, image_id, relationship_id, count), strict=True):
            _write(file, line, first=image_id == 1)
        relationship_id += count
    for file in files:
        file.write("]\n")
        file.close()
    return sum((folder / f"{name}.json").stat().st_size for name in names)


def _write(file: TextIO, line: str, first: bool) -> None:
    file.write("[" if first else ", ")
    file.write(line)


def _image(rng: random.Random, image_id: int, first_id: int, count: int) -> Iterator[str]:
    things = [_thing(rng, image_id * OBJECTS_PER_IMAGE + i) for i in range(OBJECTS_PER_IMAGE)]
    pairs = [(rng.choice(things), rng.choice(things)) for _ in range(count)]
    items = [_relationship(rng, first_id + i, *pair) for i, pair in enumerate(pairs)]
    yield f'{{"relationships": [{", ".join(items)}], "image_id": {image_id}}}'
    address = f"https://example.org/{image_id}.jpg"
    plain = [f"{{{thing}}}" for thing in things]
    yield f'{{"image_id": {image_id}, "objects": [{", ".join(plain)}], "image_url": "{address}"}}'
    described = [f'{{{thing}, "attributes": ["{rng.choice(COLOURS)}"]}}' for thing in things]
    yield f'{{"image_id": {image_id}, "attributes": [{", ".join(described)}]}}'
    yield f'{{"width": 800, "url": "{address}", "height": 600, "image_id": {image_id}, "coco_id": null}}'


def _thing(rng: random.Random, object_id: int) -> str:
    name = rng.choice(SUBJECTS if rng.random() < 0.2 else COMMON_THINGS)
    x, y, w, h = (int(rng.random() * size) for size in (600, 400, 400, 400))
    return (
        f'"synsets": ["{name}.n.01"], "h": {h}, "object_id": {object_id}, "merged_object_ids": [], '
        f'"names": ["{name}"], "w": {w}, "y": {y}, "x": {x}'
    )


def _relationship(rng: random.Random, relationship_id: int, subject: str, thing: str) -> str:
    # One in five things is a subject: five times the share among the relations.
    predicate = rng.choice(RELATIONS if rng.random() < 5 * WANTED_SHARE else COMMON_RELATIONS)
    return (
        f'{{"predicate": "{predicate}", "object": {{{thing}}}, "relationship_id": {relationship_id}, '
        f'"synsets": ["along.r.01"], "subject": {{{subject}}}}}'
    )


def measure(options: argparse.Namespace) -> common.Facts:
    """Generate, then build a corpus without images in a process of its own."""
    images = max(1, round(IMAGES * options.relationships / RELATIONSHIPS))
    with common.temporary_folder() as folder:
        size = generate(folder / "genome", options.relationships, images)
        command = [
            sys.executable,
            "-m",
            "simat.cli.main",
            "data",
            "simat",
            "build",
            "--json",
            "--oracle",
            options.oracle,
        ]
        before, started = _children(), time.perf_counter()
        ran = subprocess.run([*command, folder / "genome", folder / "corpus"], stdout=subprocess.PIPE, check=True)
        wall, after = time.perf_counter() - started, _children()
    return {
        "relationships": options.relationships,
        "images": images,
        "json_mb": size / 1e6,
        "wall_s": wall,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "peak_rss_mib": after.ru_maxrss / 1024,
        "corpus": {k: v for k, v in json.loads(ran.stdout).items() if k != "corpus"},
    }


def _children() -> resource.struct_rusage:
    return resource.getrusage(resource.RUSAGE_CHILDREN)


def main() -> None:
    arguments = common.parser(__doc__)
    arguments.add_argument("--relationships", type=int, default=RELATIONSHIPS, help=f"default {RELATIONSHIPS:,}")
    arguments.add_argument("--oracle", default="annotation", help="as for 'simat data simat build'; default annotation")
    common.run(arguments, measure)


if __name__ == "__main__":
    main()
