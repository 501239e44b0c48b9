"""Small synthetic data sets in Visual Genome's own layout, and a slow reader of them to compare with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from corpora import released
from hypothesis import strategies as st

from data.regions import Region
from data.simat.release import read_regions_tsv
from data.simat.vocabulary import RELATIONS, SUBJECTS
from data.visual_genome.aliases import OBJECT_GROUPS, RELATION_GROUPS

WIDTH, HEIGHT = 640, 480
FILES = ("relationships", "objects", "attributes", "image_data")


@dataclass
class Genome:
    """The four files, as Python values."""

    relationships: list[Any] = field(default_factory=list)
    objects: list[Any] = field(default_factory=list)
    attributes: list[Any] = field(default_factory=list)
    image_data: list[Any] = field(default_factory=list)

    def write(self, folder: Path, indent: int | None = None) -> Path:
        """Write the files; any characters go in as escapes."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            (folder / f"{name}.json").write_text(json.dumps(getattr(self, name), indent=indent))
        return folder

    def reordered(self, order: list[int]) -> Genome:
        """The images of every file in another order."""
        return Genome(*([getattr(self, name)[i] for i in order] for name in FILES))


def thing(object_id: int, name: str, box: tuple[Any, Any, Any, Any], old: bool = False) -> dict[str, Any]:
    """An object; ``box`` is x, y, w, h, and ``old`` writes ``name`` where newer files have ``names``."""
    x, y, w, h = box
    return {"object_id": object_id, **({"name": name} if old else {"names": [name]}), "x": x, "y": y, "w": w, "h": h}


def relationship(number: int, subject: dict[str, Any], predicate: Any, obj: dict[str, Any]) -> dict[str, Any]:
    """A relationship."""
    return {"relationship_id": number, "predicate": predicate, "subject": subject, "object": obj, "synsets": []}


def genome(items: Mapping[int, list[Any]], described: Mapping[int, list[str]] | None = None) -> Genome:
    """Files that agree with the relationships of each image."""
    made = Genome()
    for image_id, relationships in items.items():
        things = [r[side] for r in relationships if isinstance(r, dict) for side in ("subject", "object") if side in r]
        texts = [{**t, "attributes": (described or {}).get(t["object_id"], [])} for t in things]
        made.relationships.append({"image_id": image_id, "relationships": relationships})
        made.objects.append({"image_id": image_id, "objects": things})
        made.attributes.append({"image_id": image_id, "attributes": texts})
        made.image_data.append({"image_id": image_id, "width": WIDTH, "height": HEIGHT, "url": "", "coco_id": None})
    return made


