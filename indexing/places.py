"""The names that images from several folders have in one index."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

from simat.embeddings import EmbeddingSet


class Places:
    """Gives images of any folder names that lead back to them.

    A folder below the root is named from there; any other gets a first component of its own, such as ``@2``.

    Args:
        root: what the paths of the index are relative to.
        folders: the first components that stand for other folders.

    Attributes:
        folders: as given, and those that were needed since.
    """

    def __init__(self, root: Path, folders: Mapping[str, str] | None = None) -> None:
        self._root, self.folders = root, dict(folders or {})

    @classmethod
    def of(cls, embeddings: EmbeddingSet) -> Places:
        """Those of an embedding set."""
        return cls(embeddings.root, embeddings.manifest.folders)

    def prefix(self, folder: Path) -> str:
        """What to put before the paths relative to ``folder``: nothing, or text that ends with a slash."""
        inside = self.inside(folder)
        if inside is None:
            inside = next(name for name in self._names() if name not in self.folders)
            self.folders[inside] = os.path.normpath(folder.absolute())
        return f"{inside}/" if inside else ""

    def file(self, name: str) -> Path:
        """Where the file of a name is."""
        first, _, rest = name.partition("/")
        return Path(self.folders[first], rest) if first in self.folders else self._root / name

    def name(self, path: str) -> str:
        """The name of an image that is given by a name or by the path of its file."""
        inside = self.inside(Path(path)) if Path(path).is_absolute() else None
        return path if inside is None else inside

    def inside(self, path: Path) -> str | None:
        """The name of what lies in the root or in one of the folders; None where it lies elsewhere."""
        for name, base in [("", self._root), *((name, Path(base)) for name, base in self.folders.items())]:
            inner = relative(path, base)
            if inner is not None and (name or inner.partition("/")[0] not in self.folders):
                return "/".join(part for part in (name, inner) if part)
        return None

    def is_above(self, folder: Path) -> bool:
        """Whether what lies in ``folder`` has names of several kinds, as the root or one of the folders lies in it."""
        known = (self._root, *map(Path, self.folders.values()))
        return any(relative(base, folder) for base in known)

    def _names(self) -> Iterator[str]:
        taken = (f"@{number}" for number in count(2))
        return (name for name in taken if not (self._root / name).exists())


def relative(path: Path, base: Path) -> str | None:
    """The path from ``base`` to what lies in it, without links being followed; None where it lies elsewhere."""
    path, base = (Path(os.path.normpath(one.absolute())) for one in (path, base))
    if not path.is_relative_to(base):
        return None
    inner = str(path.relative_to(base))
    return "" if inner == "." else inner
