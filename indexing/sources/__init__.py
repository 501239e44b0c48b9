"""Where images come from: folders, tars, Parquet and Arrow files, data sets of Hugging Face, and several of them.

Nothing is unpacked: :mod:`simat.containers` reads pictures where they are.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol, runtime_checkable

from indexing.items import Item
from indexing.sources.folder import Folder
from indexing.sources.hugging_face import PREFIX, arrow_files
from indexing.sources.patterns import expanded
from indexing.sources.rows import Rows
from indexing.sources.webdataset import Tar
from simat.containers import TABLES, TAR
from simat.errors import BuildError

SEPARATOR = "::"
PACKED = (".tgz", ".tbz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tar.lz4", ".zip")


@runtime_checkable
class Source(Protocol):
    """Lists images in an order of its own, the same every time.

    Attributes:
        root: what the paths of its items are relative to.
    """

    root: Path

    @property
    def unread(self) -> int:
        """Files beside images and values of tables that could not be understood, among what was listed so far."""
        ...

    def items(self) -> Iterator[Item]:
        """Every image, with what is known of it."""
        ...


class Several:
    """Sources one after another.

    Attributes:
        root: the folder that all of their roots are in.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self.root = Path(os.path.commonpath([source.root.absolute() for source in sources]))

    def items(self) -> Iterator[Item]:
        """Every image, with what is known of it."""
        for source in self._sources:
            prefix = source.root.absolute().relative_to(self.root)
            for item in source.items():
                yield Item(os.fspath(prefix / item.path), item.caption, item.facts) if prefix.parts else item

    @property
    def unread(self) -> int:
        """Files beside images and values of tables that could not be understood."""
        return sum(source.unread for source in self._sources)


def absolute(words: Sequence[str]) -> str:
    """What a command was given, as one text that means the same in any folder: paths absolute, joined by ``::``."""
    return SEPARATOR.join(_absolute_set(word) if word.startswith(PREFIX) else _absolute(Path(word)) for word in words)


def _absolute_set(word: str) -> str:
    spec = word.removeprefix(PREFIX)
    folder, colon, split = (spec, "", "") if _is_folder(Path(spec)) else spec.partition(":")
    return f"{PREFIX}{_absolute(Path(folder))}{colon}{split}" if folder and _is_folder(Path(folder)) else word


def _absolute(path: Path) -> str:
    """A path without ``..``, which the names of images may not hold; links are followed where they matter to it."""
    whole = path.expanduser().absolute()
    plain = Path(os.path.normpath(whole))
    same = plain == whole or not _exists(str(whole)) or (_exists(str(plain)) and plain.samefile(whole))
    return os.fspath(plain if same else whole.resolve())


def open_source(text: str, image_column: str = "", caption_column: str = "") -> Source:
    """The images of a folder, a tar, a table or a data set, or of several joined by ``::``, each perhaps a pattern.

    What is named twice is listed once, and so is a folder inside another one.

    Args:
        text: ``FOLDER``, ``x.tar``, ``{00000..00012}.tar``, ``x.parquet``, ``x.arrow``, ``hf:FOLDER``
            or ``hf:NAME:SPLIT``.
        image_column: of tables, where it cannot be told from types and names.
        caption_column: of tables, where it is neither ``caption`` nor ``text``.

    Raises:
        BuildError: nothing is there, or it cannot be read.
    """
    words = [text] if _exists(text) else text.split(SEPARATOR)
    paths = list(dict.fromkeys(Path(_absolute(path)) for word in words for path in _paths(word)))
    folders = {path for path in paths if _is_folder(path)}
    sources = [_open(path, image_column, caption_column) for path in paths if not _is_inside(path, folders)]
    if not sources:
        raise BuildError("no files of images", got=text)
    return sources[0] if len(sources) == 1 else Several(sources)


def other_source(source: Source) -> str | None:
    """What to do about a source without images: a folder may have something else that is a source."""
    if not isinstance(source, Folder):
        return None
    folder = source.root
    names = sorted(path.name for path in folder.iterdir())
    if "state.json" in names or "dataset_dict.json" in names:
        return f"a saved data set is read as {PREFIX}{folder}"
    found = next((name for name in names if Path(name).suffix.lower() in (TAR, *TABLES)), None)
    return f"name the files in it: {folder / '*'}{Path(found).suffix}" if found else None


def _paths(word: str) -> Iterator[Path]:
    if word.startswith(PREFIX) and not _exists(word):
        yield from arrow_files(word.removeprefix(PREFIX))
    elif _exists(word):
        yield Path(word)
    else:
        yield from (Path(one).expanduser() for one in expanded(word))


def _is_inside(path: Path, folders: Collection[Path]) -> bool:
    """Whether a folder is listed with another one: what is below that, and not behind a link."""
    if path not in folders:
        return False
    for below, above in pairwise((path, *path.parents)):
        if below.is_symlink():
            return False
        if above in folders:
            return True
    return False


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # longer than any name may be
        return False


def _is_folder(path: Path) -> bool:
    path = path.expanduser()
    return _exists(str(path)) and path.is_dir()


def _open(path: Path, image_column: str, caption_column: str) -> Source:
    if _is_folder(path):
        return Folder(path)
    kind = path.suffix.lower()
    if path.name.lower().endswith(PACKED):
        raise BuildError(
            "compressed archives cannot be read in place", got=str(path), remedy="unpack it to a plain .tar"
        )
    if not _exists(str(path)):
        raise BuildError("no such file" if kind in (TAR, *TABLES) else "no such folder of photos", got=str(path))
    if not path.is_file():  # a pipe would be waited for
        raise BuildError("neither a folder nor a file", got=str(path))
    if kind == TAR:
        return Tar(path)
    if kind in TABLES:
        return Rows(path, image_column, caption_column)
    raise BuildError(
        "no source of images", got=str(path), remedy="give a folder, a .tar, a .parquet or .arrow file, or hf:NAME"
    )
