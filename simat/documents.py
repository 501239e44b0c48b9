"""An answer as a dictionary: the same on the command line and over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simat.embeddings import split_path
from simat.types import Answer


def as_document(answer: Answer, root: Path | None = None) -> dict[str, Any]:
    """The stable JSON form of an answer: ``backend``, ``results`` (id, score, path, caption), ``timings``.

    Args:
        answer: by any backend.
        root: what the paths are told relative to, of one that is not below only the name; None tells them whole.
    """
    above = "" if root is None else shown(root) + "/"
    results = [
        {"id": r.id, "score": round(r.score, 6), "path": _below(r.path, above), "caption": r.caption}
        for r in answer.results
    ]
    return {"backend": answer.backend, "results": results, "timings": dict(answer.timings)}


def shown(path: Path | None) -> str:
    """A path as one line of valid Unicode."""
    text = "" if path is None else str(path)
    if text.isascii() and text.isprintable():
        return text
    # A line break in a name must not look like another result.
    return split_path(text)[0].replace("\n", "\\n").replace("\r", "\\r")


def _below(path: Path | None, above: str) -> str:
    text = shown(path)
    if not text.startswith(above):
        return shown(None if path is None else Path(path.name))
    return text[len(above) :]
