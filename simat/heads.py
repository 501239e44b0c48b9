"""Adapter heads: small maps after frozen encoders, into a space where delta vectors work (thesis 3.3.3).

A folder of heads holds ``heads.safetensors``, float32 tensors ``image.0.weight`` [outputs, inputs], ``image.0.bias``
[outputs], ``image.1.weight``, … and the same for ``text``; and ``heads.json``: ``format`` "simat/heads", ``version`` 1,
``kind``, ``tau``, ``dim``, the two spaces before the heads, ``fingerprint``, the SHA-256 of the tensors' file, and
``details``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from simat.errors import SpaceMismatchError, StorageError
from simat.files import atomic, remove_leftovers, sha256_file, sha256_text, write_text
from simat.types import EmbeddingSpace
from simat.vectors import unit_rows

TENSORS, DOCUMENT, FORMAT, VERSION = "heads.safetensors", "heads.json", "simat/heads", 1
UNKNOWN = "unknown"
"""Fingerprint of a space before heads that are known to fit an encoder only by its spec."""


@dataclass(frozen=True)
class Layer:
    """x -> weight @ x + bias."""

    weight: Float32[np.ndarray, "outputs inputs"]
    bias: Float32[np.ndarray, " outputs"]


@dataclass(frozen=True)
class Head:
    """Layers, each but the last followed by a ReLU.

    Raises:
        StorageError: no layer, layers that do not fit each other, or a number that is not finite.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        shapes = [layer.weight.shape for layer in self.layers]
        fits = all(a[0] == b[1] for a, b in pairwise(shapes))
        if not shapes or not fits or any(layer.bias.shape != layer.weight.shape[:1] for layer in self.layers):
            raise StorageError("the layers of a head do not fit each other", got=f"weights of shapes {shapes}")
        if not all(np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all() for layer in self.layers):
            raise StorageError("a head has numbers that are not finite")

    @property
    def inputs(self) -> int:
        """Length of a vector before the head."""
        return int(self.layers[0].weight.shape[1])

    @property
    def outputs(self) -> int:
        """Length of a vector after the head."""
        return int(self.layers[-1].weight.shape[0])

    def __call__(self, rows: Float32[np.ndarray, "n inputs"]) -> Float32[np.ndarray, "n outputs"]:
        """The mapped rows, of any length.

        Raises:
            SpaceMismatchError: rows of another dimension than the head takes.
        """
        if rows.shape[1] != self.inputs:
            raise SpaceMismatchError(f"the head takes {self.inputs}-d vectors", got=f"{rows.shape[1]}-d vectors")
        hidden = rows
        for number, layer in enumerate(self.layers):
            hidden = (np.maximum(hidden, 0) if number else hidden) @ layer.weight.T + layer.bias
        return hidden


