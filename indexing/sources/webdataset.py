"""Tars of images, as WebDataset keeps them: ``0001.jpg``, ``0001.txt`` and ``0001.json`` are one sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from indexing.items import Item, sidecars
from indexing.sources.sidecars import LARGEST, Sidecars
from simat.containers import read_bytes, tar_table
from simat.errors import BuildError, ImageError
from simat.images import SUFFIXES
from simat.tars import refuse_compressed


class Tar:
    """The images of a tar, in their order there. They are read where they are: nothing is unpacked.

    Members that are links, devices, sparse, or named to lead elsewhere are listed as well, and rejected when they are
    to be read; so is the tar itself, where it is damaged or cut short.

    Args:
        path: of the tar.

    Attributes:
        root: its folder.

    Raises:
        BuildError: it is compressed, or cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.root, self._path = path.parent, path
        self._sidecars = Sidecars(lambda name: read_bytes(path / name, LARGEST))
        try:
            with path.open("rb") as file:
                refuse_compressed(file.read(8), str(path))
        except ImageError as error:
            raise BuildError(error.what, got=error.got, remedy=error.remedy) from error
        except OSError as error:
            raise BuildError(f"cannot read the tar: {error.strerror}", got=str(path)) from error

    def items(self) -> Iterator[Item]:
        """Every image, with the words and facts beside it."""
        table = tar_table(self._path)
        for name in table.members:
            if PurePosixPath(name).suffix.lower() in SUFFIXES:
                beside = sidecars(name, table.members.__contains__)
                item = self._sidecars.item(name, beside)
                yield Item(f"{self._path.name}/{name}", item.caption, item.facts)
        if table.damage is not None:
            yield Item(self._path.name)

    @property
    def unread(self) -> int:
        """Files beside images that could not be understood."""
        return self._sidecars.bad
