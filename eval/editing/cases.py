"""What a backend is asked to do, and what is known about a right answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool
from PIL import Image

from simat.errors import QueryError
from simat.files import sha256_text
from simat.images import decode, read_bytes
from simat.types import Accepts, Query

Mask = Bool[np.ndarray, "height width"]


@runtime_checkable
class Case(Protocol):
    """One question to every backend.

    Attributes:
        key: names its files; no other case of the run has it.
        kind: of the question; figures are reported by kind.
    """

    @property
    def key(self) -> str:
        """Names its files."""
        ...

    @property
    def kind(self) -> str:
        """Figures are reported by kind."""
        ...

    @property
    def title(self) -> str:
        """A line for people."""
        ...

    def picture(self) -> Image.Image | None:
        """The real picture: what is edited, or what the layout was taken from."""
        ...

    def fields(self) -> Mapping[str, Any]:
        """Everything that a query may be given."""
        ...


@dataclass(frozen=True, eq=False)
class EditCase:
    """Change a picture.

    Attributes:
        key, kind: see :class:`Case`.
        source: the picture, or its file.
        text: what the picture shall show.
        reference: what it shows.
        edits: the words to change, such as ``dog -> cat``; empty where they are unknown.
        facts: what a judge shall see in the answer: ``subject``, ``relation``, ``object``, ``place``.
        changed: the fact that the edit changes; empty where no facts are known.
        mask: the visible pixels of what shall change, where they are known.
        target: number and name of the class that the answer shall show, where there is one.
    """

    key: str
    kind: str
    source: Image.Image | Path = field(repr=False)
    text: str
    reference: str
    edits: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    changed: str = ""
    mask: Mask | None = field(default=None, repr=False)
    target: tuple[int, str] | None = None

    @property
    def title(self) -> str:
        """The edit, and the text it leads to."""
        return f"{self.edits or self.reference}: {self.text}" if self.edits else f"{self.reference} → {self.text}"

    def picture(self) -> Image.Image:
        """The picture to edit, upright and RGB."""
        return _opened(self.source)

    def fields(self) -> Mapping[str, Any]:
        """Image, text, reference, and the words to change where they are known."""
        found = {"image": self.picture(), "text": self.text, "reference": self.reference}
        return found | ({"edits": self.edits} if self.edits else {})


@dataclass(frozen=True, eq=False)
class LayoutCase:
    """Draw a picture whose segments lie where they shall.

    Attributes:
        key, kind: see :class:`Case`; the kind is the protocol.
        text: the prompt; the name of every segment is in it.
        segments: mask of every segment by its name in the prompt.
        classes: name of the segmenter's class for every segment, where it differs from the segment's.
        source: the real picture that the layout was taken from, or its file.
    """

    key: str
    kind: str
    text: str
    segments: Mapping[str, Mask] = field(repr=False)
    classes: Mapping[str, str] = field(default_factory=dict)
    source: Image.Image | Path | None = field(default=None, repr=False)

    @property
    def title(self) -> str:
        """The prompt and the names of the segments."""
        return f"{self.text}  [{', '.join(self.segments)}]"

    def picture(self) -> Image.Image | None:
        """The real picture."""
        return None if self.source is None else _opened(self.source)

    def fields(self) -> Mapping[str, Any]:
        """Text and layout."""
        return {"text": self.text, "layout": {name: mask.astype(np.float32) for name, mask in self.segments.items()}}

    def class_of(self, segment: str) -> str:
        """The segmenter's class of a segment."""
        return self.classes.get(segment, segment)


def query_of(case: Case, accepts: Accepts, seed: int, strength: float | None, reference: bool = True) -> Query:
    """The query that a backend takes: of everything the case knows, what the backend needs or may use.

    A target text and words to change say the same: the text is given where the backend takes it, and the words only
    where they are needed.

    Args:
        accepts: of the backend.
        seed: of the sample.
        strength: left out where None.
        reference: whether to tell what the picture shows.

    Raises:
        QueryError: the backend does not take a strength, or needs what the case does not have.
    """
    fields = {**case.fields(), "seed": seed}
    if strength is not None:
        fields["strength"] = strength
        if "strength" not in accepts.requires | accepts.optional:
            raise QueryError("the backend takes no strength", got=strength)
    if not reference and "reference" not in accepts.requires:
        fields.pop("reference", None)
    if "text" in accepts.requires | accepts.optional and "edits" not in accepts.requires:
        fields.pop("edits", None)
    missing = accepts.requires - set(fields)
    if missing:
        raise QueryError("the backend needs what this corpus does not know", got=", ".join(sorted(missing)))
    return Query(**{name: value for name, value in fields.items() if name in accepts.requires | accepts.optional})


def identity_of(case: Case) -> str:
    """SHA-256 of everything in a case that an answer depends on."""
    picture, fields = case.picture(), case.fields()
    parts = [
        case.key,
        case.kind,
        *(f"{name}={fields[name]}" for name in ("text", "reference", "edits") if name in fields),
    ]
    for name, mask in dict(fields.get("layout", {})).items():
        parts.append(f"{name}:{np.packbits(np.asarray(mask) > 0).tobytes().hex()}")
    if "image" in fields and picture is not None:
        parts.append(f"{picture.size}:{picture.convert('RGB').tobytes().hex()}")
    return sha256_text("\n".join(parts))


def _opened(source: Image.Image | Path) -> Image.Image:
    return source if isinstance(source, Image.Image) else decode(read_bytes(source))
