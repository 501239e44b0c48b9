"""Paths of pictures: absolute in the layout of clip-retrieval, relative to a root in ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from simat.errors import StorageError

if TYPE_CHECKING:
    import pyarrow as pa

_OUTSIDE = r"(^/)|((^|/)\.\.(/|$))"


@dataclass(frozen=True)
class Relative:
    """Makes paths relative to a root.

    Attributes:
        root: folder of the pictures.
        before: what it was where the paths were written, None where that is ``root``.
        folders: further folders, by the first component of the paths that lie in them.
    """

    root: str
    before: str | None = None
    folders: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, paths: pa.Array) -> pa.Array:
        """Paths below the root, without it.

        Raises:
            StorageError: one leads out of it.
        """
        import pyarrow.compute as pc

        for name, folder in self.folders.items():
            paths = _moved(paths, folder, f"{name}/")
        for folder in dict.fromkeys([self.before or self.root, self.root]):
            paths = _moved(paths, folder, "")
        outside = pc.match_substring_regex(paths, _OUTSIDE)
        if pc.any(outside).as_py():
            path = paths.filter(outside)[0].as_py()
            absolute = PurePosixPath(path).is_absolute()
            raise StorageError(
                f"a picture lies outside of {self.root}",
                got=repr(path),
                remedy="name a folder that holds them all with --root" if absolute else "write the path without '..'",
            )
        return paths


def absolute(paths: pa.Array, root: str, folders: Mapping[str, str]) -> pa.Array:
    """The inverse of :class:`Relative`: where the files are."""
    import pyarrow.compute as pc

    found = pc.binary_join_element_wise(_folder(root), paths, "")
    for name, folder in folders.items():
        found = pc.if_else(pc.starts_with(paths, f"{name}/"), _moved(paths, name, _folder(folder)), found)
    return found


def _moved(paths: pa.Array, folder: str, to: str) -> pa.Array:
    """The paths, ``to`` in the place of ``folder`` where they lie in it."""
    import pyarrow.compute as pc

    below = pc.starts_with(paths, _folder(folder))
    rest = pc.utf8_slice_codeunits(paths, start=len(_folder(folder)))
    return pc.if_else(below, pc.binary_join_element_wise(to, rest, ""), paths)


def _folder(path: str) -> str:
    return path.rstrip("/") + "/"
