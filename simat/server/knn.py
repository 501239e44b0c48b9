"""A request to ``/knn-service`` of the clip-retrieval protocol: whatever its clients send, as plain values.

To its clients "", null and a missing field mean the same, and numbers may be texts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simat.errors import QueryError
from simat.server.problems import BadBody

MOST_RESULTS = 10_000
MOST_TEXT = 2000  # characters
SOUGHT = {"text": "text", "image": "image", "image_url": "image_url", "vector": "embedding_input"}  # ours: theirs
IGNORED = ("use_mclip", "use_safety_model", "use_violence_detector", "aesthetic_score", "aesthetic_weight")
_TEXT = {"type": ["string", "null"]}
_NUMBER = {"type": ["integer", "string", "null"]}
KNN_FIELDS: Mapping[str, Any] = {
    "type": "object",
    "required": ["modality", "num_images"],
    "properties": {
        "text": {**_TEXT, "description": "Words to look for; before an image, an address and a vector."},
        "image": {**_TEXT, "description": "An image file in base64."},
        "image_url": {**_TEXT, "description": "An https address of a host that may be fetched from."},
        "embedding_input": {"type": ["array", "null"], "items": {"type": "number"}},
        "modality": {"type": "string", "enum": ["image"]},
        "num_images": {**_NUMBER, "description": "How many images come with their metadata."},
        "num_result_ids": {**_NUMBER, "description": "How many images; as many as num_images."},
        "indice_name": {**_TEXT, "description": "An index; the first one."},
        "deduplicate": {"type": ["boolean", "null"], "description": "Leave out near duplicates."},
        **{name: {"description": "Taken, and of no effect: there is no such model here."} for name in IGNORED},
    },
    "example": {"text": "a dog on a beach", "modality": "image", "num_images": 4, "indice_name": None},
}
METADATA_FIELDS: Mapping[str, Any] = {
    "type": "object",
    "required": ["ids"],
    "properties": {"ids": {"type": "array", "items": {"type": "integer"}}, "indice_name": _TEXT},
    "example": {"ids": [0, 1], "indice_name": None},
}


@dataclass(frozen=True)
class KnnRequest:
    """What is asked.

    Attributes:
        index: name of an index, None for the first.
        text, image, image_url, vector: what to look for; the first that is given counts, the others are None.
            ``image`` is the base64 of a file.
        results: how many images are wanted.
        told: how many of them come with their metadata.
        deduplicate: whether near duplicates are left out.
    """

    index: str | None
    text: str | None
    image: str | None
    image_url: str | None
    vector: tuple[float, ...] | None
    results: int
    told: int
    deduplicate: bool

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> KnnRequest:
        """Read the fields of a request; those for models that are not here (``IGNORED``) are passed over.

        Raises:
            QueryError: nothing to look for, a field of a wrong kind, or a modality that the index does not hold.
        """
        known = {name: value for name, value in fields.items() if value not in ("", None, [])}
        if known.get("modality", "image") != "image":
            raise QueryError("this index holds images", got=f"modality {known['modality']!r}", remedy="ask for 'image'")
        told = count(known, "num_images")
        sought = dict.fromkeys(SOUGHT) | dict([_sought(known)])
        index = text_of(known, "indice_name")
        results = count(known, "num_result_ids", told)
        return cls(index, **sought, results=results, told=told, deduplicate=bool(known.get("deduplicate")))


def fields_of(body: bytes) -> dict[str, Any]:
    """The JSON object that a body holds, whatever its media type.

    Raises:
        BadBody: it holds none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadBody("the body is no JSON", got=str(error)) from error
    if not isinstance(document, dict):
        raise BadBody("the body is no JSON object", got=type(document).__name__)
    return document


def text_of(fields: Mapping[str, Any], name: str) -> str | None:
    """A text, None where it is missing or empty.

    Raises:
        QueryError: something else.
    """
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise QueryError(f"{name} must be a text", got=type(value).__name__)
    return value or None


def count(fields: Mapping[str, Any], name: str, missing: int | None = None) -> int:
    """A number of images, as a number or a text, at most ``MOST_RESULTS``.

    Raises:
        QueryError: missing, where ``missing`` is None; or not a whole number, or a negative one.
    """
    value = fields.get(name, missing)
    try:
        number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or number < 0:
        raise QueryError(f"{name} must be a number of images", got=_kind(value))
    return min(number, MOST_RESULTS)


def ids_of(fields: Mapping[str, Any]) -> list[int]:
    """The ids that a request to ``/metadata`` names.

    Raises:
        QueryError: not a list of whole numbers, or more than ``MOST_RESULTS``.
    """
    ids = fields.get("ids") or []
    if not isinstance(ids, list) or not all(type(id) is int and 0 <= id < 2**63 for id in ids):
        raise QueryError("ids must be a list of whole numbers", got=_kind(ids))
    if len(ids) > MOST_RESULTS:
        raise QueryError(f"more than {MOST_RESULTS} ids", got=len(ids), remedy="ask for some at a time")
    return ids


def _sought(known: Mapping[str, Any]) -> tuple[str, Any]:
    ours, theirs = next(((ours, theirs) for ours, theirs in SOUGHT.items() if theirs in known), (None, ""))
    if ours is None:
        raise QueryError("nothing to look for", remedy=f"give one of {', '.join(SOUGHT.values())}")
    if ours != "vector":
        text = text_of(known, theirs)
        if ours == "text" and text and len(text) > MOST_TEXT:
            raise QueryError(f"the text is longer than {MOST_TEXT} characters", got=len(text))
        return ours, text
    return ours, _numbers(known[theirs], theirs)


def _numbers(value: Any, name: str) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(type(number) in (int, float) for number in value):
        raise QueryError(f"{name} must be a flat list of numbers", got=_kind(value))
    try:
        return tuple(float(number) for number in value)
    except OverflowError as error:
        raise QueryError(f"{name} holds a number that is too great") from error


def _kind(value: Any) -> str:
    """A text or a number as it is; lists and objects may be of any depth, and are only named."""
    if isinstance(value, list):
        return f"a list of {', '.join(sorted({type(item).__name__ for item in value})) or 'nothing'}"
    return type(value).__name__ if isinstance(value, dict) else repr(value)[:40]