@dataclass(frozen=True, eq=False)
class Heads:
    """The heads of both sides, and what they were made for.

    Attributes:
        image: after the image encoder.
        text: after the text encoder.
        kind: ``linear`` (one layer) or ``mlp``.
        tau: τ of eq. 3.3, the temperature they were trained at.
        image_space: of the image encoder.
        text_space: of the text encoder.
        details: corpus, curve, versions, settings: whatever JSON holds.

    Raises:
        StorageError: heads that do not fit each other or their spaces, or a τ that is no positive number.
    """

    image: Head
    text: Head
    kind: Literal["linear", "mlp"]
    tau: float
    image_space: EmbeddingSpace
    text_space: EmbeddingSpace
    details: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sides = ((self.image, self.image_space), (self.text, self.text_space))
        if self.image.outputs != self.text.outputs or any(head.inputs != space.dim for head, space in sides):
            got = ", ".join(f"{head.inputs} -> {head.outputs} after {space}" for head, space in sides)
            raise StorageError("the heads do not fit each other and their spaces", got=got)
        if (self.kind == "linear") != (len(self.image.layers) == len(self.text.layers) == 1):
            layers = f"{len(self.image.layers)} and {len(self.text.layers)} layers"
            raise StorageError(f"heads of kind {self.kind!r} have other layers", got=layers)
        if not (math.isfinite(self.tau) and self.tau > 0):
            raise StorageError("τ must be a positive number", got=self.tau)

    @property
    def dim(self) -> int:
        """Length of a vector after the heads."""
        return self.image.outputs

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the names, shapes and numbers of all tensors: what decides the vectors."""
        digest = hashlib.sha256()
        for name, tensor in sorted(tensors(self).items()):
            digest.update(f"{name} {tensor.shape}\n".encode())
            digest.update(np.ascontiguousarray(tensor, "<f4").tobytes())
        return digest.hexdigest()

    def project_images(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n e"]:
        """Unit rows after the image head.

        Args:
            rows: of the image encoder, taken at the length they come with.

        Raises:
            SpaceMismatchError: rows of another dimension.
            QueryError: a row that the head maps to zero, or that is not finite.
        """
        return unit_rows(self.image(rows), "the head's image vector")

    def project_texts(self, rows: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n e"]:
        """Unit rows after the text head; as :meth:`project_images`."""
        return unit_rows(self.text(rows), "the head's text vector")

    def check(self, image_space: EmbeddingSpace, text_space: EmbeddingSpace) -> None:
        """Refuse encoders that the heads were not made for.

        Raises:
            SpaceMismatchError: it names both spaces and the side on which they differ.
        """
        for side, own, other in (("image", self.image_space, image_space), ("text", self.text_space, text_space)):
            if not _same(own, other):
                raise SpaceMismatchError(
                    f"the heads follow the {side} space {own}",
                    got=f"an encoder of {other}",
                    remedy=f"use them with {own.encoder}, or train heads for {other.encoder}",
                )

    def space(self, encoder: str, image_space: EmbeddingSpace, text_space: EmbeddingSpace) -> EmbeddingSpace:
        """The space after the heads of two encoders, under the spec ``encoder``.

        Raises:
            SpaceMismatchError: as :meth:`check`.
        """
        self.check(image_space, text_space)
        first, second = image_space.fingerprint, text_space.fingerprint
        both = first if first == second else sha256_text(f"{first}\n{second}")
        return EmbeddingSpace(encoder, both, self.dim, self.fingerprint)


def tensors(heads: Heads) -> dict[str, Float32[np.ndarray, "*shape"]]:
    """Every tensor by its name in ``heads.safetensors``."""
    return {
        f"{side}.{number}.{part}": getattr(layer, part)
        for side, head in (("image", heads.image), ("text", heads.text))
        for number, layer in enumerate(head.layers)
        for part in ("weight", "bias")
    }


def check_place(folder: Path, beside: Collection[str] = ()) -> None:
    """Refuse to write heads where something else lies.

    Args:
        folder: where heads shall be written.
        beside: names of the caller's own files, which may be there.

    Raises:
        StorageError: heads already, or files of something else.
    """
    if (folder / DOCUMENT).exists():
        raise StorageError("there are heads here already", got=str(folder), remedy="give a new folder, or remove them")
    mine = {TENSORS, *beside}
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    others = [name for name in names if name not in mine and not _leftover(name)]
    if others or (folder.exists() and not folder.is_dir()):
        got = f"{folder} with {', '.join(sorted(others)[:3])}" if others else str(folder)
        raise StorageError("there is something else here already", got=got, remedy="give a new or empty folder")


def save_heads(folder: Path, heads: Heads, beside: Collection[str] = ()) -> None:
    """Write a folder of heads; ``heads.json`` comes last and makes it whole.

    Args:
        folder: new, empty, or holding nothing but files of ``beside``; the same heads may be there already.
        heads: what to write.
        beside: names of the caller's own files, which may be there.

    Raises:
        StorageError: other heads already, or files of something else.
    """
    from safetensors.numpy import save

    if (folder / DOCUMENT).exists() and load_heads(folder).fingerprint == heads.fingerprint:
        return
    check_place(folder, beside)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    with atomic(folder / TENSORS) as temporary:
        temporary.write_bytes(save({name: np.ascontiguousarray(t, "<f4") for name, t in tensors(heads).items()}))
    document = {
        "format": FORMAT,
        "version": VERSION,
        "kind": heads.kind,
        "tau": heads.tau,
        "dim": heads.dim,
        "image_space": asdict(heads.image_space),
        "text_space": asdict(heads.text_space),
        "fingerprint": heads.fingerprint,
        "tensors": {"name": TENSORS, "sha256": sha256_file(folder / TENSORS)},
        "details": dict(heads.details),
    }
    write_text(folder / DOCUMENT, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def load_heads(folder: Path) -> Heads:
    """Read and check a folder of heads.

    Raises:
        StorageError: no heads, half written, altered, damaged, or of a newer version.
    """
    if not (folder / DOCUMENT).is_file():
        raise StorageError("no heads here", got=str(folder), remedy="make them with 'simat finetune train CACHE HEADS'")
    with _damaged(folder):
        document = json.loads((folder / DOCUMENT).read_bytes())
        if document["format"] != FORMAT:
            raise StorageError("not a folder of heads", got=str(folder))
        if not isinstance(document["version"], int) or document["version"] > VERSION:
            raise StorageError("the heads are of a newer version", got=str(folder), remedy="upgrade simat")
        stored = _read_tensors(folder, document["tensors"]["sha256"])
        heads = Heads(
            _head(stored, "image"), _head(stored, "text"), document["kind"], float(document["tau"]),
            EmbeddingSpace(**document["image_space"]), EmbeddingSpace(**document["text_space"]), document["details"],
        )  # fmt: skip
        if heads.fingerprint != document["fingerprint"]:
            raise StorageError("the heads were altered", got=f"another fingerprint than {DOCUMENT} says in {folder}")
        return heads


def _same(own: EmbeddingSpace, other: EmbeddingSpace) -> bool:
    if own.fingerprint == UNKNOWN:
        return (own.encoder, own.dim, own.heads) == (other.encoder, other.dim, other.heads)
    return (own.fingerprint, own.dim, own.heads) == (other.fingerprint, other.dim, other.heads)


def _leftover(name: str) -> bool:
    return name.startswith(".") and name.endswith((".tmp", ".lock"))


def _read_tensors(folder: Path, sha256: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    path = folder / TENSORS
    if not path.is_file() or sha256_file(path) != sha256:
        got = "another SHA-256 than its document's" if path.is_file() else "no such file"
        raise StorageError(f"{TENSORS} was altered", got=f"{got} in {folder}", remedy="train or import the heads again")
    return load_file(path)


def _head(stored: Mapping[str, np.ndarray], side: str) -> Head:
    count = sum(name.startswith(f"{side}.") for name in stored) // 2
    return Head(tuple(Layer(stored[f"{side}.{i}.weight"], stored[f"{side}.{i}.bias"]) for i in range(count)))


@contextmanager
def _damaged(folder: Path) -> Iterator[None]:
    """Whatever a document or a file of another shape makes Python raise means one thing."""
    from safetensors import SafetensorError

    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        remedy = "train or import the heads again"
        raise StorageError("the heads are damaged", got=str(folder), remedy=remedy) from error