def of_one(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A relationship that makes a region; ``subject``, ``object``, ``predicate`` may be changed."""
    return {
        **relationship(
            number,
            thing(10 * number, "cat", (100, 100, 200, 100)),
            "licking",
            thing(10 * number + 1, "spoon", (150, 150, 200, 100)),
        ),
        **changes,
    }


_SUBJECTS = st.sampled_from(("cat", " Cat", "dog"))
_OBJECTS = st.sampled_from(("chair", "LAPTOP", "computer", "cell  phone"))
_ODD_NAMES = st.sampled_from(("spoon", "x" * 300, "a\0b", "é", "\ud800", ""))
_PREDICATES = st.sampled_from(("licking", "Sitting on", "sitting on a", "lying on "))
_ODD_PREDICATES = st.sampled_from(("ON", "near", "", "\0"))
_PLACES, _EDGES = st.sampled_from((0, 3, 100, 110, 300)), st.sampled_from((60, 66, 160, 170.4, 320))
_ODD_NUMBERS = st.sampled_from((0, 0.4, -5, -400, 640, 900))
_ID_CHOICES = st.integers(1, 30)


def _mostly(draw: st.DrawFn, good: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> Any:
    return draw(odd if draw(st.integers(0, 19)) == 13 else good)


def _thing(draw: st.DrawFn, names: st.SearchStrategy[str]) -> dict[str, Any]:
    box = tuple(_mostly(draw, good, _ODD_NUMBERS) for good in (_PLACES, _PLACES, _EDGES, _EDGES))
    made = thing(draw(_ID_CHOICES), _mostly(draw, names, _ODD_NAMES), box, draw(st.booleans()))
    missing = _mostly(draw, st.none(), st.sampled_from(sorted(made)))
    return {key: value for key, value in made.items() if key != missing}


def _items(draw: st.DrawFn, image_id: int) -> list[dict[str, Any]]:
    items = [
        relationship(
            draw(st.integers(1, 60)),
            _thing(draw, _SUBJECTS),
            _mostly(draw, _PREDICATES, _ODD_PREDICATES),
            _thing(draw, _OBJECTS),
        )
        for _ in range(draw(st.integers(0, 8)))
    ]
    if items and draw(st.booleans()):
        first, shift = items[0], draw(st.sampled_from((0, 5, 15)))
        subject = {key: value + shift if key in "wh" else value for key, value in first["subject"].items()}
        items.append({**first, "relationship_id": 60 + image_id, "subject": subject})
    return items


@st.composite
def genomes(draw: st.DrawFn, images: int = 4) -> Genome:
    """Random annotations, good and bad, with ids that repeat and objects and images that are missing."""
    made = Genome()
    for image_id in range(1, draw(st.integers(1, images)) + 1):
        width = _mostly(draw, st.sampled_from((320, WIDTH)), st.just(0))
        listed = [{"object_id": i, "merged_object_ids": [i + 1]} for i in range(image_id, 30, 3) if i != 9]
        texts = [{"object_id": i, "attributes": [f"Big {i % 3}", "red,wet"]} for i in range(image_id, 30, 4)]
        made.relationships.append({"relationships": _items(draw, image_id), "image_id": image_id})
        made.objects.append({"objects": listed, "image_id": image_id})
        made.attributes.append({"attributes": texts, "image_id": image_id})
        made.image_data.append({"image_id": image_id, "width": width, "height": HEIGHT})
    return made


@cache
def released_regions() -> list[Region]:
    """The regions of the release; a test that asks for them skips where it is not at hand."""
    return read_regions_tsv(released() / "simat_db" / "retrieval_db.tsv")


def slow_regions(folder: Path) -> tuple[set[Any], int]:
    """The unmerged regions of a folder by plain loops over files loaded whole, and how many relationships there are."""
    files = {name: json.loads((folder / f"{name}.json").read_text()) for name in FILES}
    known, texts, sizes = set(), {}, {}
    for image in files["objects"]:
        for item in image["objects"]:
            known |= {item["object_id"], *item.get("merged_object_ids", [])}
    for image in files["attributes"]:
        for item in image["attributes"]:
            parts = {" ".join(p.lower().split()) for text in item["attributes"] for p in text.split(",")}
            texts[item["object_id"]] = texts.get(item["object_id"], set()) | parts
    for image in files["image_data"]:
        if image["width"] > 0:
            sizes[image["image_id"]] = image["width"], image["height"]
    best: dict[int, Any] = {}
    count = 0
    for image in files["relationships"]:
        for item in image["relationships"]:
            count += 1
            row = _slow_row(image["image_id"], item)
            if row is not None:
                best[row[1]] = min(best.get(row[1], row), row)
    rows = set()
    for row in best.values():
        image_id, number, subject, relation, obj, subject_id, object_id, *boxes = row
        if {subject_id, object_id} <= known and image_id in sizes:
            clipped = [_slow_clip(box, sizes[image_id]) for box in boxes]
            if all(clipped):
                (a, b, c, d), (e, f, g, h) = clipped
                crop = min(a, e), min(b, f), max(c, g), max(d, h)
                described = [tuple(sorted(texts.get(one, ()))) for one in (subject_id, object_id)]
                rows.add(
                    Region(number, image_id, subject, relation, obj, subject_id, object_id, *clipped, crop, *described)
                )
    return rows, count


def _slow_row(image_id: int, item: dict[str, Any]) -> Any:
    relation = _slow_name(item["predicate"], RELATION_GROUPS)
    words, boxes = [], []
    for side in (item["subject"], item["object"]):
        words.append(_slow_name(side["names"][0] if "names" in side else side.get("name", ""), OBJECT_GROUPS))
        if not {"x", "y", "w", "h", "object_id"} <= side.keys():
            return None
        x, y, w, h = (round(side[key]) for key in "xywh")
        if w <= 0 or h <= 0:
            return None
        boxes.append((x, y, x + w, y + h))
    if relation not in RELATIONS or words[0] not in SUBJECTS or not words[1]:
        return None
    ids = item["subject"]["object_id"], item["object"]["object_id"]
    return image_id, item["relationship_id"], words[0], relation, words[1], *ids, *boxes


def _slow_name(text: str, groups: tuple[tuple[str, ...], ...]) -> str:
    name = " ".join(text.lower().split())
    if len(name) > 100 or not name.isprintable():
        return ""
    return next((group[0] for group in groups if name in group), name)


def _slow_clip(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    xs = [min(max(x, 0), size[0]) for x in box[::2]]
    ys = [min(max(y, 0), size[1]) for y in box[1::2]]
    return (xs[0], ys[0], xs[1], ys[1]) if xs[0] < xs[1] and ys[0] < ys[1] else None
