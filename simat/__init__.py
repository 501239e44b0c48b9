"""Search images by "this one, but with a cat instead of a dog".

>>> import simat
>>> engine = simat.open("INDEX")
>>> engine.search("a place to pray", k=5)
>>> engine.edit("dog.jpg", "dog -> cat", k=5)
>>> simat.studio().answer(simat.Query(image="dog.jpg", edits="dog -> cat"), "diffedit")
>>> simat.connect("http://localhost:8000").edit("dog.jpg", "dog -> cat")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simat.client import Client, connect
    from simat.edits import Edit, parse_edits
    from simat.encoders import load_encoder
    from simat.engine import Engine
    from simat.engine import open_engine as open
    from simat.errors import SimatError
    from simat.studios import Studio
    from simat.studios import open_studio as studio
    from simat.types import Answer, EmbeddingSpace, Query, Result

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "Client",
    "Edit",
    "EmbeddingSpace",
    "Engine",
    "Query",
    "Result",
    "SimatError",
    "Studio",
    "connect",
    "load_encoder",
    "open",
    "parse_edits",
    "studio",
]

_HOMES = {
    "Answer": ("simat.types", "Answer"),
    "Client": ("simat.client", "Client"),
    "Edit": ("simat.edits", "Edit"),
    "EmbeddingSpace": ("simat.types", "EmbeddingSpace"),
    "Engine": ("simat.engine", "Engine"),
    "Query": ("simat.types", "Query"),
    "Result": ("simat.types", "Result"),
    "SimatError": ("simat.errors", "SimatError"),
    "Studio": ("simat.studios", "Studio"),
    "connect": ("simat.client", "connect"),
    "load_encoder": ("simat.encoders", "load_encoder"),
    "open": ("simat.engine", "open_engine"),
    "parse_edits": ("simat.edits", "parse_edits"),
    "studio": ("simat.studios", "open_studio"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import simat`` costs next to nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'simat' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(import_module(module), attribute)
