"""Delimited text files, read strictly: every line whole, every word one that can be shown."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.corpus import CorpusError

MAX_CHARACTERS = 1000  # of a word or caption: text encoders read some 60 words


def clean_line(text: str, where: str) -> str:
    """A word or caption without the white space around it.

    Args:
        where: what it is, for the error.

    Raises:
        CorpusError: empty, longer than ``MAX_CHARACTERS``, or with characters that cannot be shown, such as NUL.
    """
    text = text.strip()
    if not text:
        raise CorpusError(f"{where} is empty or lacks a word")
    if len(text) > MAX_CHARACTERS:
        raise CorpusError(f"{where} is longer than {MAX_CHARACTERS:,} characters", got=f"{len(text):,}")
    if not text.isprintable():
        raise CorpusError(f"{where} has control characters", got=repr(text[:40]))
    return text


def read_lines(path: Path) -> list[str]:
    """The lines of a whole UTF-8 text file.

    Raises:
        CorpusError: missing, not UTF-8, with NUL bytes, or ending in the middle of a line.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise CorpusError(f"{path.name} is missing", got=str(path.parent)) from error
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path.name} is no UTF-8 text", got=str(path)) from error
    if "\0" in text:
        raise CorpusError(f"{path.name} has NUL bytes", got=str(path), remedy="it is damaged: get it again")
    if not text.endswith("\n"):
        raise CorpusError(f"{path.name} ends in the middle of a line", got=str(path), remedy="get the whole file")
    return text.replace("\r\n", "\n").split("\n")[:-1]


def read_rows(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[tuple[str, list[str]]]:
    """The values of ``columns`` in each row of a delimited file with a header.

    Yields:
        (where the row is, for errors; its values in the order of ``columns``).

    Raises:
        CorpusError: as :func:`read_lines`, or a missing column, or a row with too few or too many fields.
    """
    lines = read_lines(path)
    tabs = delimiter == "\t"  # quotes mean nothing there
    reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines)
    header = next(reader, [])
    missing = [name for name in columns if name not in header]
    if missing:
        raise CorpusError(f"{path.name} lacks the columns {', '.join(missing)}", got=", ".join(header)[:200])
    wanted = [header.index(name) for name in columns]
    for row in reader:
        where = f"line {reader.line_num} of {path.name}"
        if len(row) != len(header):
            raise CorpusError(f"{where} is damaged", got=f"{len(row)} fields instead of {len(header)}")
        yield where, [row[i] for i in wanted]


def whole_number(text: str, where: str) -> int:
    """A whole number that fits 64 bits.

    Raises:
        CorpusError: anything else.
    """
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 18):
        raise CorpusError(f"{where} has no whole number where one belongs", got=repr(text[:40]))
    return int(text)
