"""The records of Visual Genome's files, versions 1.2 and 1.4, each a small streaming reader.

``relationships.json``: ``[{image_id, relationships: [{relationship_id, predicate, subject, object}]}]``, where subject
and object are ``{object_id, name | names, x, y, w, h}``; ``objects.json``: ``[{image_id, objects: [{object_id,
merged_object_ids?}]}]``; ``attributes.json``: ``[{image_id, attributes: [{object_id, attributes?: [text]}]}]``;
``image_data.json``: ``[{image_id, width, height}]``. Whatever else they hold is left alone. Krishna et al. 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from data.corpus import CorpusError
from data.regions import Box
from data.visual_genome.aliases import clean_name
from data.visual_genome.stream import stream_records

RELATIONSHIPS, OBJECTS = "relationships.json", "objects.json"
ATTRIBUTES, IMAGE_DATA = "attributes.json", "image_data.json"

OUTSIDE_VOCABULARY = "outside the vocabulary"
NO_ANNOTATION = "no annotation"
NO_NAME = "name missing or unusable"
NO_ID = "id missing"
NO_BOX = "box missing"
EMPTY_BOX = "box without area"

Listener = Callable[[int], None]


class SkippedError(Exception):
    """An annotation that cannot be used; its text is the reason."""


@dataclass(frozen=True, slots=True, order=True)
class Relationship:
    """A relationship whose words are in the vocabulary, before anything is known of its image.

    Attributes:
        subject_box, object_box: as annotated, perhaps beyond the image.
    """

    image_id: int
    relationship_id: int
    subject: str
    relation: str
    object: str
    subject_id: int
    object_id: int
    subject_box: Box
    object_box: Box


@dataclass(frozen=True)
class Words:
    """Which relationships are wanted, and under which names.

    Attributes:
        subjects, relations: the vocabulary; any object is wanted.
        relation_aliases, object_aliases: the name that stands for a name.
    """

    subjects: Collection[str]
    relations: Collection[str]
    relation_aliases: Mapping[str, str]
    object_aliases: Mapping[str, str]

    def relationship(self, image_id: int, item: Any) -> Relationship:
        """One entry of ``relationships``.

        Raises:
            SkippedError: outside the vocabulary, or unusable.
        """
        if not isinstance(item, dict):
            raise SkippedError(NO_ANNOTATION)
        relation = _standing(_name(item.get("predicate")), self.relation_aliases)
        if relation not in self.relations:
            raise SkippedError(OUTSIDE_VOCABULARY)
        subject, obj = _things(item)
        subject_name = _standing(_thing_name(subject), self.object_aliases)
        if subject_name not in self.subjects:
            raise SkippedError(OUTSIDE_VOCABULARY)
        return Relationship(
            image_id=image_id,
            relationship_id=_id(item, "relationship_id"),
            subject=subject_name,
            relation=relation,
            object=_standing(_thing_name(obj), self.object_aliases),
            subject_id=_id(subject, "object_id"),
            object_id=_id(obj, "object_id"),
            subject_box=_box(subject),
            object_box=_box(obj),
        )


def read_lists(folder: Path, name: str, key: str, listen: Listener | None = None) -> Iterator[tuple[int, list[Any]]]:
    """Image ids and what stands under ``key``, from the file ``name``, one record after another.

    Raises:
        CorpusError: as :func:`stream_records`; or a record without an image id or such a list.
    """
    for number, record in enumerate(stream_records(folder / name, listen), 1):
        image_id, items = record.get("image_id"), record.get(key)
        if not _is_int(image_id) or not isinstance(items, list):
            raise CorpusError(
                f"record {number} of {folder / name} has no image_id, or no list {key!r}",
                got=f"the keys {', '.join(sorted(record))[:200]}",
                remedy=f"give the {name} of Visual Genome 1.2 or 1.4",
            )
        yield image_id, items


def read_sizes(folder: Path, listen: Listener | None = None) -> dict[int, tuple[int, int]]:
    """Width and height, in pixels, of the images in ``image_data.json`` that have both.

    Of an image listed twice the smaller size counts, whatever their order.

    Raises:
        CorpusError: as :func:`stream_records`; or a record without an image id.
    """
    sizes: dict[int, tuple[int, int]] = {}
    for number, record in enumerate(stream_records(folder / IMAGE_DATA, listen), 1):
        image_id, width, height = record.get("image_id"), record.get("width"), record.get("height")
        if not _is_int(image_id):
            raise CorpusError(f"record {number} of {folder / IMAGE_DATA} has no image_id")
        if _is_int(width) and _is_int(height) and min(width, height) > 0:
            sizes[image_id] = min(sizes.get(image_id, (width, height)), (width, height))
    return sizes


def read_known_ids(folder: Path, wanted: Collection[int], listen: Listener | None = None) -> set[int]:
    """Which of the ``wanted`` object ids ``objects.json`` has, under their own id or merged into another object.

    Raises:
        CorpusError: as :func:`read_lists`.
    """
    known: set[int] = set()
    for _, items in read_lists(folder, OBJECTS, "objects", listen):
        for item in items:
            if isinstance(item, dict):
                merged = item.get("merged_object_ids")
                ids = [item.get("object_id"), *(merged if isinstance(merged, list) else ())]
                known.update(one for one in ids if _is_int(one) and one in wanted)
    return known


def read_attributes(
    folder: Path, wanted: Collection[int], listen: Listener | None = None
) -> dict[int, tuple[str, ...]]:
    """The attributes of the ``wanted`` objects in ``attributes.json``, each once, sorted.

    Raises:
        CorpusError: as :func:`read_lists`.
    """
    found: dict[int, set[str]] = {}
    for _, items in read_lists(folder, ATTRIBUTES, "attributes", listen):
        for item in items:
            if isinstance(item, dict) and _is_int(one := item.get("object_id")) and one in wanted:
                found.setdefault(one, set()).update(_texts(item.get("attributes")))
    return {one: tuple(sorted(texts)) for one, texts in found.items()}


def _texts(values: object) -> Iterator[str]:
    if isinstance(values, list):
        # A comma separates attributes where they are written in one column.
        parts = (part for value in values if isinstance(value, str) for part in value.split(","))
        yield from (name for name in map(clean_name, parts) if name)


def _things(item: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    subject, obj = item.get("subject"), item.get("object")
    if not isinstance(subject, dict) or not isinstance(obj, dict):
        raise SkippedError(NO_ANNOTATION)
    return subject, obj


def _thing_name(thing: dict[str, Any]) -> str:
    names = thing.get("names")
    return _name(names[0] if isinstance(names, list) and names else thing.get("name"))


def _name(value: object) -> str:
    name = clean_name(value)
    if name is None:
        raise SkippedError(NO_NAME)
    return name


def _standing(name: str, aliases: Mapping[str, str]) -> str:
    return aliases.get(name, name)


def _id(item: dict[str, Any], key: str) -> int:
    value = item.get(key)
    if not _is_int(value) or not 0 <= value < 2**63:
        raise SkippedError(NO_ID)
    return value


def _box(thing: dict[str, Any]) -> Box:
    x, y, width, height = (_pixels(thing.get(key)) for key in ("x", "y", "w", "h"))
    if width < 1 or height < 1:
        raise SkippedError(EMPTY_BOX)
    return x, y, x + width, y + height


def _pixels(value: object) -> int:
    if not (_is_int(value) or (isinstance(value, float) and math.isfinite(value))):
        raise SkippedError(NO_BOX)
    return round(value)


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
