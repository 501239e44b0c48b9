"""A rendered scene on disk, and everything that is known about it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from data.regions import Box
from data.scenes.captions import captions
from data.scenes.places import STUFF
from data.scenes.render import FIRST_STUFF, OBJECT, SUBJECT, Rendered, render
from data.scenes.scene import Scene, sample
from data.scenes.world import THINGS

IMAGES, MASKS, MAPS = "visual_genome/VG_100K", "masks", "coco/stuffthingmaps"
THING_IDS = {name: number for number, name in enumerate(THINGS, 1)}
STUFF_IDS = {name: number for number, name in enumerate(STUFF, 92)}  # COCO's stuff begins at 92 too


@dataclass(frozen=True)
class Record:
    """What is known of one image.

    Attributes:
        boxes: of the visible pixels of subject and object.
        rles: their masks, run lengths in columns from the top left, beginning with the pixels outside (COCO).
        captions: see :func:`data.scenes.captions.captions`.
    """

    image_id: int
    size: int
    scene: Scene
    boxes: tuple[Box, Box]
    rles: tuple[list[int], list[int]]
    captions: tuple[str, str, str, str, str]

    @property
    def file(self) -> str:
        """Path of the image in the corpus."""
        return f"{IMAGES}/{self.image_id}.jpg"

    @property
    def objects(self) -> list[dict[str, Any]]:
        """Subject and object: ``object_id name colour facing box area rle``."""
        subject, _, thing = self.scene.triplet
        return [
            {
                "object_id": 2 * self.image_id - 1 + n,
                "name": name,
                "colour": self.scene.colours[n],
                "facing": self.scene.faces(name),
                "box": self.boxes[n],
                "area": sum(self.rles[n][1::2]),
                "rle": self.rles[n],
            }
            for n, name in enumerate((subject, thing))
        ]


def write_scene(folder: Path, seed: int, number: int, size: int) -> Record:
    """Render scene ``number`` of the world ``seed`` and write its picture and maps below ``folder``."""
    scene = sample(seed, number)
    rendered = render(scene, size)
    image_id = number + 1
    for name, data in encode(scene, rendered, image_id).items():
        (folder / name).write_bytes(data)
    masks = rendered.mask(SUBJECT), rendered.mask(OBJECT)
    boxes = rendered.box(SUBJECT), rendered.box(OBJECT)
    return Record(image_id, size, scene, boxes, (run_lengths(masks[0]), run_lengths(masks[1])), captions(scene))


def encode(scene: Scene, rendered: Rendered, image_id: int) -> dict[str, bytes]:
    """The files of one scene: its picture (JPEG), its id map and its COCO map (PNG)."""
    ids = np.where(rendered.segments < FIRST_STUFF, rendered.segments, 0).astype(np.uint8)
    return {
        f"{IMAGES}/{image_id}.jpg": _bytes(rendered.image, "JPEG", quality=94, subsampling=0),
        f"{MASKS}/{image_id}.png": _bytes(Image.fromarray(ids), "PNG"),
        f"{MAPS}/{image_id}.png": _bytes(Image.fromarray(coco_map(scene, rendered)), "PNG"),
    }


def coco_map(scene: Scene, rendered: Rendered) -> UInt8[np.ndarray, "size size"]:
    """Category id - 1 of every pixel, as in COCO-Stuff's ``stuffthingmaps``."""
    table = np.full(256, 255, np.uint8)
    table[FIRST_STUFF : FIRST_STUFF + len(STUFF)] = [number - 1 for number in STUFF_IDS.values()]
    subject, _, thing = scene.triplet
    table[SUBJECT], table[OBJECT] = THING_IDS[subject] - 1, THING_IDS[thing] - 1
    return np.asarray(table[rendered.segments])


def run_lengths(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """COCO's uncompressed run lengths of a mask, column by column."""
    flat = mask.ravel(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *changes.tolist(), flat.size]).tolist()
    return [0, *lengths] if flat[0] else lengths


def _bytes(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
