"""What a server can do, as a document: its indices, its backends with their settings, its composers."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from simat import plugins
from simat.composers import COMPOSERS, summary
from simat.engine import Engine
from simat.errors import SimatError
from simat.server.service import Service
from simat.studios import makes_pictures
from simat.types import TextEncoder


def index_document(name: str, engine: Engine) -> dict[str, Any]:
    """One index: its size and space, whether it reads words, whether its folder has changed since it was opened."""
    return {
        "name": name,
        "images": len(engine),
        "space": asdict(engine.space),
        "factory": engine.manifest.factory,
        "exact": engine.searcher.exact,
        "words": isinstance(engine.encoder, TextEncoder),
        "changed": engine.changed(),
    }


def abilities(service: Service) -> dict[str, Any]:
    """The backends that may be used, the composers, and the model that makes pictures."""
    return {
        "backends": [backend_document(name) for name in service.backends],
        "composers": [{"name": name, "about": summary(name)} for name in COMPOSERS],
        "model": service.options.model.model,
    }


def backend_document(name: str) -> dict[str, Any]:
    """A backend: what it needs, what it takes besides, and its settings with their defaults."""
    factory = plugins.load(plugins.BACKENDS, name)
    accepts = getattr(factory, "accepts", None)
    return {
        "name": name,
        "makes_pictures": makes_pictures(factory),
        "requires": sorted(accepts.requires) if accepts else [],
        "optional": sorted(accepts.optional) if accepts else [],
        "settings": _defaults(getattr(factory, "Settings", None)),
    }


def _defaults(kind: Any) -> dict[str, Any]:
    if kind is None:
        return {}
    try:
        values = kind()
    except (SimatError, TypeError):  # one without defaults
        return {field.name: None for field in fields(kind)}
    return {field.name: getattr(values, field.name) for field in fields(kind)}
