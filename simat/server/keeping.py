"""Finished jobs on disk: what a server that shuts down leaves to the one that starts next.

One folder per job: ``job.json``, written last, and beside it the pictures as PNG and the arrays as npy that it names.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simat.errors import StorageError
from simat.files import write_text
from simat.types import Answer, Result

VERSION = 1
_FILE = "job.json"


@dataclass(frozen=True)
class Kept:
    """A finished job.

    Attributes:
        id: its name.
        kind: what was asked.
        about: whatever who asked wants to know later, as words.
        finished: when, in seconds since 1970.
        answer: the result.
    """

    id: str
    kind: str
    finished: float
    answer: Answer
    about: Mapping[str, str | None] = field(default_factory=dict)


def save(folder: Path, kept: Kept) -> Path:
    """Write a job to a folder of its own in ``folder``, which only this user may read; gives that folder.

    Raises:
        StorageError: the answer holds something that is neither a picture, nor an array, nor what JSON knows.
    """
    place = folder / kept.id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    place.mkdir(mode=0o700, exist_ok=True)
    try:
        writer = _Writer(place)
        document = {
            "version": VERSION,
            "id": kept.id,
            "kind": kept.kind,
            "about": dict(kept.about),
            "finished": kept.finished,
            "answer": writer.write(_parts(kept.answer)),
        }
        write_text(place / _FILE, json.dumps(document))
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    return place


def load(place: Path) -> Kept:
    """Read what :func:`save` wrote; tuples come back as lists.

    Raises:
        StorageError: it is not whole, or of another version.
    """
    try:
        document = json.loads((place / _FILE).read_text("utf-8"))
        if document["version"] != VERSION:
            raise StorageError("a job of another version", got=document["version"])
        parts = _Reader(place).read(document["answer"])
        results = tuple(Result(**result) for result in parts.pop("results"))
        answer = Answer(results, **parts)
        return Kept(document["id"], document["kind"], document["finished"], answer, document["about"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError("a kept job cannot be read", got=place.name) from error


def _parts(answer: Answer) -> dict[str, Any]:
    names = ("score", "id", "path", "caption", "image")
    results = [{name: getattr(result, name) for name in names} for result in answer.results]
    return {"results": results, "backend": answer.backend, "timings": answer.timings, "extras": answer.extras}


class _Writer:
    """Turns values into JSON; what JSON does not know becomes an object with one key that starts with ``$``."""

    def __init__(self, place: Path) -> None:
        self._place, self._count = place, 0

    def write(self, value: Any) -> Any:
        if value is None or isinstance(value, str | bool | int | float):
            return value
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Path):
            return {"$path": str(value)}
        if isinstance(value, Mapping):
            return {"$map": [[self.write(key), self.write(item)] for key, item in value.items()]}
        if isinstance(value, list | tuple):
            return [self.write(item) for item in value]
        return self._beside(value)

    def _beside(self, value: Any) -> dict[str, str]:
        self._count += 1
        if isinstance(value, Image.Image):
            name = f"{self._count}.png"
            value.save(self._place / name)
            return {"$image": name}
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            name = f"{self._count}.npy"
            np.save(self._place / name, value, allow_pickle=False)
            return {"$array": name}
        raise StorageError("an answer that cannot be kept", got=type(value).__name__)


class _Reader:
    """The inverse."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def read(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.read(item) for item in value]
        if not isinstance(value, dict):
            return value
        ((kind, told),) = value.items()
        if kind == "$map":
            return {self.read(key): self.read(item) for key, item in told}
        return Path(told) if kind == "$path" else self._beside(kind, self._place / Path(told).name)

    def _beside(self, kind: str, file: Path) -> Any:
        if kind == "$array":
            return np.load(file, allow_pickle=False)
        if kind == "$image":
            with Image.open(file, formats=("PNG",)) as image:
                image.load()
                return image.copy()
        raise ValueError(kind)
