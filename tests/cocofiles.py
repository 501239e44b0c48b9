"""Small files in the layouts of COCO, Karpathy's splits and BISON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

TEXTS = ("a dog", "a dog runs", "the dog on grass", "one brown dog", "a dog in the park")
Captions = Mapping[int, Sequence[str]]


def coco_name(image_id: int, folder: str) -> str:
    """The file name that COCO gives an image: those of 2014 carry their folder's name."""
    return f"{image_id:012}.jpg" if folder.endswith("2017") else f"COCO_{folder}_{image_id:012}.jpg"


def official(captions: Captions, folder: str = "val2014") -> dict[str, Any]:
    """The content of ``captions_{folder}.json``; the n-th caption of image i has the id 100 i + n."""
    images = [{"id": i, "file_name": coco_name(i, folder), "width": 8, "height": 6, "license": 1} for i in captions]
    annotations = [
        {"id": 100 * i + n, "image_id": i, "caption": text}
        for i, texts in captions.items()
        for n, text in enumerate(texts)
    ]
    return {"info": {"year": 2014, "version": 1.5}, "images": images, "licenses": [], "annotations": annotations}


def karpathy(captions: Captions, splits: Mapping[int, str]) -> dict[str, Any]:
    """The content of ``dataset_coco.json``."""
    images = []
    for number, (image_id, texts) in enumerate(captions.items()):
        folder = "train2014" if splits[image_id] == "train" else "val2014"
        sentences = [
            {"tokens": text.split(), "raw": text, "imgid": number, "sentid": 100 * image_id + n}
            for n, text in enumerate(texts)
        ]
        image = {"filepath": folder, "filename": coco_name(image_id, folder), "imgid": number, "cocoid": image_id}
        images.append({**image, "split": splits[image_id], "sentences": sentences, "sentids": []})
    return {"images": images, "dataset": "coco"}


def save_json(path: Path, document: Any) -> Path:
    """Write a JSON file and the folders it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def save_images(folder: Path, names: Sequence[str], size: tuple[int, int] = (8, 6)) -> Path:
    """Small JPEG images under their names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, (200, 30, 30)).save(folder / name)
    return folder
