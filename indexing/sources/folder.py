"""A folder of images and all below it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from indexing.items import Item
from indexing.scan import walk_with_sidecars
from indexing.sources.sidecars import LARGEST, Sidecars
from simat.containers import read_bytes


class Folder:
    """The images of a folder; see :func:`indexing.scan.walk` for their order.

    Attributes:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._sidecars = Sidecars(lambda path: read_bytes(root / path, LARGEST))

    def items(self) -> Iterator[Item]:
        """Every image, with the words and facts that lie beside it.

        Raises:
            BuildError: the folder cannot be read.
        """
        for path, beside in walk_with_sidecars(self.root):
            yield self._sidecars.item(path, beside)

    @property
    def unread(self) -> int:
        """Files beside images that could not be understood."""
        return self._sidecars.bad
