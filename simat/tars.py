"""What a tar holds and where, without unpacking it; written for tars of strangers.

Reads ustar, GNU and pax headers (IEEE Std 1003.1-2017, *pax*, "Extended Description"; GNU tar's manual, "Basic Tar
Format"). Only headers are read, each once and no further than the file goes: neither time nor memory can grow with
what a header claims.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from simat.errors import ImageError

BLOCK = 512
COMPRESSED = {  # a tar begins with a name, which may be "BZh.jpg"
    "gzip": re.compile(rb"\x1f\x8b"),
    "bzip2": re.compile(rb"BZh[1-9](1AY&|\x17rE8)"),
    "xz": re.compile(rb"\xfd7zXZ"),
    "zstd": re.compile(rb"\x28\xb5\x2f\xfd"),
}
LONGEST = 2**20  # bytes of a name or of a member's extended header
NOT_A_PICTURE = "a tar is no picture"
NO_END = "the tar has no end mark: it may have been cut short"
GOES_ON = "the tar goes on after its end mark: what follows is not read"
AFTER_END = 2**20  # bytes looked at there
_KINDS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}
_REGULAR = (b"0", b"\0", b"7")


class TarDamageError(ImageError):
    """A header that is none; what came before it is sound."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a tar.

    Attributes:
        start: where its bytes begin, from the beginning of the tar.
        size: their number.
        problem: why they cannot be read, None when they can.
    """

    start: int
    size: int
    problem: str | None = None


@dataclass
class TarTable:
    """The files of a tar by their names, in the order of the tar; of several of one name the last that can be read.

    Attributes:
        members: by name, without ``.`` and empty parts.
        damage: why there may be more, None when the tar is whole.
    """

    members: dict[str, Member] = field(default_factory=dict)
    damage: str | None = None

    @classmethod
    def of(cls, path: Path) -> TarTable:
        """Read the headers of a tar.

        Raises:
            ImageError: it cannot be opened, or is compressed.
        """
        table = cls()
        try:
            with path.open("rb") as file:
                refuse_compressed(file.read(8), path.name)
                for name, member in _walk(file.fileno()):
                    table._add(name, member)
        except TarDamageError as error:
            table.damage = str(error)
        except OSError as error:
            raise ImageError(f"cannot read the tar: {error.strerror}", got=path.name) from error
        return table

    def _add(self, raw: str, member: Member) -> None:
        parts = [part for part in raw.split("/") if part not in {"", "."}]
        if raw.startswith("/"):
            member = Member(0, 0, "an absolute name inside a tar")
        elif ".." in parts or "\0" in raw:
            member = Member(0, 0, "a name inside a tar that leads out of it")
        # It is listed with what is wrong with it, under a name of which no path can be made that leads elsewhere.
        name = "/".join("..." if part == ".." else part for part in parts).replace("\0", "\ufffd")
        if name and (member.problem is None or name not in self.members):
            self.members[name] = member


def refuse_compressed(head: bytes, name: str) -> None:
    """Raise where a file begins as a compressed one.

    Raises:
        ImageError: pictures in it cannot be reached without unpacking all before them.
    """
    for kind, magic in COMPRESSED.items():
        if magic.match(head):
            raise ImageError(
                f"a tar compressed with {kind} cannot be read in place", got=name, remedy="unpack it to a plain .tar"
            )


@dataclass
class _Extended:
    """What the headers before a member say about it."""

    name: str | None = None
    size: int | None = None
    sparse: bool = False


def _walk(file: int) -> Iterator[tuple[str, Member]]:
    """Names and places of the members; directories are left out."""
    whole, place, extended = os.fstat(file).st_size, 0, _Extended()
    while place < whole:
        header = os.pread(file, BLOCK, place)
        if len(header) < BLOCK:
            raise TarDamageError("the tar is cut short inside a header")
        if not any(header):
            if os.pread(file, AFTER_END, place).strip(b"\0"):
                raise TarDamageError(GOES_ON)
            return
        size = _checked_size(header, place)
        start, kind = place + BLOCK, header[156:157]
        if kind in b"xLKg":
            _extend(extended, kind, _content(file, start, size, whole))
            place = start + _padded(size)
            continue
        size = size if extended.size is None else extended.size
        size = 0 if kind in b"123456" else size  # whatever such a header claims, nothing follows it
        if kind == b"S" and header[482]:
            start = _after_sparse_map(file, start)
        name = extended.name if extended.name is not None else _name(header)
        if kind != b"5" and not (kind in b"\0" and name.endswith("/")):
            yield name, _member(kind, start, size, whole, extended.sparse)
        place, extended = start + _padded(size), _Extended()
    raise TarDamageError(NO_END if place == whole else "the tar is cut short inside a file")


def _after_sparse_map(file: int, place: int) -> int:
    """Where the blocks end that go on with the map of a sparse file of old GNU tars."""
    while len(block := os.pread(file, BLOCK, place)) == BLOCK:
        place += BLOCK
        if not block[504]:
            return place
    raise TarDamageError("the tar is cut short inside a header")


def _member(kind: bytes, start: int, size: int, whole: int, sparse: bool) -> Member:
    if sparse or kind not in _REGULAR:
        return Member(start, 0, f"{'a sparse file' if sparse else _KINDS.get(kind, 'a special file')} inside a tar")
    return Member(start, size, "the tar is cut short inside this file" if start + size > whole else None)


def _checked_size(header: bytes, place: int) -> int:
    stored = _number(header[148:156])
    if stored != sum(header[:148]) + 8 * 32 + sum(header[156:]):
        raise TarDamageError("not a tar" if place == 0 else f"the tar is damaged {place:,} bytes from its beginning")
    size = _number(header[124:136])
    if size is None or size < 0:
        raise TarDamageError(f"a file of no possible size, {place:,} bytes from the beginning of the tar")
    return size


def _number(field: bytes) -> int | None:
    """Octal digits, or the bytes of a large number after 0x80 (0xFF: a negative one)."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** (len(field) - 1) if field[0] == 0xFF else 0)
    try:
        return int(field.partition(b"\0")[0].strip() or b"0", 8)
    except ValueError:
        return None


def _name(header: bytes) -> str:
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name)


def _content(file: int, start: int, size: int, whole: int) -> bytes:
    if start + size > whole:
        raise TarDamageError("the tar is cut short inside a header")
    return os.pread(file, min(size, LONGEST), start)


def _extend(extended: _Extended, kind: bytes, content: bytes) -> None:
    if kind == b"L":
        extended.name = _text(content.partition(b"\0")[0])
    if kind == b"x":
        for key, value in _records(content):
            if key == b"path":
                extended.name = _text(value)
            elif key == b"size" and value.isdigit() and len(value) < 20:
                extended.size = int(value)
            extended.sparse |= key.startswith(b"GNU.sparse.")


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """``length key=value\\n`` after one another; ends at the first that is not."""
    place = 0
    while place < len(content):
        digits = content[place : place + 20].partition(b" ")[0]
        if not digits.isdigit() or not place + len(digits) < place + int(digits) <= len(content):
            return
        key, _, value = content[place + len(digits) + 1 : place + int(digits) - 1].partition(b"=")
        yield key, value
        place += int(digits)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
