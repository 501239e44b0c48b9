"""Where a collection of Milvus is: ``milvus://HOST:PORT/COLLECTION`` or ``milvus:FILE.db/COLLECTION``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from simat.errors import StorageError

EXAMPLES = "write milvus://HOST:PORT/COLLECTION or milvus:FILE.db/COLLECTION"
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
# One slash is what is left of two where the address went through a path.
SERVER = re.compile(
    r"(?P<scheme>milvuss?):/{1,2}(?P<host>[^/]+):(?P<port>\d{1,5})/(?:(?P<database>[^/]+)/)?(?P<name>.*)"
)
FILE = re.compile(r"milvus:(?P<file>.+\.db)/(?P<name>[^/]*)")


@dataclass(frozen=True)
class Address:
    """A collection of Milvus.

    Attributes:
        collection: its name.
        file: of Milvus Lite, absolute; None for a server.
        host: of the server.
        port: of the server.
        secure: whether it speaks TLS (``milvuss://``).
        database: of the server.
    """

    collection: str
    file: Path | None = None
    host: str = ""
    port: int = 0
    secure: bool = False
    database: str = "default"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises:
            StorageError: it is none.
        """
        if (found := SERVER.fullmatch(text)) is not None:
            if "@" in found["host"]:
                raise StorageError("an address holds no password", remedy="set SIMAT_MILVUS_TOKEN to user:password")
            database = found["database"] or "default"
            _check(text, found["name"], database)
            if not 0 < int(found["port"]) < 65536:
                raise StorageError("no such port", got=found["port"], remedy=EXAMPLES)
            return cls(found["name"], None, found["host"], int(found["port"]), found["scheme"] == "milvuss", database)
        if (found := FILE.fullmatch(text)) is not None:
            _check(text, found["name"])
            return cls(found["name"], Path(found["file"]).expanduser().absolute())
        raise StorageError("not the address of a collection of Milvus", got=repr(text), remedy=EXAMPLES)

    @property
    def uri(self) -> str:
        """As pymilvus has it."""
        return str(self.file) if self.file else f"http{'s' if self.secure else ''}://{self.host}:{self.port}"

    def __str__(self) -> str:
        if self.file:
            return f"milvus:{self.file}/{self.collection}"
        database = "" if self.database == "default" else f"{self.database}/"
        return f"milvus{'s' if self.secure else ''}://{self.host}:{self.port}/{database}{self.collection}"


def is_address(text: str) -> bool:
    """Whether a text means a collection of Milvus rather than a folder."""
    return text.startswith(("milvus:", "milvuss:"))


def _check(text: str, *names: str) -> None:
    for name in names:
        if NAME.fullmatch(name) is None:
            remedy = "letters, digits and underscores, no digit first" if name else EXAMPLES
            raise StorageError("no name of a collection", got=repr(name or text), remedy=remedy)
