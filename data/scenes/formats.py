"""Scenes as the documents of Visual Genome and of COCO, in those data sets' own layouts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from data.scenes.record import STUFF_IDS, THING_IDS, Record
from data.scenes.world import PEOPLE, RELATIONS, SUBJECTS
from data.simat.vocabulary import VOCABULARY_FILE, Vocabulary

Document = dict[str, Any]


def write_visual_genome(folder: Path, records: Sequence[Record]) -> None:
    """Write ``relationships.json``, ``objects.json``, ``attributes.json``, ``image_data.json``, and a vocabulary.

    The vocabulary tells the builder of SIMAT corpora the subjects and relations of this world.
    """
    pages: dict[str, Callable[[Record], Document]] = {
        "relationships": _relationships, "objects": _objects, "attributes": _attributes, "image_data": _image_data,
    }  # fmt: skip
    for name, page in pages.items():
        _write_list(folder / f"{name}.json", (page(record) for record in records))
    _write(folder / VOCABULARY_FILE, Vocabulary(SUBJECTS, tuple(RELATIONS)).as_dict())


def write_coco(folder: Path, records: Sequence[Record]) -> None:
    """Write ``captions.json``, ``instances.json`` and ``categories.json`` (things and stuff)."""
    images = [_coco_image(record) for record in records]
    _write(folder / "captions.json", {**_info(), "images": images, "annotations": _coco_captions(records)})
    things = [c for c in categories() if c["isthing"]]
    annotations = [annotation for record in records for annotation in _instances(record)]
    _write(folder / "instances.json", {**_info(), "images": images, "annotations": annotations, "categories": things})
    _write(folder / "categories.json", categories())


def categories() -> list[Document]:
    """All categories in COCO's panoptic form: ``id name supercategory isthing``."""

    def above(name: str) -> str:
        return "person" if name in PEOPLE else "animal" if name in SUBJECTS else "object"

    things = [{"id": n, "name": name, "supercategory": above(name), "isthing": 1} for name, n in THING_IDS.items()]
    return things + [{"id": n, "name": s, "supercategory": "stuff", "isthing": 0} for s, n in STUFF_IDS.items()]


def _placed(item: Document) -> Document:
    x0, y0, x1, y1 = item["box"]
    return {"object_id": item["object_id"], "x": x0, "y": y0, "w": x1 - x0, "h": y1 - y0, "synsets": []}


def _relationships(record: Record) -> Document:
    subject, thing = ({**_placed(item), "name": item["name"]} for item in record.objects)
    relationship = {
        "relationship_id": record.image_id,
        "predicate": record.scene.triplet[1],
        "synsets": [],
        "subject": subject,
        "object": thing,
    }
    return {"image_id": record.image_id, "relationships": [relationship]}


def _objects(record: Record) -> Document:
    objects = [{**_placed(item), "names": [item["name"]], "merged_object_ids": []} for item in record.objects]
    return {"image_id": record.image_id, "objects": objects}


def _attributes(record: Record) -> Document:
    pages = []
    for item in record.objects:
        page = {**_placed(item), "names": [item["name"]]}
        words = [item["colour"], f"facing {item['facing']}" if item["facing"] else ""]
        pages.append({**page, "attributes": found} if (found := [word for word in words if word]) else page)
    return {"image_id": record.image_id, "attributes": pages}


def _image_data(record: Record) -> Document:
    size = {"width": record.size, "height": record.size}
    return {
        "image_id": record.image_id,
        "url": f"VG_100K/{record.image_id}.jpg",
        **size,
        "coco_id": None,
        "flickr_id": None,
    }


def _info() -> Document:
    return {"info": {"description": "the scene world of simat", "version": "1.0"}, "licenses": []}


def _coco_image(record: Record) -> Document:
    return {"id": record.image_id, "file_name": f"{record.image_id}.jpg", "width": record.size, "height": record.size}


def _coco_captions(records: Sequence[Record]) -> list[Document]:
    pairs = ((record.image_id, caption) for record in records for caption in record.captions)
    return [{"id": n, "image_id": image_id, "caption": caption} for n, (image_id, caption) in enumerate(pairs, 1)]


def _instances(record: Record) -> Iterable[Document]:
    for item in record.objects:
        x0, y0, x1, y1 = item["box"]
        yield {
            "id": item["object_id"],
            "image_id": record.image_id,
            "category_id": THING_IDS[item["name"]],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": item["area"],
            "iscrowd": 0,
            "segmentation": {"size": [record.size, record.size], "counts": item["rle"]},
        }


def _write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document), encoding="utf-8")


def _write_list(path: Path, documents: Iterable[Document]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for n, document in enumerate(documents):
            file.write("[\n" if n == 0 else ",\n")
            json.dump(document, file)
        file.write("\n]\n")
