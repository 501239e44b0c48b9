"""Captions and facts in files beside the pictures: ``0001.txt`` and ``0001.json`` for ``0001.jpg``."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from indexing.items import Item, described, tidy
from simat.errors import ImageError

LARGEST = 2**20  # bytes of such a file


class Sidecars:
    """Reads what lies beside pictures.

    Args:
        read: the bytes of a file by its path, at most ``LARGEST``.

    Attributes:
        bad: how many files could not be read or are none of their kind; their pictures are listed without them.
    """

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read
        self.bad = 0

    def item(self, path: str, beside: Mapping[str, str]) -> Item:
        """The picture ``path`` with what the files beside it (:func:`indexing.items.sidecars`) say."""
        if not beside:
            return Item(path)
        text, document = self._bytes(beside.get(".txt")), self._bytes(beside.get(".json"))
        caption = tidy(text.decode("utf-8", "replace")) if text else None
        caption, facts = described(self._document(document), caption)
        return Item(path, caption, facts)

    def _bytes(self, path: str | None) -> bytes | None:
        try:
            return None if path is None else self._read(path)
        except ImageError as error:
            self.bad += error.what != "the file is empty"
            return None

    def _document(self, data: bytes | None) -> Mapping[str, object]:
        try:
            document = json.loads(data) if data else {}
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict):
            return document
        self.bad += 1
        return {}
