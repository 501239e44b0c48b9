"""What a collection says of itself: whose vectors, how many, from where. It travels as a property of the collection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from simat.errors import StorageError
from simat.milvus.connection import Connection
from simat.types import EmbeddingSpace

PROPERTY = "simat"
VERSION = 1


class UnreadableCardError(StorageError):
    """A collection of ours that does not tell what it holds."""


@dataclass(frozen=True)
class Card:
    """The identity of a pushed index.

    Attributes:
        space: of its vectors.
        root: folder that the paths of the images are relative to.
        folders: where images outside ``root`` are, as in :class:`simat.manifest.EmbeddingManifest`.
        rows: images pushed; their ids run from 0, without those that had been removed.
        source: SHA-256 of the manifests that it was pushed from.
        columns: the field and the kind of every column that a filter may name.
        parameters: of a search.
        index: Milvus's type of index, as it was asked for, and the parameters that it is built with.
        heads: folder of the adapter heads of the space, where it has any.
    """

    space: EmbeddingSpace
    root: str
    folders: Mapping[str, str]
    rows: int
    source: str
    columns: Mapping[str, tuple[str, str]]
    parameters: Mapping[str, Any]
    index: Mapping[str, Any] = field(default_factory=dict)
    heads: str = ""

    def properties(self) -> dict[str, str]:
        """As a property of the collection."""
        return {PROPERTY: json.dumps({"version": VERSION, **asdict(self)})}

    @classmethod
    def read(cls, connection: Connection) -> Card | None:
        """The card of a collection, None where there is no such collection.

        Raises:
            UnreadableCardError: a collection pushed by a newer simat, or damaged.
            StorageError: a collection of something else, or no answer.
        """
        properties = connection.properties()
        if properties is None:
            return None
        where = str(connection.address)
        if PROPERTY not in properties:
            raise StorageError("the collection holds no index", got=where, remedy="give another name")
        try:
            document = json.loads(properties[PROPERTY])
            if document.pop("version") > VERSION:
                raise UnreadableCardError(
                    "the collection was pushed by a newer simat", got=where, remedy="upgrade simat"
                )
            columns = {name: (field, kind) for name, (field, kind) in document.pop("columns").items()}
            return cls(space=EmbeddingSpace(**document.pop("space")), columns=columns, **document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UnreadableCardError(
                "what the collection says of itself is damaged", got=where, remedy="push again with --replace"
            ) from error
