"""Names that mean the same: Visual Genome's alias files, and the few merges that the SIMAT release shows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from data.corpus import CorpusError

RELATION_FILE, OBJECT_FILE = "relationship_alias.txt", "object_alias.txt"
MAX_NAME = 100  # characters

RELATION_GROUPS: tuple[tuple[str, ...], ...] = (
    ("sitting on a", "sitting on", "sitting on the", "sitting on an", "sitting on top of", "sitting in"),
    ("laying in", "laying on", "laying down in", "laying down on", "lying in", "lying on", "laying against"),
    ("playing with", "playing with a", "playing in", "playing on"),
    ("running in", "running on"),
    ("sleeping on", "sleeping on a"),
    ("swinging", "swinging a"),
    ("touching", "touching a"),
    ("leaning on", "leaning on a"),
    ("eating from", "eating out of"),
)
"""Relations that the release's captions read as one: "laying in" stands for on, in and against, and so on."""

OBJECT_GROUPS: tuple[tuple[str, ...], ...] = (
    ("plane", "airplane"),
    ("computer", "laptop"),
    ("floor", "ground"),
    ("tennis racket", "racket"),
    ("baseball bat", "bat"),
    ("phone", "cell phone"),
)
"""The second name of each pair never occurs in the release, the first does. Couch and sofa, bike and bicycle, rug and
carpet, rock and rocks do side by side: the release did not merge Visual Genome's whole object alias file."""


@lru_cache(maxsize=1 << 16)
def _clean(text: str) -> str:
    return " ".join(text.lower().split())


def clean_name(value: object) -> str | None:
    """A name in lower case with single spaces.

    None for what is no name: no text, empty, longer than ``MAX_NAME``, with NUL, control characters or lone surrogates.
    """
    if not isinstance(value, str) or len(value) > 2 * MAX_NAME:
        return None
    name = _clean(value)
    return name if name and len(name) <= MAX_NAME and name.isprintable() else None


def alias_table(groups: Iterable[Iterable[str]], keep: Collection[str] = ()) -> dict[str, str]:
    """The name that stands for each name of ``groups``; a name outside them stands for itself.

    The first name of a group stands for it, or its first word of ``keep``; a word of ``keep`` always stands for itself.
    A name of several groups belongs to the first: looking up twice gives what looking up once does.
    """
    table = {word: word for word in keep}
    for group in groups:
        names = list(group)
        if names:
            first = next((name for name in names if name in keep), names[0])
            standing = table.setdefault(first, first)
            for name in names:
                table.setdefault(name, standing)
    return table


def read_alias_file(path: Path) -> list[list[str]]:
    """The groups of an alias file: a line each, names between commas, the usual one first. No file, no groups.

    Raises:
        CorpusError: unreadable, or no UTF-8 text.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no UTF-8 text"
        raise CorpusError(f"cannot read {path}: {reason}", remedy="leave the file out to go without it") from error
    groups = [[name for name in map(clean_name, line.split(",")) if name] for line in lines]
    return [group for group in groups if group]


def relation_aliases(folder: Path, keep: Collection[str]) -> Mapping[str, str]:
    """Our own groups, then those of ``relationship_alias.txt`` where the folder has it."""
    return alias_table([*RELATION_GROUPS, *read_alias_file(folder / RELATION_FILE)], keep)


def object_aliases(folder: Path, keep: Collection[str], official: bool) -> Mapping[str, str]:
    """Our own pairs, then, if ``official``, the groups of ``object_alias.txt`` where the folder has it."""
    groups = read_alias_file(folder / OBJECT_FILE) if official else []
    return alias_table([*OBJECT_GROUPS, *groups], keep)
